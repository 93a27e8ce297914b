"""Students: by which recipe one is trained, and an encoder of some of the teacher's own layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..backbones.registry import keep_prompt, resolve
from ..files import replacing
from ..inference.loading import load_checkpoint, load_config
from ..runs.recipe import load_recipe, merge, translate
from ..runs.run import Run
from ..tasks import Task
from ..tasks.split import without_folds
from .ensemble import list_members

ENCODER = "student_encoder"
"""Where in a run's folder the encoder of the teacher's layers is."""


def student_recipe(
    teacher: str, student: str | Path | Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the recipe of a student, for `train`; what `hfk distill` trains.

    Args:
        teacher: folder or Hub id of a checkpoint or ensemble.
        student: recipe of the student, as for `train`; that of the teacher's own run by default.
        overrides: options that replace the recipe's, such as `distillation.alpha`.

    Example:
        >>> train(student_recipe("runs/ensemble", "ynat", {"distillation.alpha": 0.7}), "runs/small")  # doctest: +SKIP
    """
    if student is None:
        student = Run(teacher).recipe
        if not student:
            raise ValueError(f"{teacher} has no recipe.yaml to train the student by: name a recipe with --student.")
    options = translate(student if isinstance(student, Mapping) else load_recipe(student))
    given = options.pop("distillation", None)  # its own teacher is not the student's
    if isinstance(given, Mapping):
        options["distillation"] = {key: given[key] for key in ("temperature", "alpha", "hidden") if key in given}
    options["split"] = without_folds(options.get("split"))
    return merge(options, {**(overrides or {}), "distillation.teacher": str(teacher)})


def teacher_encoder(teacher: str, layers: list[int], task: Task, folder: Path, write: bool) -> dict[str, str]:
    """Make an encoder folder of some of a teacher's layers, tokenizer included, in the run's folder.

    Of an ensemble, the first member's encoder is taken. Returns `text` (`vision`, for a task or teacher without text) →
    the encoder's name; only processes with `write` make the folder.
    """
    config = load_config(teacher)
    side = "text" if task.text and config.text_config is not None else "vision"
    if write:
        model, processor = list_members(*load_checkpoint(teacher))[0]
        encoder = getattr(model, f"{side}_encoder")
        if encoder is None:
            raise ValueError(f"the first member of {teacher} has no {side} encoder to take layers from.")
        keep_layers(encoder, layers)
        with replacing(folder / ENCODER) as part:
            encoder.save_pretrained(part)
            (processor.tokenizer if side == "text" else processor.image_processor).save_pretrained(part)
            if side == "text":
                keep_prompt(part, processor.text_prefix)
    return {side: resolve(str(folder / ENCODER), side)}


def keep_layers(encoder: nn.Module, layers: Sequence[int]) -> None:
    """Take all layers but some out of a transformer encoder, in place; they are counted from 0, and keep this order.

    ValueError if there is no such layer, one is named twice, or the encoder's layers do not stand in one list.
    """
    config = encoder.config
    count = getattr(config, "num_hidden_layers", None)
    lists = {name: part for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList)}
    lists = {name: part for name, part in lists.items() if len(part) == count}
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if not isinstance(count, int) or len(outer) != 1:
        raise ValueError(f"the layers of a {config.model_type!r} encoder can't be picked one by one.")
    if not layers or len(set(layers)) != len(layers) or not all(0 <= layer < count for layer in layers):
        raise ValueError(f"layers must be different numbers from 0 to {count - 1}, not {', '.join(map(str, layers))}.")
    own = lists[outer[0]]
    for place, layer in enumerate(layers):
        if own[layer].state_dict().keys() != own[place].state_dict().keys():
            raise ValueError(
                f"layer {place} of a {config.model_type!r} encoder is built in another way than layer {layer}, which "
                f"can't take its place; keep layer {place}."
            )
    parent, _, name = outer[0].rpartition(".")
    setattr(encoder.get_submodule(parent), name, nn.ModuleList(own[layer] for layer in layers))
    for option, value in config.to_dict().items():  # such as ModernBERT's layer_types
        if isinstance(value, list) and len(value) == count and option != "id2label":
            setattr(config, option, [value[layer] for layer in layers])
    config.num_hidden_layers = len(layers)
