"""Rules that translate dialect, on real rows: BLEU, chrF, exact match, and how many changed words are changed right.

python benchmarks/dialect_translation.py ../shared/data/dialect/blessingdev_chungcheong_sentences.tsv
python benchmarks/dialect_translation.py ../shared/data/dialect/jipyeong_mixed_sentences.tsv --samples 20

A tenth of the pairs, by a hash of both sides, is scored and seen by nothing else. Needs sacrebleu.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from difflib import SequenceMatcher
from pathlib import Path

import sacrebleu

from hfk.inference.translator import DialectTranslator
from hfk.tasks.dialect import STANDARD, read_pairs


def changed(words: list[str], other: list[str]) -> set[int]:
    """Places of `words` that `other` does not keep."""
    kept = {
        block.a + step
        for block in SequenceMatcher(None, words, other, autojunk=False).get_matching_blocks()
        for step in range(block.size)
    }
    return set(range(len(words))) - kept


def measure(sources: list[str], made: list[str], meant: list[str]) -> dict[str, float]:
    """Scores in percent. Edit recall: of the words that must change, those that are gone from a place where what the
    reference has stands; edit harm: of the words that must stay, those that were changed."""
    must = right = stay = harm = 0
    for source, output, reference in zip(sources, made, meant, strict=True):
        words, produced, wanted = source.split(), output.split(), reference.split()
        needed, done = changed(words, wanted), changed(words, produced)
        must, stay = must + len(needed), stay + len(words) - len(needed)
        harm += len(done - needed)
        wrong = changed(wanted, produced)
        right += max(0, len(changed(wanted, words)) - len(wrong & changed(wanted, words)))
    must = max(1, sum(len(changed(r.split(), s.split())) for r, s in zip(meant, sources, strict=True)))
    return {
        "BLEU": sacrebleu.corpus_bleu(made, [meant]).score,
        "chrF": sacrebleu.corpus_chrf(made, [meant]).score,
        "exact": 100 * sum(map(str.__eq__, made, meant)) / len(meant),
        "changed right": 100 * right / must,
        "wrongly changed": 100 * harm / max(1, stay),
    }


def part_of(text: str) -> str:
    """Which part a pair is in: a tenth is scored, another one may choose."""
    digit = hashlib.blake2b(text.encode(), digest_size=4).digest()[0] % 10
    return {0: "scored", 1: "chosen by"}.get(digit, "learned from")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--choose", action="store_true", help="score the tenth that chooses, for several trusts")
    parser.add_argument("--samples", type=int, default=0)
    arguments = parser.parse_args()
    parts: dict[str, list] = {"scored": [], "chosen by": [], "learned from": []}
    for pair in read_pairs(arguments.table):
        if pair.standard:
            parts[part_of(f"{pair.dialect}\t{pair.standard}")].append(pair)
    scored = parts["chosen by" if arguments.choose else "scored"]
    learned = parts["learned from"] if arguments.choose else parts["learned from"] + parts["chosen by"]
    region = learned[0].region
    print(f"{arguments.table.name}: {len(learned)} pairs, {len(scored)} scored")
    start = time.perf_counter()
    rules = DialectTranslator.learn(learned)
    print(f"learned in {time.perf_counter() - start:.1f} s")
    for to, sides in ((STANDARD, ("dialect", "standard")), (region, ("standard", "dialect"))):
        sources, meant = ([getattr(pair, side) for pair in scored] for side in sides)
        made = {"copy": sources}
        direction = rules.rules[region][to != STANDARD]
        for trust in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0) if arguments.choose else (direction.trust,):
            direction.trust = trust
            start = time.perf_counter()
            found = [one["text"] for one in rules(sources, to, region if to == STANDARD else STANDARD)]
            made[f"rules, trust {trust}, {len(sources) / (time.perf_counter() - start):,.0f}/s"] = found
        for name, outputs in made.items():
            scores = measure(sources, outputs, meant)
            print(f"to {to:18}{name:32}", *(f"{key} {value:.1f}" for key, value in scores.items()), flush=True)
        for place in random.Random(0).sample(range(len(scored)), arguments.samples):
            print(f"- {sources[place]} → {found[place]} ({meant[place]})")


if __name__ == "__main__":
    main()
