"""What a task's rows are like, before anything is trained on them: `write_profile` looks at all and writes one page.

Everything is computed from the rows that `Task.load` gives, splits included, so that what is found (a class without
training rows, the same text with two labels, a picture that can't be read, look-alikes on two sides of a split) is what
training would meet. What concerns texts alone is in `texts`, the page's HTML in `page`. Nothing here
knows models, or tokenizers by name: who has them passes them in.
"""

from __future__ import annotations

import io
import math
import os
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from PIL import Image, ImageOps

from ...evaluation import plots
from ...models.configuration_multihead import HeadConfig
from ...models.text_cleaning import TextCleaner
from ...tasks import finest_head
from ...tasks.look_alikes import Picture, describe_images, duplicate_groups, image_bytes, normalize, text_links
from ...training.techniques.eda import copy_probabilities
from .page import render_profile
from .plots import image_sizes_png, values_png
from .texts import SEED, SHOWN, examples_of_classes, measure_lengths, progress, text_facts, words_of_classes

SHEET = 48  # pictures on the contact sheet
TILE = 112  # pixels a side
FEW = 10  # training rows below which a class is named


@dataclass
class Rows:
    """All rows of a task, its splits one after the other.

    Args:
        split: the split of each row.
        ids: the id of each row.
        texts: one text a row, None where there is none; None for a task without text.
        images: likewise.
        labels: head → for each row a tuple of label names (one for `single_label`, any number for `multi_label`), a
            number (`regression`), or None where unknown.
    """

    split: list[str]
    ids: list[str]
    texts: list[str | None] | None
    images: list[Any] | None
    labels: dict[str, list[Any]] = field(default_factory=dict)


