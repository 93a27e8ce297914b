"""What a task's rows are like, before anything is trained on them: `profile_task` looks at all and writes one page.

Everything is computed from the rows that `Task.load` gives, splits included, so that what is found (a class without
training rows, the same text with two labels, rows that can't be used, look-alikes on two sides of a split) is what
training would meet. What rows.py and texts.py find is collected here into facts for page.html.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import DatasetDict
from transformers import AutoTokenizer

from ...backbones import registry as backbones
from ...evaluation import plots
from ...evaluation.pages import render
from ...files import write_atomic
from ...models.configuration_multihead import HeadConfig
from ...models.text_cleaning import TextCleaner
from ...runs.recipe import list_recipes, load_recipe
from ...tasks import Task, finest_head, load_task
from ...training.techniques.eda import copy_probabilities
from .rows import (
    Rows,
    contact_sheet,
    find_conflicts,
    find_disagreements,
    find_duplicates,
    look_at_images,
    progress,
    read_rows,
)
from .texts import examples_of_classes, measure_lengths, text_facts, words_of_classes

TEMPLATE = Path(__file__).with_name("page.html")
FEW = 10  # training rows below which a class is named


def profile_task(
    task: str | Path,
    output: str | Path,
    *,
    data: str | None = None,
    text_cleaning: str | list[Any] | None = None,
    checkpoint: str | Path | None = None,
) -> dict[str, Any]:
    """Write the profile page of a task, or of a recipe's, and return what it shows as plain values.

    Args:
        task: name of a built-in task, or path of a task's or recipe's YAML.
        output: the HTML file to write.
        data: file of the rows, in place of the task's own.
        text_cleaning: as for `TextCleaner`, or "none"; the recipe's own by default, or `simple`, to show what it does.
        checkpoint: a trained multi-head checkpoint that reads text and pictures: the page then lists the rows for which
            the two disagree most.
    """
    trained_by = Path(task).suffix in (".yaml", ".yml") or str(task) in list_recipes()
    recipe = load_recipe(task) if trained_by else {}
    data = data or recipe.get("data")
    made = load_task(recipe.get("task") or task, **({"data": data} if data else {}))
    cleaning = text_cleaning or recipe.get("text_cleaning")
    cleaner = TextCleaner(cleaning or "simple") if made.text and cleaning != "none" else None
    reader = _tokenizer(recipe.get("text_encoder")) if made.text else None
    loaded, unusable = _load(made)
    heads = made.heads
    rows = read_rows(loaded, heads)
    named = [head for head in heads if head.rules.has_labels]
    classes = count_classes(rows, named)
    facts: dict[str, Any] = {
        "title": f"{made.name}: data profile",
        "rows": len(rows.ids),
        "splits": dict(Counter(rows.split)),
        "unusable": unusable,
        "heads": heads,
        "classes": classes,
        "augmented": count_augmented(rows, named),
        "hierarchies": hierarchies(heads, classes),
        "missing": {
            name: dict(Counter(split for split, label in zip(rows.split, labels, strict=True) if label is None))
            for name, labels in rows.labels.items()
        },
        "numbers": {head.name: describe_numbers(rows, head) for head in heads if not head.rules.has_labels},
        **{"texts": None, "lengths": {}, "words": {}, "clouds": {}, "examples": {}, "images": None, "sheet": []},
        "disagreements": find_disagreements(loaded, heads, checkpoint) if checkpoint else [],
        "cleaning": cleaner.steps if cleaner else None,
        "trial": not cleaning,
        "tokenizer": recipe["text_encoder"] if reader is not None else None,
        "max_length": int(recipe.get("max_length") or 128) if reader is not None else None,
    }
    if rows.texts is not None:
        cleaned = None
        if cleaner is not None:
            cleaned = [text and " ".join(cleaner(text).split()) for text in progress(rows.texts, "cleaning")]
        facts["texts"] = text_facts(rows.texts, cleaned, rows.ids)
        if cleaner is not None and not facts["texts"]["changed"]:
            cleaned = None  # twice the same would be shown
        trained = rows.texts if facts["trial"] or cleaned is None else cleaned
        prefix = recipe.get("text_prefix")
        if prefix is None and reader is not None:
            prefix = backbones.prompt_of(recipe["text_encoder"])
        facts["lengths"] = measure_lengths(trained, reader, prefix or "")
        facts["words"], facts["clouds"] = words_of_classes(rows, cleaned, named)
        facts["examples"] = examples_of_classes(rows, cleaned, named)
    pictures = None
    if rows.images is not None:
        pictures, facts["images"] = look_at_images(rows)
        facts["sheet"] = contact_sheet(rows, pictures, heads)
    facts["duplicates"] = find_duplicates(rows, pictures)
    facts["conflicts"] = find_conflicts(rows, pictures, named)
    facts["findings"] = list(find_problems(facts))
    write_atomic(output, render(TEMPLATE, **facts, **_shown(facts)))
    return facts


def _load(task: Task) -> tuple[DatasetDict, list[str]]:
    """Load what rows can be used, and the sentences about those that can't."""
    task.source.bad_rows = "drop"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = task.load()
    return rows, [str(one.message) for one in caught if "can't be used" in str(one.message)]


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """What the page shows beside the facts, made of them."""
    heads, duplicates = len(facts["heads"]), facts["duplicates"]
    figures = {"rows": facts["rows"]} | facts["splits"] | {"head" if heads == 1 else "heads": heads}
    for kind, name in (("text", "texts"), ("image", "pictures")):
        if kind in duplicates:
            figures[f"repeated {name}"] = duplicates[kind]["same"] + duplicates[kind]["near"]
    totals = {
        name: sorted(((label, sum(c.values())) for label, c in counts.items()), key=lambda line: -line[1])
        for name, counts in facts["classes"].items()
    }
    histograms, lengths = {}, []
    for unit, values in facts["lengths"].items():
        limit = facts["max_length"] if unit == "tokens" else None
        histograms[unit] = plots.lengths_png(values, f"Text lengths in {unit}", unit, limit)
        quantiles = [f"{int(np.quantile(values, q)):,}" for q in (0, 0.5, 0.95, 0.99, 1)]
        lengths.append([unit, f"{values.mean():.1f}", *quantiles, f"{(values > limit).mean():.2%}" if limit else ""])
    return {
        "figures": [(name, f"{count:,}") for name, count in figures.items()],
        "totals": totals,
        "steps": [
            one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in facts["cleaning"] or ()
        ],
        "length_lines": lengths,
        "histograms": histograms,
    }


