"""`CharacterTokens`: a tokenizer of single characters as one table for a whole batch, an eighth of the backend's time.

It is asked once for every character that comes, so the table says what the backend says. What depends on more than one
character is left to the backend: special tokens spelled out in a text, and letters that compose with their neighbors.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

_NEW, _OTHER = -1, -2


class CharacterTokens:
    """Encodes texts as `backend` does, if it makes one token of each character.

    Args:
        backend: any tokenizer, set to cut and fill up as is wanted at the time of a call.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self.table: np.ndarray | None = None
        if not _is_of_characters(backend):
            return
        self.special = [token.content for token in backend.get_added_tokens_decoder().values()]
        self.table = np.full(sys.maxunicode + 1, _NEW, np.int32)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """Encode a batch: int64 ids and mask, `(batch, longest)`; None where the backend has to do it itself."""
        cutting, filling = self.backend.truncation, self.backend.padding
        if self.table is None or cutting is None or filling is None or filling["pad_to_multiple_of"]:
            return None
        joined = "".join(texts)
        if not unicodedata.is_normalized("NFC", joined) or any(token in joined for token in self.special):
            return None
        try:
            points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        except UnicodeEncodeError:
            return None
        found = self.table[points]
        if (found < 0).any():
            self._learn(np.unique(points[found == _NEW]))
            found = self.table[points]
            if (found < 0).any():
                return None
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        starts, kept = lengths.cumsum() - lengths, np.minimum(lengths, cutting["max_length"])
        if cutting["direction"] == "left":
            starts += lengths - kept
        columns = np.arange(kept.max())
        mask = columns < kept[:, None]
        if (kept < lengths).any():
            found = found[(starts[:, None] + columns)[mask]]
        if filling["direction"] == "left":
            mask = mask[:, ::-1]
        ids = np.full(mask.shape, filling["pad_id"], np.int64)
        ids[mask] = found
        return ids, mask.astype(np.int64)

    def _learn(self, points: np.ndarray) -> None:
        for point in points.tolist():
            ids = self.backend.encode(chr(point), add_special_tokens=False).ids
            # What this Python knows no letter at may be one that composes, by the backend's newer Unicode.
            alone = len(ids) == 1 and unicodedata.category(chr(point)) != "Cn"
            self.table[point] = ids[0] if alone else _OTHER


def _is_of_characters(backend: Tokenizer) -> bool:
    """Whether tokens depend on single characters alone: pairs without merges, letters changed one by one."""
    if type(backend.model).__name__ != "BPE":
        return False
    parts = json.loads(backend.to_str())
    model, normalizer, after = parts["model"], parts["normalizer"], parts["post_processor"]
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer]
    whole = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
    return (
        not any(model[name] for name in (*whole, "ignore_merges", "merges"))
        and model["unk_token"] is not None
        and parts["pre_tokenizer"] is None
        and all(step is None or step["type"] in ("NFC", "Lowercase") for step in steps)
        and (after is None or (after["type"] == "TemplateProcessing" and not after["special_tokens"]))
        and not any(token["normalized"] for token in parts["added_tokens"])
    )
