"""`Graph`: an exported checkpoint as ONNX Runtime or OpenVINO runs it; neither torch nor transformers is imported.

One graph holds encoders, fusion, all heads, their temperatures, and the choice of labels that agree with a hierarchy.
`graph.json` beside it says what goes in and comes out, how texts are prepared, and which heads there are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

GRAPH_FILE = "graph.json"
MODELS = {"onnx": "model.onnx", "openvino": "model.xml"}
"""Backend → the file that it runs; OpenVINO takes an ONNX file too."""
SMALL = 1_000_000
"""Multiplications a token: below, a second thread costs more than it brings, and beside other work far more."""

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


class Graph:
    """An exported checkpoint, ready to run.

    Args:
        folder: what `hfk export --as onnx` or `--as openvino` made.
        backend: `onnx` or `openvino`.
        threads: how many a batch may take; by default as many as its size is worth, see `choose_threads`.
        half: let OpenVINO compute in bfloat16, faster on recent CPUs; answers differ in the third digit.

    Raises:
        ValueError: if there is no such graph in the folder.
        ImportError: if the backend is not installed.

    Example:
        >>> graph = Graph("runs/topic-onnx")  # doctest: +SKIP
        >>> graph(tensors)["probabilities"]["topic"].shape  # doctest: +SKIP
        (32, 7)
    """

    def __init__(
        self, folder: str | Path, backend: str = "onnx", threads: int | None = None, half: bool = False
    ) -> None:
        self.folder = Path(folder)
        if backend not in MODELS:
            raise ValueError(f"backend {backend!r} is not one of {', '.join(MODELS)}.")
        try:
            self.about = json.loads((self.folder / GRAPH_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"{folder} holds no graph: make one with `hfk export {folder} OUTPUT --as {backend}`."
            ) from None
        files = [self.folder / MODELS[name] for name in dict.fromkeys((backend, "onnx"))]
        self.file = next((file for file in files if file.is_file()), None)
        if self.file is None:
            raise ValueError(f"{folder} has no {files[0].name}: export it with --as {backend}.")
        self.backend, self.threads = backend, threads or choose_threads(self.about["multiplications"])
        if half and backend != "openvino":
            raise ValueError(f"the backend {backend} computes in float32: leave dtype out, or take openvino.")
        start = _onnx if backend == "onnx" else _openvino
        self._run = start(self.file, self.about["outputs"], self.threads, half)

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Run a batch.

        Args:
            tensors: what the processor makes, as arrays. What a batch has nothing of, such as pictures, may be missing.

        Returns:
            `logits`, `probabilities` and `chosen`, each head name → array, and `embedding`; as the model's output and
            `decoding` say.
        """
        rows = len(next(iter(tensors.values())))
        given = {
            name: np.asarray(tensors[name], about["dtype"]) if name in tensors else self._absent(name, about, rows)
            for name, about in self.about["inputs"].items()
        }
        found = dict(zip(self.about["outputs"], self._run(given), strict=True))
        result: dict[str, Any] = {"embedding": found.pop("hfk_embedding")}
        for name, values in found.items():
            _, kind, number = name.split("_")
            result.setdefault(kind, {})[self.about["heads"][int(number)]["name"]] = values
        return result

    @staticmethod
    def _absent(name: str, about: Mapping[str, Any], rows: int) -> np.ndarray:
        """What stands where no row of a batch has a text, or none a picture: the graph reads it and leaves it out."""
        shape = [rows, *(2 if size is None else size for size in about["shape"][1:])]
        return np.full(shape, name.endswith("attention_mask"), about["dtype"])


def choose_threads(multiplications: float, cores: int | None = None) -> int:
    """How many threads a batch is worth: one for small models, else all `cores`, by default those of `count_cores`.

    Small models gain nothing from a second thread, and lose most of their speed to waiting for it where another process
    is at work. A model's size is its `multiplications` by weights for one token, or for one picture.

    Example:
        >>> choose_threads(112, cores=8), choose_threads(21e6, cores=8)
        (1, 8)
    """
    return 1 if multiplications < SMALL else count_cores() if cores is None else cores


def count_cores() -> int:
    """How many cores this process may use; `OMP_NUM_THREADS` is a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def _onnx(file: Path, outputs: list[str], threads: int, half: bool) -> Run:
    try:
        import onnxruntime
    except ImportError:
        raise ImportError('the backend onnx needs ONNX Runtime: pip install "hfk[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda tensors: session.run(outputs, tensors)


def _openvino(file: Path, outputs: list[str], threads: int, half: bool) -> Run:
    try:
        import openvino
    except ImportError:
        raise ImportError('the backend openvino needs OpenVINO: pip install "hfk[openvino]"') from None
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
    model = openvino.Core().compile_model(file, "CPU", hints)

    def run(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = model(tensors)
        return [found[name] for name in outputs]

    return run