def _tokenizer(encoder: str | None) -> Any:
    """The tokenizer of the recipe's encoder, if it is at hand, for a profile needs no encoder."""
    try:
        return (
            AutoTokenizer.from_pretrained(backbones.resolve(encoder, "text"), trust_remote_code=False)
            if encoder
            else None
        )
    except (ValueError, OSError, ImportError) as error:
        warnings.warn(f"tokens are not counted: {error}", stacklevel=2)
        return None


def count_classes(rows: Rows, heads: list[HeadConfig]) -> dict[str, dict[str, dict[str, int]]]:
    """Count rows by head, label and split; labels in the head's order, those without rows included."""
    members = {head.name: rows.of_labels(head) for head in heads}
    return {
        head: {label: dict(Counter(rows.split[row] for row in own)) for label, own in labels.items()}
        for head, labels in members.items()
    }


def count_augmented(rows: Rows, heads: list[HeadConfig]) -> dict[str, dict[str, float]]:
    """Count what `eda: true` makes of the training rows: head → label → rows and expected copies of an epoch.

    The finest `single_label` head says how rare a row is; {} without texts or such a head, or if the classes are of one
    size, so that there are no copies.
    """
    finest = next((head for head in heads if head.name == finest_head(heads)), None)
    if rows.texts is None or finest is None:
        return {}
    numbers = np.full(len(rows.ids), -1)
    for number, own in enumerate(rows.of_labels(finest).values()):
        numbers[own] = number
    trained = [row for row, split in enumerate(rows.split) if split == "train"]
    copies = dict(zip(trained, copy_probabilities(numbers[trained]).tolist(), strict=True))
    if not any(copies.values()):
        return {}
    result = {}
    for head in heads:
        members = rows.of_labels(head).items()
        result[head.name] = {label: sum(1 + copies[row] for row in own if row in copies) for label, own in members}
    return result


