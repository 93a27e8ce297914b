"""How a stock seq2seq model rewrites dialect: a text becomes prompts, and their answers a text again.

A prompt opens with the tag of what to write, `<jeju>` or `<standard>`. It holds the whole text, or a few of its words
with one neighbor on either side, since a small model learns short inputs from few pairs (Kuparinen et al., Findings of
EMNLP 2023). Whatever the model can't have read, or what it lost numbers, Latin letters or its measure over, is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

EDGE = "|"
"""After the words that are to be rewritten, and between their neighbors."""
_KEPT = re.compile(r"[^\W_ㄱ-ㆎ가-힣\u1100-\u11ff]|\d")
_LONGER = 8  # tokens by which an answer may exceed one and a half times what is rewritten


def tag_of(region: str) -> str:
    """The token that asks for a region, or for the standard language."""
    return f"<{region}>"


def cut(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the pieces of a text of so many words begin and end; `size` 0 is one piece."""
    size = size or max(1, length)
    return ((start, min(start + size, length)) for start in range(0, length, size))


def prompt_of(words: Sequence[str], start: int, end: int, to: str) -> str:
    """What the model is given for some words of a text.

    Example:
        >>> prompt_of(["집이", "가게", "마씸"], 1, 2, "standard")
        '<standard>가게|마씸|집이'
    """
    piece = " ".join(words[start:end])
    if (start, end) == (0, len(words)):
        return tag_of(to) + piece
    # The neighbors come last, so that every letter of the piece stands where its answer's does: that is soon learned.
    return tag_of(to) + EDGE.join([piece, "".join(words[end : end + 1]), "".join(words[max(0, start - 1) : start])])


def pieces(words: Sequence[str], meant: Sequence[str], size: int) -> Iterator[tuple[int, int, list[str]]]:
    """Cut a pair where both sides have a word's end: first word, last + 1, what became of them; `size` 0 is one piece.

    Example:
        >>> list(pieces("집에 가는 겨 오늘".split(), "집에 가는 거야 오늘".split(), 2))
        [(0, 2, ['집에', '가는']), (2, 4, ['거야', '오늘'])]
    """
    start, low, last_piece = 0, 0, None
    for kind, first, last, lower, upper in SequenceMatcher(None, words, meant, autojunk=False).get_opcodes():
        steps = range(1, last - first + 1) if kind == "equal" or last - first == upper - lower else [last - first]
        for step in steps:
            end, high = first + step, upper if step == last - first else lower + step
            if size and end - start >= size and high > low:
                if last_piece:
                    yield last_piece
                last_piece, start, low = (start, end, list(meant[low:high])), end, high
    if start < len(words) and low < len(meant):
        if last_piece:
            yield last_piece
        yield start, len(words), list(meant[low:])
    elif last_piece:  # which gets what one side has left
        yield last_piece[0], len(words), last_piece[2] + list(meant[low:])


class Seq2SeqRewriter:
    """A trained seq2seq and its tokenizer, asked for texts.

    Args:
        model: whose configuration says under `dialect` how many `words` a prompt holds and which `regions` there are.
        tokenizer: its tokenizer.
        batch_size: prompts a forward pass.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 128) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.words: int = model.config.dialect["words"]
        self.regions: list[str] = model.config.dialect["regions"]
        self.positions: int = getattr(model.config, "max_position_embeddings", None) or 512

    def __call__(self, texts: Sequence[str], to: Sequence[str]) -> list[str]:
        """Rewrite texts, each into the region that `to` says for it."""
        asked = []
        for text, region in zip(texts, to, strict=True):
            words = text.split()
            parts = cut(len(words), self.words)
            asked.append([(prompt_of(words, start, end, region), " ".join(words[start:end])) for start, end in parts])
        said = self.answers({prompt: piece for parts in asked for prompt, piece in parts})
        return [" ".join(said.get(prompt, piece) for prompt, piece in parts) for parts in asked]

    @torch.inference_mode()
    def chances(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """The logarithm of the probability of answers: (prompt, answer) → number."""
        pairs, found = sorted(pairs, key=lambda pair: len(pair[0])), {}
        for first in range(0, len(pairs), self.batch_size):
            some = pairs[first : first + self.batch_size]
            given, answers = (
                self.tokenizer(list(side), return_tensors="pt", padding=True).to(self.model.device)
                for side in zip(*some, strict=True)
            )
            labels, counts = answers["input_ids"], answers["attention_mask"]
            logits = self.model(given["input_ids"], given["attention_mask"], labels=labels).logits.log_softmax(-1)
            total = (logits.gather(-1, labels[..., None])[..., 0] * counts).sum(1)
            found |= dict(zip(some, total.tolist(), strict=True))
        return found

    @torch.inference_mode()
    def answers(self, asked: Mapping[str, str]) -> dict[str, str]:
        """What the model says to prompts, each for a piece of a text; without those that it can't read."""
        prompts = list(asked)
        ids = dict(zip(prompts, self.tokenizer(prompts, verbose=False)["input_ids"], strict=True)) if prompts else {}
        unknown = self.tokenizer.unk_token_id
        read = [one for one in prompts if unknown not in ids[one] and len(ids[one]) <= self.positions]
        read.sort(key=lambda one: len(ids[one]))
        answers = {}
        self.model.eval()
        for first in range(0, len(read), self.batch_size):
            some = read[first : first + self.batch_size]
            batch = self.tokenizer.pad({"input_ids": [ids[one] for one in some]}, return_tensors="pt")
            room = min(self.positions - 1, int(1.5 * batch["input_ids"].shape[1]) + _LONGER)
            made = self.model.generate(**batch.to(self.model.device), max_new_tokens=room, do_sample=False)
            texts = self.tokenizer.batch_decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            answers |= {one: _checked(asked[one], text) for one, text in zip(some, texts, strict=True)}
        return answers


def _checked(piece: str, answer: str) -> str:
    """An answer, or the piece itself where it can't be one."""
    answer = " ".join(answer.split())
    fits = abs(len(answer) - len(piece)) <= _LONGER + len(piece) // 2
    return answer if answer and fits and _KEPT.findall(answer) == _KEPT.findall(piece) else piece
