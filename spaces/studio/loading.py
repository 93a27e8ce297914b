"""Which checkpoints the page offers, and loading them: each is ready and warm, or says in one sentence why it is not.

Two predictors share one model: a batch job has its own, so that it holds neither the lock nor the tokenizer that
single questions wait for (a fast tokenizer can't be used by two threads at once).
"""

from __future__ import annotations

import copy
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import RepoCard
from PIL import Image

from hfk import HeadConfig, Predictor
from hfk.inference.table import read_task_file
from hfk.models.decoding import readable

HERE = Path(__file__).resolve().parent
BATCH_ROWS = 16
"""Rows a forward pass of a batch job: small, so that a single question never waits long for a core."""
BATCH_WINDOW = 64
"""Rows between two steps of the progress bar."""
MOST_PATHS = 10
FIRST = ("headlines", "tourism", "clothes", "comments")
"""Of the checkpoints that come along, those that learned what they are for, in this order; then the demonstrations."""


@dataclass
class Checkpoint:
    """A checkpoint as the page knows it.

    Args:
        name: what it is called on the page, and by the API.
        source: folder or Hub id.
        revision: commit of a Hub checkpoint.
        error: why it can't be used; empty when it can.
    """

    name: str
    source: str
    revision: str | None = None
    error: str = ""
    predictor: Predictor | None = None
    batch_predictor: Predictor | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    batch_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path | None:
        """Its folder; None for a Hub checkpoint."""
        return Path(self.source) if Path(self.source).is_dir() else None

    @property
    def heads(self) -> list[HeadConfig]:
        """Its heads, coarse to fine."""
        return self.predictor.model.config.heads

    @property
    def reads_text(self) -> bool:
        """Whether it reads text."""
        return self.predictor.processor.tokenizer is not None

    @property
    def reads_image(self) -> bool:
        """Whether it looks at pictures."""
        return self.predictor.processor.image_processor is not None

    @property
    def task(self) -> str | None:
        """Name of the built-in task that it learned, if it is one."""
        return self.columns.get("task")

    def load(self) -> None:
        """Load, and answer one question for practice; whatever goes wrong becomes `error`."""
        try:
            self.predictor = Predictor.from_pretrained(self.source, revision=self.revision)
            self.columns = read_task_file(self.source, self.revision)
            model, processor = self.predictor.model, copy.deepcopy(self.predictor.processor)
            self.batch_predictor = Predictor(model, processor, BATCH_ROWS, BATCH_WINDOW)
            practice = {"text": "가", "image": Image.new("RGB", (64, 64), "gray")}
            for _ in range(2):
                answer, *_ = self.answer(practice["text"], practice["image"])
            if "error" in answer and isinstance(answer["error"], str):
                raise ValueError(answer["error"])
        except Exception as error:  # the page must come up whatever one checkpoint is like
            self.predictor = self.batch_predictor = None
            sentence = " ".join(str(error).split()) or type(error).__name__
            if self.folder is not None:  # a visitor need not know where the folder lies
                sentence = sentence.replace(str(self.folder), self.name)
            self.error = sentence

    def answer(
        self, text: str | None, image: Image.Image | None
    ) -> tuple[dict[str, Any], dict[str, float], float, float]:
        """Classify one row.

        Args:
            text: the text, or None.
            image: a decoded picture, or None.

        Returns:
            what `Predictor` yields, with every label of every head and whole paths; each single-label head's energy,
            see `about`; the seconds that it took, waiting included; and the share of the text that was read.
        """
        started = time.perf_counter()
        with self.lock:
            (output,) = self.predictor.outputs([{"text": text, "image": image}])
            if output.error is not None:
                return {"error": output.error}, {}, time.perf_counter() - started, 1.0
            logits = {name: torch.from_numpy(values)[None] for name, values in output.logits.items()}
            paths = MOST_PATHS if any(head.parent for head in self.heads) else None
            (result,) = readable(logits, self.heads, max(head.num_outputs for head in self.heads), paths=paths)
            energies = {h.name: float(logits[h.name].logsumexp(-1)) for h in self.heads if h.problem == "single_label"}
            return result, energies, time.perf_counter() - started, self._read_share(text)

    def _read_share(self, text: str | None) -> float:
        """The share of a text's pieces that the model reads; 1 where all of them are."""
        processor = getattr(self.predictor.processor, "processors", [self.predictor.processor])[0]
        clean = processor.clean(text) if text and processor.tokenizer is not None else None
        if (
            clean is None or len(processor.text_prefix + clean) <= processor.max_length
        ):  # a piece is no less than a letter
            return 1.0
        pieces = len(processor.tokenizer(processor.text_prefix + clean, truncation=False)["input_ids"])
        return min(1.0, processor.max_length / pieces)


def preloaded(readme: str) -> list[str]:
    """The checkpoints that a Space's front matter has the Hub fetch, which `hfk space push --checkpoint` writes.

    Args:
        readme: the README's text.

    Returns:
        `owner/name@commit` of each line of `preload_from_hub`, which is `owner/name files commit`.
    """
    lines = getattr(RepoCard(readme).data, "preload_from_hub", None) or []
    words = [line.split() for line in lines]
    return [f"{line[0]}@{line[2]}" if len(line) > 2 else line[0] for line in words if line]


def find_checkpoints() -> list[Checkpoint]:
    """List what to offer: `HFK_CHECKPOINTS` (folders or Hub ids, `@revision` after an id, separated by commas), else
    what the front matter preloads, else the finished runs in `runs/`; behind them the small ones that come along.

    Returns:
        checkpoints, not loaded, of different names and folders.
    """
    named = os.environ.get("HFK_CHECKPOINTS", "").replace("\n", ",")
    sources = [word.strip() for word in named.split(",") if word.strip()]
    if not sources:
        sources = preloaded((HERE / "README.md").read_text(encoding="utf-8"))
    if not sources:
        sources = [str(path.parent) for path in sorted(Path("runs").glob("*/config.json"))]
    along = [path.parent for path in (HERE / "checkpoints").glob("*/config.json")]
    order = {name: place for place, name in enumerate(FIRST)}
    sources += map(str, sorted(along, key=lambda folder: (order.get(folder.name, len(order)), folder.name)))
    found: dict[str, Checkpoint] = {}
    folders: set[Path] = set()
    for source in sources:
        if Path(source).is_dir():
            folder, revision = Path(source).resolve(), None
            if folder in folders:
                continue
            folders.add(folder)
            name = folder.name
        else:
            source, _, revision = source.partition("@")
            name = source
        while name in found:
            name += "'"
        found[name] = Checkpoint(name, source, revision or None)
    return list(found.values())


def load_checkpoints() -> dict[str, Checkpoint]:
    """Find and load all checkpoints; name → checkpoint, those that can't be used included."""
    checkpoints = find_checkpoints()
    for checkpoint in checkpoints:
        checkpoint.load()
        print(f"  {checkpoint.name}: {checkpoint.error or 'ready'}", flush=True)
    return {checkpoint.name: checkpoint for checkpoint in checkpoints}
