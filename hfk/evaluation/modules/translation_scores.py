"""Scores of rewritten texts beside their sources: BLEU, chrF, exact match, word errors, and words that must change.

Part of hfk (Apache-2.0); this file needs nothing else of it, but the package `sacrebleu`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import evaluate
from datasets import Features, Value

_ABOUT = __doc__.partition("\n")[0]


def translation_scores(
    sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> dict[str, float]:
    """Score texts that should have become `references`, all in percent.

    Returns:
        `bleu` and `chrf` of the corpus (sacrebleu's defaults); `exact`, texts that are the reference; `wer`, word
        edits for each word of the references; `edits_right`, of the words that a reference has and its source lacks,
        those that the output has there too; `edits_wrong`, of the words that must stay, those that were changed.
    """
    try:
        import sacrebleu
    except ImportError:
        raise ImportError('BLEU and chrF need sacrebleu: pip install "hfk[translation]".') from None
    if not references:
        return {}
    errors = length = new = hit = stay = harmed = 0
    for source, output, reference in zip(sources, predictions, references, strict=True):
        words, made, wanted = source.split(), output.split(), reference.split()
        errors, length = errors + _distance(made, wanted), length + len(wanted)
        fresh, right = _others(wanted, words), set(range(len(wanted))) - _others(wanted, made)
        new, hit = new + len(fresh), hit + len(fresh & right)
        must = _others(words, wanted)
        stay, harmed = stay + len(words) - len(must), harmed + len(_others(words, made) - must)
    return {
        "bleu": sacrebleu.corpus_bleu(list(predictions), [list(references)]).score,
        "chrf": sacrebleu.corpus_chrf(list(predictions), [list(references)]).score,
        "exact": 100 * sum(map(str.__eq__, predictions, references)) / len(references),
        "wer": 100 * errors / max(1, length),
        "edits_right": 100 * hit / max(1, new),
        "edits_wrong": 100 * harmed / max(1, stay),
    }


def _others(words: list[str], kept: list[str]) -> set[int]:
    """Places of `words` that `kept` does not hold in the same order."""
    blocks = SequenceMatcher(None, words, kept, autojunk=False).get_matching_blocks()
    return set(range(len(words))).difference(*(range(block.a, block.a + block.size) for block in blocks))


def _distance(made: list[str], wanted: list[str]) -> int:
    """Words to insert, delete or replace (Levenshtein)."""
    above = list(range(len(wanted) + 1))
    for row, word in enumerate(made, 1):
        line = [row]
        for column, other in enumerate(wanted, 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (word != other)))
        above = line
    return above[-1]


class TranslationScores(evaluate.Metric):
    """BLEU, chrF and scores of the changed words of texts that were rewritten.

    Args:
        predictions: what the texts became.
        references: what they should have become.
        sources: what they were.

    Example:
        >>> scores = TranslationScores().compute(
        ...     predictions=["밥 먹는데 가게"], references=["밥 먹는데 가자"], sources=["밥 먹는디 가게"]
        ... )
        >>> scores["edits_right"], scores["edits_wrong"]
        (50.0, 0.0)
    """

    def _info(self) -> evaluate.MetricInfo:
        features = Features({name: Value("string") for name in ("predictions", "references", "sources")})
        return evaluate.MetricInfo(_ABOUT, citation="", inputs_description=self.__doc__, features=features)

    def _compute(self, predictions: list[str], references: list[str], sources: list[str]) -> dict[str, float]:
        return translation_scores(sources, predictions, references)
