"""`profile_task`: what `hfk data profile` runs: a task's rows, the tokenizer and cleaning of its recipe, one page.

`evaluation.profile` does the looking; here it gets what it must not know about: recipes, backbones, and a checkpoint
that says for which rows text and picture speak for different labels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from transformers import AutoTokenizer

from ...backbones import registry as backbones
from ...inference.predictor import Predictor
from ...models.configuration_multihead import HeadConfig
from ...models.text_cleaning import TextCleaner
from ...runs.recipe import list_recipes, load_recipe
from ...tasks import load_task
from .facts import write_profile

MOST_DISAGREEING = 60


def profile_task(
    task: str | Path,
    output: str | Path,
    *,
    data: str | None = None,
    text_cleaning: str | list[Any] | None = None,
    tokenizer: str | None = None,
    checkpoint: str | Path | None = None,
) -> dict[str, Any]:
    """Write the profile page of a task.

    Args:
        task: name of a built-in task, or path of a task's or recipe's YAML.
        output: the HTML file to write.
        data: file of the rows, in place of the task's own.
        text_cleaning: as for `TextCleaner`, or "none"; the recipe's own by default, or `simple`, to show what it does.
        tokenizer: packaged backbone, Hub id or folder to count tokens with; the recipe's text encoder by default.
        checkpoint: a trained multi-head checkpoint that reads text and pictures: the page then lists the rows for which
            the two disagree most.

    Returns:
        as `write_profile`.

    Raises:
        ValueError: for a task, step or checkpoint that does not exist or does not fit.
        ImportError: without the extra `plots`, or the analyzer of the cleaning.
    """
    recipe = _recipe_of(task)
    made = load_task(
        recipe.get("task") or task, **({"data": data or recipe.get("data")} if data or recipe.get("data") else {})
    )
    chosen = text_cleaning or recipe.get("text_cleaning") or "simple"
    cleaner = TextCleaner(chosen) if made.text and chosen != "none" else None
    rows = made.load()
    found, name = (_tokenizer(tokenizer, recipe) if made.text else None), tokenizer or recipe.get("text_encoder") or ""
    return write_profile(
        rows,
        made.heads,
        output,
        title=made.name,
        cleaner=cleaner,
        trial=not (text_cleaning or recipe.get("text_cleaning")),
        tokenizer=found,
        tokenizer_name=name,
        max_length=int(recipe.get("max_length") or 128),
        text_prefix=recipe.get("text_prefix") or "",
        disagreements=find_disagreements(rows, made.heads, checkpoint) if checkpoint else None,
    )


def _recipe_of(task: str | Path) -> dict[str, Any]:
    """The options of the recipe that the task is trained by: of that name, or in its YAML; {} if there is none."""
    if Path(task).suffix in (".yaml", ".yml") or str(task) in list_recipes():
        return load_recipe(task)
    return {}


def _tokenizer(name: str | None, recipe: dict[str, Any]) -> Any:
    """The tokenizer asked for; the recipe's if it is at hand, for a profile needs no encoder."""
    wanted = name or recipe.get("text_encoder")
    if not wanted:
        return None
    try:
        return AutoTokenizer.from_pretrained(backbones.resolve(wanted, "text"))
    except (ValueError, OSError, ImportError) as error:
        if name:
            raise
        warnings.warn(f"tokens are not counted: {error}", stacklevel=2)
        return None


def find_disagreements(data: DatasetDict, heads: list[HeadConfig], checkpoint: str | Path) -> list[dict[str, Any]]:
    """Ask a checkpoint for each row's labels by text alone and by picture alone; list where the two differ most.

    Args:
        data: what `Task.load` returned.
        heads: the task's heads; those `single_label` ones that the checkpoint has too, with the same labels, count.
        checkpoint: folder or Hub id.

    Returns:
        the rows of the largest Jensen-Shannon divergence between the two (in bits, 0 to 1) among those where the two
        choose different labels, largest first, each row once, by the head it is largest for.

    Raises:
        ValueError: if the checkpoint does not read both, or shares no head with the task.
    """
    predictor = Predictor.from_pretrained(str(checkpoint))
    if predictor.processor.tokenizer is None or predictor.processor.image_processor is None:
        raise ValueError(f"the checkpoint {checkpoint} does not read both text and pictures, so they can't disagree.")
    known = {head.name: head for head in predictor.model.config.heads}
    shared = [
        head
        for head in heads
        if head.problem == "single_label" and head.name in known and known[head.name].labels == head.labels
    ]
    if not shared:
        raise ValueError(f"the checkpoint {checkpoint} has no head of the task, with the same labels.")
    found = []
    for rows in data.values():
        if not {"text", "image"} <= set(rows.column_names):
            raise ValueError("the task does not have both text and pictures, so they can't disagree.")
        whole = [
            index for index, (text, image) in enumerate(zip(rows["text"], rows["image"], strict=True)) if text and image
        ]
        for start in range(0, len(whole), predictor.batch_size):
            indices, prepared = [], []
            for index in whole[start : start + predictor.batch_size]:
                try:
                    text, image = predictor.processor.prepare_row(rows[index]["text"], rows[index]["image"])
                except ValueError:  # the page lists such pictures on their own
                    continue
                if text is not None:
                    indices.append(index)
                    prepared.append((text, image))
            if not prepared:
                continue
            by_text = predictor.logits([(text, None) for text, _ in prepared])
            by_image = predictor.logits([(None, image) for _, image in prepared])
            for head in shared:
                one, two = (_probabilities(logits[head.name]) for logits in (by_text, by_image))
                distance = _divergence(one, two)
                for place, index in enumerate(indices):
                    first, second = one[place].argmax(), two[place].argmax()
                    if first != second:
                        row = rows[index]
                        label = row[head.name]
                        found.append(
                            {
                                "id": row["id"],
                                "head": head.name,
                                "label": head.labels[label] if isinstance(label, int) and label >= 0 else "",
                                "text": row["text"],
                                "by_text": head.labels[first],
                                "by_image": head.labels[second],
                                "distance": float(distance[place]),
                            }
                        )
    found.sort(key=lambda row: -row["distance"])
    worst: dict[str, dict[str, Any]] = {}
    for row in found:
        worst.setdefault(row["id"], row)
    return list(worst.values())[:MOST_DISAGREEING]


def _probabilities(logits: torch.Tensor) -> np.ndarray:
    return logits.float().softmax(-1).cpu().numpy()


def _divergence(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    middle = (one + two) / 2

    def against(part: np.ndarray) -> np.ndarray:
        return (part * np.log2(np.maximum(part, 1e-12) / np.maximum(middle, 1e-12))).sum(axis=-1)

    return (against(one) + against(two)) / 2
