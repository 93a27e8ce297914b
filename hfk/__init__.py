"""hfk: Korean multi-head classification over text, images and both, in the Hugging Face ecosystem.

With hfk imported, `AutoModel`, `AutoConfig`, `AutoProcessor` and `pipeline("multi-head-classification", …)` of
transformers load hfk checkpoints without `trust_remote_code`. Importing hfk loads neither torch nor transformers: the
public names are imported when they are first used, and the models are registered when transformers is imported, before
or after hfk.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "HeadConfig": "models.configuration_multihead",
    "HeadLoss": "models.problems",
    "DialectTranslator": "models.dialect_translator",
    "Hashtagger": "tools.hashtags.hashtagger",
    "LightPredictor": "inference.light",
    "MultiHeadClassificationPipeline": "models.pipeline_multihead",
    "MultiHeadCollator": "tasks.collator",
    "MultiHeadConfig": "models.configuration_multihead",
    "MultiHeadEnsemble": "models.modeling_ensemble",
    "MultiHeadEnsembleConfig": "models.configuration_ensemble",
    "MultiHeadEnsembleProcessor": "models.processing_ensemble",
    "MultiHeadForClassification": "models.modeling_multihead",
    "MultiHeadOutput": "models.modeling_multihead",
    "MultiHeadProcessor": "models.processing_multihead",
    "MultiHeadTrainer": "training.trainer",
    "MultiHeadTrainingArguments": "runs.recipe",
    "Predictor": "inference.predictor",
    "Task": "tasks",
    "explain": "tools.explain.attribution",
    "load_task": "tasks",
    "resolve_backbone": "backbones.registry",
    "train": "training.train",
}
"""Public name → its module."""
_OTHER_NAMES = {"resolve_backbone": "resolve"}  # what a name is called at home, where that differs

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hfk' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hfk.{_HOMES[name]}"), _OTHER_NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    importlib.import_module("hfk.models.registration")
    importlib.import_module("hfk.backbones.registry")  # which knows where the encoders are that checkpoints may name


class _WhenTransformersComes(MetaPathFinder):
    """Finds transformers as the other finders do, and has the models registered right after its import.

    It waits for the whole package: while one of its modules is imported, others that the models need may be half
    imported. `hfk.models` imports transformers before any module of its own for the same reason.
    """

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "transformers":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    _register()

            spec.loader.exec_module = execute_and_register
        return spec


if "transformers" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _WhenTransformersComes())
