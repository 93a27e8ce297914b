"""hfk: Korean multi-head classification over text, images and both, in the Hugging Face ecosystem.

Importing hfk makes its model known to transformers: `AutoModel`, `AutoConfig`, `AutoProcessor` and
`pipeline("multi-head-classification", …)` then load hfk checkpoints without `trust_remote_code`. The other public names
are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .models.configuration_multihead import HeadConfig, MultiHeadConfig
from .models.modeling_multihead import MultiHeadForClassification, MultiHeadOutput
from .models.pipeline_multihead import MultiHeadClassificationPipeline
from .models.processing_multihead import MultiHeadProcessor

__version__ = "0.1.0"

_LAZY = {
    "MultiHeadCollator": "data.collation",
    "MultiHeadTrainer": "training.trainer",
    "MultiHeadTrainingArguments": "training.arguments",
    "Predictor": "inference.predictor",
    "Task": "tasks",
    "load_task": "tasks",
    "resolve_backbone": "hub.backbones",
    "train": "training.run",
}

__all__ = [
    "HeadConfig",
    "MultiHeadClassificationPipeline",
    "MultiHeadConfig",
    "MultiHeadForClassification",
    "MultiHeadOutput",
    "MultiHeadProcessor",
    *_LAZY,
]

PIPELINE_REGISTRY.register_pipeline(
    "multi-head-classification",
    pipeline_class=MultiHeadClassificationPipeline,
    pt_model=AutoModel,
    type="multimodal",
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"hfk.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'hfk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