def write_profile(
    data: DatasetDict,
    heads: list[HeadConfig],
    output: str | Path,
    *,
    title: str,
    cleaner: TextCleaner | None = None,
    trial: bool = False,
    tokenizer: Any = None,
    tokenizer_name: str = "",
    max_length: int | None = None,
    text_prefix: str = "",
    disagreements: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Look at a task's rows and write the page.

    Args:
        data: what `Task.load` returned.
        heads: the task's heads, final.
        output: the HTML file; its folder is made if need be.
        title: what the page is called.
        cleaner: how texts are cleaned; words, clouds and lengths are then shown before and after.
        trial: whether the cleaning is only shown, and training reads the texts as they are.
        tokenizer: a transformers tokenizer, to count tokens with; characters are counted without.
        tokenizer_name: what it is called on the page.
        max_length: tokens that training will cut texts to.
        text_prefix: put before every text when tokens are counted.
        disagreements: rows whose text and picture speak for different labels, worst first: `id`, `head`, `label`,
            `text`, `by_text`, `by_image`, `distance`.

    Returns:
        the page's facts, as plain values: `splits`, `classes`, `missing`, `lengths`, `duplicates`, `conflicts`,
        `images`, `findings` and what else it shows.

    Raises:
        ImportError: without the extra `plots`.

    Example:
        >>> task = load_task("ynat-mini")  # doctest: +SKIP
        >>> write_profile(task.load(), task.heads, "ynat-mini.html", title="ynat-mini")["findings"]  # doctest: +SKIP
    """
    rows = read_rows(data, heads)
    facts: dict[str, Any] = {
        "title": title,
        "rows": len(rows.ids),
        "splits": dict(Counter(rows.split)),
        "heads": heads,
        "classes": count_classes(rows, heads),
        "augmented": count_augmented(rows, heads),
        "missing": {
            head.name: dict(Counter(split for split, label in zip(rows.split, rows.labels[head.name], strict=True)
                                    if label is None))
            for head in heads
        },
        "regression": {
            head.name: [value for value in rows.labels[head.name] if value is not None]
            for head in heads if head.problem == "regression"
        },
        "disagreements": disagreements or [],
        "cleaning": cleaner.steps if cleaner else None,
        "trial": trial,
        "tokenizer": tokenizer_name if tokenizer is not None else None,
        "max_length": max_length if tokenizer is not None else None,
    }  # fmt: skip
    cleaned = None
    if rows.texts is not None:
        if cleaner is not None:
            cleaned = [text and " ".join(cleaner(text).split()) for text in progress(rows.texts, "cleaning")]
        facts["texts"] = text_facts(rows.texts, cleaned, rows.ids)
        if cleaner is not None and not facts["texts"]["changed"]:
            cleaned = None  # twice the same would be shown
        facts["lengths"] = measure_lengths(rows.texts, cleaned, tokenizer, text_prefix)
        facts["words"], facts["clouds"] = words_of_classes(rows, cleaned, heads)
        facts["examples"] = examples_of_classes(rows, cleaned, heads)
    pictures = None
    if rows.images is not None:
        pictures, facts["images"] = look_at_images(rows)
        facts["sheet"] = contact_sheet(rows, pictures, heads)
    facts["duplicates"] = find_duplicates(rows, pictures)
    facts["conflicts"] = find_conflicts(rows, pictures, heads)
    facts["findings"] = list(find_problems(facts))
    facts["pictures"] = _draw(facts)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    part.write_text(render_profile(facts), encoding="utf-8")
    os.replace(part, output)
    return facts


def read_rows(data: DatasetDict, heads: list[HeadConfig]) -> Rows:
    """Collect the rows of all splits, labels by name.

    Args:
        data: what `Task.load` returned.
        heads: the task's heads.
    """
    names = next(iter(data.values())).column_names
    rows = Rows([], [], [] if "text" in names else None, [] if "image" in names else None, {h.name: [] for h in heads})
    for split, part in data.items():
        rows.split += [split] * len(part)
        rows.ids += part["id"]
        if rows.texts is not None:
            rows.texts += part["text"]
        if rows.images is not None:
            rows.images += part["image"]
        for head in heads:
            values = part[head.name] if head.name in part.column_names else [None] * len(part)
            rows.labels[head.name] += [_label(value, head) for value in values]
    return rows


def _label(value: Any, head: HeadConfig) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if head.problem == "regression":
        return float(value)
    if head.problem == "multi_label":
        return tuple(head.labels[index] for index in value)
    if isinstance(value, list):  # a distribution over the labels
        return (head.labels[max(range(len(value)), key=value.__getitem__)],)
    return (head.labels[value],) if value >= 0 else None


def count_classes(rows: Rows, heads: list[HeadConfig]) -> dict[str, dict[str, dict[str, int]]]:
    """Count rows by head, label and split; labels in the head's order, those without rows included."""
    counts = {}
    for head in heads:
        if head.problem == "regression":
            continue
        found: dict[str, Counter[str]] = {label: Counter() for label in head.labels}
        for split, labels in zip(rows.split, rows.labels[head.name], strict=True):
            for label in labels or ():
                found[label][split] += 1
        counts[head.name] = {label: dict(by_split) for label, by_split in found.items()}
    return counts


def count_augmented(rows: Rows, heads: list[HeadConfig]) -> dict[str, dict[str, float]]:
    """Count what `augmentation: eda` makes of the training rows: head → label → rows and expected copies of an epoch.

    Args:
        rows: the rows.
        heads: the heads; the finest `single_label` one says how rare a row is.

    Returns:
        {} without texts or such a head, or if the classes are of one size, so that there are no copies.
    """
    finest = finest_head(heads)
    if rows.texts is None or finest is None:
        return {}
    number = {label: index for head in heads if head.name == finest for index, label in enumerate(head.labels)}
    trained = [row for row, split in enumerate(rows.split) if split == "train"]
    labels = [rows.labels[finest][row] for row in trained]
    copies = copy_probabilities(np.array([number[label[0]] if label else -1 for label in labels], dtype=int))
    if not copies.any():
        return {}
    result = {head.name: dict.fromkeys(head.labels, 0.0) for head in heads if head.problem != "regression"}
    for row, chance in zip(trained, copies, strict=True):
        for name, counts in result.items():
            for label in rows.labels[name][row] or ():
                counts[label] += 1 + float(chance)
    return result


# ------------------------------------------------------------------------------------------------------------ pictures


def look_at_images(rows: Rows) -> tuple[list[Picture | None], dict[str, Any]]:
    """Open every picture once.

    Args:
        rows: rows with images.

    Returns:
        what `describe_images` says of each row; and `present`, `missing`, `unreadable` ((id, file) of pictures that
        can't be read), `sizes` (int array `(pictures, 2)`, width and height in pixels), `formats`.
    """
    assert rows.images is not None
    pictures: list[Picture | None] = []
    sizes, unreadable, formats = [], [], Counter()
    missing = 0
    for identity, image in zip(rows.ids, progress(rows.images, "pictures"), strict=True):
        data = image_bytes(image) if image is not None else None
        if image is None:
            missing += 1
            pictures.append(None)
            continue
        (picture,) = describe_images([data]) if data else (None,)
        size = _size(data) if picture is not None and picture.thumbnail is not None else None
        if size is None:
            unreadable.append((identity, Path(image.get("path") or "").name))
        else:
            sizes.append(size[:2])
            formats[size[2]] += 1
        pictures.append(picture)
    facts = {
        "present": len(rows.images) - missing,
        "missing": missing,
        "unreadable": unreadable,
        "sizes": np.array(sizes, dtype=int).reshape(-1, 2),
        "formats": dict(formats.most_common()),
    }
    return pictures, facts


def _size(data: bytes | None) -> tuple[int, int, str] | None:
    try:
        with Image.open(io.BytesIO(data or b"")) as picture:
            return picture.width, picture.height, picture.format or "?"
    except Exception:  # whatever a broken file makes a decoder raise
        return None


def contact_sheet(rows: Rows, pictures: list[Picture | None], heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Choose pictures of all classes in turn: `id`, `label`, `jpeg` (bytes, at most `TILE` pixels a side)."""
    head = finest_head(heads)
    members: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        if picture is not None and picture.thumbnail is not None:
            label = rows.labels[head][row] if head else None
            members[label[0] if label else ""].append(row)
    draw = random.Random(SEED)
    queues = [draw.sample(members[label], len(members[label])) for label in sorted(members)]
    chosen: list[int] = []
    while len(chosen) < SHEET and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    sheet = []
    for row in sorted(chosen[:SHEET], key=lambda row: str(rows.labels[head][row] if head else "")):
        label = rows.labels[head][row] if head else None
        sheet.append({"id": rows.ids[row], "label": label[0] if label else "", "jpeg": _tile(rows.images[row])})
    return sheet


def _tile(image: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(image_bytes(image) or b"")) as picture:
            picture.draft("RGB", (TILE * 2, TILE * 2))
            small = ImageOps.exif_transpose(picture)
            if small.mode not in ("RGB", "L"):
                small = small.convert("RGBA")
                small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
            small.thumbnail((TILE, TILE))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------------------------- duplicates


def find_duplicates(rows: Rows, pictures: list[Picture | None] | None) -> dict[str, Any]:
    """Find rows of the same or nearly the same text or picture.

    Args:
        rows: the rows.
        pictures: what `look_at_images` returned, or None.

    Returns:
        `text` and `image`, where the task has them: `same` (rows that repeat an earlier one), `near` (further rows that
        are nearly like another), `groups` (the largest: (id, split, text or JPEG) of some of their rows). `across`:
        rows of validation or test with a look-alike in train, by split.
    """
    count = len(rows.ids)
    result: dict[str, Any] = {}
    if rows.texts is not None:
        links = text_links(rows.texts)
        groups = duplicate_groups(rows.texts, None, count)
        shown = [
            [(rows.ids[row], rows.split[row], rows.texts[row]) for row in group[:5]]
            for group in _groups(groups, rows.texts)
        ]
        result["text"] = {**_count_links(links, groups, [text or None for text in rows.texts]), "groups": shown[:SHOWN]}
    if pictures is not None:
        groups = duplicate_groups(None, pictures, count)
        keys = [picture and picture.digest for picture in pictures]
        shown = []
        for group in _groups(groups, pictures)[:SHOWN]:
            whole = [row for row in group if pictures[row].thumbnail is not None][:4]
            shown.append([(rows.ids[row], rows.split[row], _tile(rows.images[row])) for row in whole])
        result["image"] = {**_count_links(None, groups, keys), "groups": shown}
    groups = duplicate_groups(rows.texts, pictures, count) if rows.texts or pictures else np.arange(count)
    trained = {group for group, split in zip(groups, rows.split, strict=True) if split == "train"}
    result["across"] = dict(
        Counter(s for g, s in zip(groups, rows.split, strict=True) if s != "train" and g in trained)
    )
    return result


def _groups(groups: np.ndarray, present: Sequence[Any]) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if present[row] is not None:
            members[int(group)].append(row)
    return sorted((rows for rows in members.values() if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))


def _count_links(links: np.ndarray | None, groups: np.ndarray, keys: Sequence[Any]) -> dict[str, int]:
    given = [key for key in keys if key is not None]
    same = len(given) - len(set(given))
    repeated = sum(len(rows) - 1 for rows in _groups(groups, keys))
    return {"same": same, "near": repeated - same, "in_groups": sum(len(rows) for rows in _groups(groups, keys))}


def find_conflicts(rows: Rows, pictures: list[Picture | None] | None, heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Find inputs that occur with different labels: same letters and digits, same picture.

    Args:
        rows: the rows.
        pictures: what `look_at_images` returned, or None.
        heads: the heads; regression ones are left out.

    Returns:
        one dict an input and head: `head`, `text`, `rows` ((id, split, labels)).
    """
    members: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for row in range(len(rows.ids)):
        text = rows.texts[row] if rows.texts is not None else None
        picture = pictures[row] if pictures is not None else None
        if text or picture is not None:
            members[normalize(text) if text else "", picture.digest if picture else b""].append(row)
    conflicts = []
    for group in members.values():
        for head in heads:
            named = [row for row in group if rows.labels[head.name][row] is not None]
            if head.problem != "regression" and len({frozenset(rows.labels[head.name][row]) for row in named}) > 1:
                listed = [(rows.ids[row], rows.split[row], ", ".join(rows.labels[head.name][row])) for row in named]
                text = rows.texts[named[0]] if rows.texts is not None else None
                conflicts.append({"head": head.name, "text": text or "", "rows": listed})
    return conflicts


# ------------------------------------------------------------------------------------------------------------ findings


def find_problems(facts: dict[str, Any]) -> Iterator[str]:
    """Say in sentences what a reader should look at first, from what the other functions found."""
    for head, classes in facts["classes"].items():
        totals = {label: sum(counts.values()) for label, counts in classes.items()}
        trained = {label: counts.get("train", 0) for label, counts in classes.items()}
        none = [label for label in classes if not trained[label]]
        few = [label for label in classes if 0 < trained[label] < FEW]
        if none and "train" in facts["splits"]:
            yield f"{head}: no training row of {_listed(none)}."
        if few:
            yield f"{head}: fewer than {FEW} training rows of {_listed(few)}."
        some = [count for count in totals.values() if count]
        if len(some) > 1 and max(some) >= 5 * min(some):
            yield (
                f"{head}: the largest class has {max(some) / min(some):,.0f} times the rows of the smallest; look at "
                "macro-F1, and at sampling or class_weights."
            )
    for head, missing in facts["missing"].items():
        if missing:
            yield f"{head}: {_count(sum(missing.values()), 'row')} without a label; they teach this head nothing."
    texts = facts.get("texts", {})
    if texts.get("emptied") and not facts["trial"]:
        yield f"Cleaning leaves nothing of {_count(len(texts['emptied']), 'text')}: training would stop there."
    limit, tokens = facts["max_length"], facts.get("lengths", {}).get("tokens")
    if limit and tokens:
        longer = int((_as_trained(tokens, facts["trial"]) > limit).sum())
        if longer:
            yield f"{_count(longer, 'text')} longer than max_length ({limit} tokens): what is beyond is not read."
    images = facts.get("images", {})
    if images.get("unreadable"):
        yield f"{_count(len(images['unreadable']), 'picture')} can't be read: training would stop there."
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


def _as_trained(lengths: dict[str, np.ndarray], trial: bool) -> np.ndarray:
    return lengths["before"] if trial or "after" not in lengths else lengths["after"]


def _draw(facts: dict[str, Any]) -> dict[str, bytes]:
    pictures: dict[str, bytes] = {}
    lengths = facts.get("lengths", {})
    for unit, columns in lengths.items():
        limit = facts["max_length"] if unit == "tokens" else None
        values = _as_trained(columns, facts["trial"])
        if len(values):
            pictures[f"lengths_{unit}"] = plots.lengths_png(values, f"Text lengths in {unit}", unit, limit)
    sizes = facts.get("images", {}).get("sizes")
    if sizes is not None and len(sizes):
        pictures["sizes"] = image_sizes_png(sizes)
    for number, head in enumerate(facts["heads"]):
        if facts["regression"].get(head.name):
            pictures[f"values_{number}"] = values_png(np.array(facts["regression"][head.name]), head.name)
    return pictures
