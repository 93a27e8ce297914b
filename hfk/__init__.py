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

from .models.configuration_ensemble import MultiHeadEnsembleConfig
from .models.configuration_multihead import HeadConfig, MultiHeadConfig
from .models.modeling_ensemble import MultiHeadEnsemble
from .models.modeling_multihead import MultiHeadForClassification, MultiHeadOutput
from .models.pipeline_multihead import MultiHeadClassificationPipeline
from .models.processing_ensemble import MultiHeadEnsembleProcessor
from .models.processing_multihead import MultiHeadProcessor

__version__ = "0.1.0"

_LAZY = {
    "Hashtagger": "hfk.tools.hashtags:Hashtagger",
    "MultiHeadCollator": "hfk.tasks.collator:MultiHeadCollator",
    "MultiHeadTrainer": "hfk.training.trainer:MultiHeadTrainer",
    "MultiHeadTrainingArguments": "hfk.runs.recipe:MultiHeadTrainingArguments",
    "Predictor": "hfk.inference.predictor:Predictor",
    "Task": "hfk.tasks:Task",
    "explain": "hfk.tools.explain:explain",
    "load_task": "hfk.tasks:load_task",
    "resolve_backbone": "hfk.backbones.registry:resolve",
    "train": "hfk.training.train:train",
}

__all__ = [
    "HeadConfig",
    "MultiHeadClassificationPipeline",
    "MultiHeadConfig",
    "MultiHeadEnsemble",
    "MultiHeadEnsembleConfig",
    "MultiHeadEnsembleProcessor",
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
        module, _, attribute = _LAZY[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'hfk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
