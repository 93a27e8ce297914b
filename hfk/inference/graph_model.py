"""`GraphModel`: an exported graph in the place of a model, so that `Predictor` and what it calls need not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.modeling_multihead import MultiHeadOutput
from ..models.processing_ensemble import MultiHeadEnsembleProcessor
from ..models.processing_multihead import MultiHeadProcessor
from .graph import Graph
from .loading import load_config


class GraphModel:
    """Answers as the model does that the graph was made of; it can't be trained or moved."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.config = graph, load_config(graph.folder)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def __call__(self, **tensors: Tensor) -> MultiHeadOutput:
        """Run a batch."""
        found = self.graph({name: values.numpy() for name, values in tensors.items()})
        logits = {name: torch.from_numpy(values) for name, values in found["logits"].items()}
        return MultiHeadOutput(logits=logits, embedding=torch.from_numpy(found["embedding"]))

    def eval(self) -> GraphModel:
        """It always is in evaluation mode."""
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The bytes of the graph, in place of weights."""
        files = [self.graph.file, *self.graph.folder.glob("*.bin"), *self.graph.folder.glob("*.data")]
        return {file.name: torch.from_numpy(np.fromfile(file, np.uint8)) for file in files}


def load_graph(
    folder: str | Path, backend: str = "onnx", threads: int | None = None, half: bool = False
) -> tuple[GraphModel, MultiHeadProcessor | MultiHeadEnsembleProcessor]:
    """Load what `hfk export --as onnx` or `--as openvino` made, as `load_checkpoint` loads a checkpoint."""
    model = GraphModel(Graph(folder, backend, threads, half))
    several = max(getattr(model.config, "readers", [0])) > 0
    processor = (MultiHeadEnsembleProcessor if several else MultiHeadProcessor).from_pretrained(str(folder))
    return model, processor
