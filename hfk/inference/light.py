"""`LightPredictor`: an exported text checkpoint answers without torch and transformers, a second after the start.

It needs ONNX Runtime (or OpenVINO), tokenizers and NumPy. Texts are prepared by the very modules that travel with a
checkpoint. Pictures, and ensembles whose members read differently, need `Predictor`, which runs the same graph.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .graph import SMALL, Graph
from .loop import run


def _alone(name: str) -> ModuleType:
    """A module of `hfk.models` without the package around it, which would import transformers and torch."""
    package = "hfk_models_alone"
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(Path(__file__).parents[1] / "models")]
    return importlib.import_module(f"{package}.{name}")


class _Texts(_alone("text_preparation").TextPreparation):
    """Prepares texts as the checkpoint's processor does, by what the export has written down of it."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.tokenizer, self.padding = Tokenizer.from_file(str(folder / "tokenizer.json")), options["padding"]
        for name in ("max_length", "text_prefix", "text_separator", "truncation"):
            setattr(self, name, options[name])
        if options["text_cleaning"]:
            self.cleaner = _alone("text_cleaning").TextCleaner(options["text_cleaning"])

    @property
    def backend(self) -> Tokenizer:
        return self.tokenizer

    def _cut_and_fill(self) -> None:
        self.tokenizer.enable_truncation(self.max_length, direction="left" if self.truncation == "tail" else "right")
        self.tokenizer.enable_padding(**self.padding)


class LightPredictor:
    """Classify texts by an exported checkpoint.

    Args:
        folder: what `hfk export --as onnx` or `--as openvino` made of a checkpoint that reads texts alone.
        backend: `onnx` or `openvino`.
        threads: how many a batch may take; see `choose_threads`.
        batch_size: texts a batch; by default 512 for a small model and 32 for others.
        window: texts that are read and sorted by length together.

    Raises:
        ValueError: if the folder holds no graph, or one of a checkpoint that reads more than texts.

    Example:
        >>> predictor = LightPredictor("runs/topic-onnx")  # doctest: +SKIP
        >>> list(predictor(["코스피 사상 최고"]))  # doctest: +SKIP
        [{'topic': [{'label': '경제', 'score': 0.96}]}]
    """

    def __init__(
        self,
        folder: str | Path,
        backend: str = "onnx",
        threads: int | None = None,
        batch_size: int | None = None,
        window: int = 2048,
    ) -> None:
        self.graph = Graph(folder, backend, threads)
        about = self.graph.about
        if about["text"] is None:
            raise ValueError(f"{folder} reads more than one text: answer from it by hfk.Predictor, which needs torch.")
        self.heads, self.names = about["heads"], about["text"]["names"]
        self.texts = _Texts(self.graph.folder, about["text"])
        self.batch_size = batch_size or (512 if about["multiplications"] < SMALL else 32)
        self.window = window

    def __call__(self, rows: Iterable[Any], top_k: int | None = None) -> Iterator[dict[str, Any]]:
        """Classify texts, each a str or a dict with `text`; answers are those of `Predictor`, in order.

        With `top_k`, so many labels of each head are listed.
        """

        def answer(texts: list[tuple[str]]) -> Iterator[dict[str, Any]]:
            prefix, shorten = self.texts.text_prefix, self.texts.shorten
            found = self.graph(self.texts.encode([prefix + shorten(text) for (text,) in texts], self.names))
            columns = [self._read(head, found, top_k) for head in self.heads]
            for row in zip(*columns, strict=True):
                yield {head["name"]: said for head, said in zip(self.heads, row, strict=True)}

        rows = [rows] if isinstance(rows, str | dict) else rows
        return run(rows, self._prepare, answer, lambda reason: {"error": reason}, self.batch_size, self.window)

    def _prepare(self, row: Any) -> tuple[str] | str:
        """The clean text, in a tuple; a str that says why there is none."""
        text = row.get("text") if isinstance(row, dict) else row
        try:
            clean = self.texts.clean(text)
        except ValueError as error:
            return str(error)
        if clean is not None:
            return (clean,)
        if self.texts.cleaner is not None and isinstance(text, str) and text.strip():
            return f"text_cleaning leaves nothing of the text {text.strip()[:40]!r}."
        return "there is no text to classify."

    @staticmethod
    def _read(head: dict[str, Any], found: dict[str, Any], top_k: int | None) -> list[Any]:
        """What a person gets to read of one head, a batch of rows."""
        probs, chosen = found["probabilities"][head["name"]], found["chosen"][head["name"]]
        if not head["labels"]:
            return probs.tolist()
        ranking = probs.copy()
        if chosen.ndim == 1:  # the label that agrees with the others' comes first, whatever its own probability
            np.put_along_axis(ranking, chosen[:, None], 2.0, axis=1)
            most = top_k or 1
        else:
            most = top_k or len(head["labels"])
            probs = probs if top_k else np.where(chosen, probs, -1.0)
        order = np.argsort(-ranking, axis=1, kind="stable")[:, :most]
        scores = np.take_along_axis(probs, order, axis=1)
        return [
            [{"label": head["labels"][index], "score": score} for index, score in zip(*row, strict=True) if score >= 0]
            for row in zip(order.tolist(), scores.tolist(), strict=True)
        ]