def describe_numbers(rows: Rows, head: HeadConfig) -> dict[str, float]:
    """Mean, deviation and quantiles of the values of a regression head."""
    found = pd.Series([value for value in rows.labels[head.name] if value is not None], dtype=float)
    return found.describe().drop("count").to_dict() if len(found) else {}


def hierarchies(heads: list[HeadConfig], classes: dict[str, Any]) -> list[tuple[list[str], list[tuple]]]:
    """The trees of labels: names of the heads, coarse to fine, and (label, rows, the same of what lies below)."""
    child_of = {head.parent: head for head in heads if head.parent is not None and head.parent_of is not None}

    def branches(head: HeadConfig, above: int | None) -> list[tuple]:
        child = child_of.get(head.name)
        found = [
            (label, sum(classes[head.name][label].values()), branches(child, index) if child else [])
            for index, label in enumerate(head.labels)
            if above is None or head.parent_of[index] == above
        ]
        return sorted(found, key=lambda branch: -branch[1])

    trees = []
    for root in [head for head in heads if head.parent is None and head.name in child_of]:
        names = [root.name]
        while names[-1] in child_of:
            names.append(child_of[names[-1]].name)
        trees.append((names, branches(root, None)))
    return trees


def find_problems(facts: dict[str, Any]) -> Iterator[str]:
    """Say in sentences what a reader should look at first, from what the other functions found."""
    yield from facts["unusable"]
    for head, classes in facts["classes"].items():
        trained = {label: counts.get("train", 0) for label, counts in classes.items()}
        none = [label for label in classes if not trained[label]]
        few = [label for label in classes if 0 < trained[label] < FEW]
        if none and "train" in facts["splits"]:
            yield f"{head}: no training row of {_listed(none)}."
        if few:
            yield f"{head}: fewer than {FEW} training rows of {_listed(few)}."
        some = [sum(counts.values()) for counts in classes.values() if counts]
        if some and max(some) >= 5 * min(some):
            yield (
                f"{head}: the largest class has {max(some) / min(some):,.0f} times the rows of the smallest; look at "
                "macro-F1, and at sampling or class_weights."
            )
    for head, missing in facts["missing"].items():
        if missing:
            yield f"{head}: {_count(sum(missing.values()), 'row')} without a label; they teach this head nothing."
    texts, images = facts["texts"] or {}, facts["images"] or {}
    if texts.get("emptied") and not facts["trial"]:
        yield f"Cleaning leaves nothing of {_count(len(texts['emptied']), 'text')}: training would stop there."
    limit = facts["max_length"]
    longer = sum(length > limit for length in facts["lengths"].get("tokens", ()))
    if longer:
        yield f"{_count(longer, 'text')} longer than max_length ({limit} tokens): the rest is not read."
    if images.get("missing"):
        yield f"{_count(images['missing'], 'row')} without a picture."
    for split, count in facts["duplicates"]["across"].items():
        yield f"{_count(count, 'row')} of {split} with a look-alike in train: its scores will be too good."
    if facts["conflicts"]:
        heads = sorted({conflict["head"] for conflict in facts["conflicts"]})
        yield f"{_count(len(facts['conflicts']), 'input')} with more than one answer ({', '.join(heads)})."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(labels: list[str], most: int = 6) -> str:
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")
