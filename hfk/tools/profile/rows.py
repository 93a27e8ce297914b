"""A task's rows as the profile looks at them: their labels by name, their pictures, what repeats or contradicts itself.

All splits stand one after the other. Pictures are opened once, for their sizes and their look-alikes; a contact sheet
shows some of all classes. A checkpoint that reads both says for which rows text and picture disagree.
"""

from __future__ import annotations

import io
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict, concatenate_datasets
from PIL import Image
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from tqdm import tqdm

from ...evaluation.pages import thumbnail
from ...inference.predictor import Predictor
from ...models.configuration_multihead import HeadConfig
from ...tasks import finest_head
from ...tasks.look_alikes import Picture, describe_images, duplicate_groups, image_bytes, normalize

SHOWN = 12  # examples of each finding
SEED = 0
SHEET = 48  # pictures on the contact sheet
TILE = 112  # pixels a side
MOST_DISAGREEING = 60


@dataclass
class Rows:
    """All rows of a task, its splits one after the other; texts or images are None where the task has none of them.

    `labels` has for each head and row a tuple of names (one for `single_label`, any number for `multi_label`), a number
    (`regression`), or None where unknown.
    """

    split: list[str]
    ids: list[str]
    texts: list[str | None] | None
    images: list[Any] | None
    labels: dict[str, list[Any]] = field(default_factory=dict)

    def of_labels(self, head: HeadConfig) -> dict[str, list[int]]:
        """The rows of each of a head's labels, in the head's order."""
        found: dict[str, list[int]] = {label: [] for label in head.labels}
        for row, labels in enumerate(self.labels[head.name]):
            for label in labels or ():
                found[label].append(row)
        return found


def read_rows(data: DatasetDict, heads: list[HeadConfig]) -> Rows:
    """Collect the rows of all splits of what `Task.load` returned, labels by name."""
    whole = concatenate_datasets(list(data.values()))

    def column(name: str) -> list[Any] | None:
        return whole[name][:] if name in whole.column_names else None

    labels = {}
    for head in heads:
        read = (lambda value, rules=head.rules: tuple(rules.names(value))) if head.rules.has_labels else float
        values = column(head.name) or [None] * len(whole)
        labels[head.name] = [None if value is None or value != value else read(value) for value in values]
    split = [split for split, part in data.items() for _ in range(len(part))]
    return Rows(split, column("id"), column("text"), column("image"), labels)


def progress(items: Sequence[Any] | range, what: str) -> Iterable[Any]:
    """Show how far a loop is, where somebody watches."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(items, desc=f"{what:10}", leave=False, disable=not watched or len(items) < 5)


def look_at_images(rows: Rows) -> tuple[list[Picture | None], dict[str, Any]]:
    """Open every picture once: what `describe_images` says of each row, and what was found.

    `sizes` are the least, the median and the greatest (width, height) in pixels.
    """
    pictures: list[Picture | None] = []
    sizes, formats = [], Counter()
    for image in progress(rows.images, "pictures"):
        data = image_bytes(image)
        (picture,) = describe_images([data]) if data else (None,)
        pictures.append(picture)
        if picture is not None and picture.thumbnail is not None:
            with Image.open(io.BytesIO(data)) as opened:
                sizes.append(opened.size)
                formats[opened.format] += 1
    missing = sum(image is None for image in rows.images)
    return pictures, {
        "present": len(rows.images) - missing,
        "missing": missing,
        "sizes": np.quantile(sizes, (0, 0.5, 1), axis=0).astype(int).tolist() if sizes else [],
        "formats": dict(formats.most_common()),
    }


def contact_sheet(rows: Rows, pictures: list[Picture | None], heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Choose pictures of all classes in turn: `id`, `label`, `jpeg` (bytes, at most `TILE` pixels a side)."""
    finest = next((head for head in heads if head.name == finest_head(heads)), None)
    groups = rows.of_labels(finest) if finest else {"": list(range(len(rows.ids)))}
    draw, queues = random.Random(SEED), []
    for label in sorted(groups):
        whole = [(label, row) for row in groups[label] if pictures[row] and pictures[row].thumbnail is not None]
        queues.append(draw.sample(whole, len(whole)))
    chosen = [one for turn in zip_longest(*queues) for one in turn if one is not None][:SHEET]
    return [
        {"id": rows.ids[row], "label": label, "jpeg": thumbnail(rows.images[row], TILE)}
        for label, row in sorted(chosen, key=lambda one: one[0])
    ]


def find_duplicates(rows: Rows, pictures: list[Picture | None] | None) -> dict[str, Any]:
    """Find rows of the same or nearly the same text or picture.

    `same` repeat an earlier one, `near` are further ones nearly like another, `groups` shows the largest as (id, split,
    text or JPEG). `across` counts rows of validation or test with a look-alike in train, by split.
    """
    count = len(rows.ids)
    kinds, result = {}, {}
    if rows.texts is not None:
        kinds["text"] = duplicate_groups(rows.texts, None, count), rows.texts, rows.texts.__getitem__
    if pictures is not None:
        digests = [picture and picture.digest for picture in pictures]
        kinds["image"] = (
            duplicate_groups(None, pictures, count), digests, lambda row: thumbnail(rows.images[row], TILE)
        )  # fmt: skip
    for kind, (groups, keys, show) in kinds.items():
        members: dict[int, list[int]] = defaultdict(list)
        for row, group in enumerate(groups):
            if keys[row]:
                members[int(group)].append(row)
        found = sorted((own for own in members.values() if len(own) > 1), key=lambda own: (-len(own), own[0]))
        given = [key for key in keys if key]
        same, in_groups = len(given) - len(set(given)), sum(map(len, found))
        shown = [[(rows.ids[row], rows.split[row], show(row)) for row in own[:4]] for own in found[:SHOWN]]
        shown = [[one for one in group if one[2]] for group in shown]
        near = in_groups - len(found) - same
        result[kind] = {"same": same, "near": near, "in_groups": in_groups, "groups": shown}
    groups = duplicate_groups(rows.texts, pictures, count) if kinds else np.arange(count)
    trained = {group for group, split in zip(groups, rows.split, strict=True) if split == "train"}
    held_out = (s for group, s in zip(groups, rows.split, strict=True) if s != "train" and group in trained)
    return result | {"across": dict(Counter(held_out))}


def find_conflicts(rows: Rows, pictures: list[Picture | None] | None, heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Find inputs, the same letters and digits and the same picture, that occur with different labels of a head."""
    nothing = [None] * len(rows.ids)
    members: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for row, (text, picture) in enumerate(zip(rows.texts or nothing, pictures or nothing, strict=True)):
        if text or picture is not None:
            members[normalize(text) if text else "", picture.digest if picture else b""].append(row)
    conflicts = []
    for group in members.values():
        for head in heads:
            labels = rows.labels[head.name]
            named = [row for row in group if labels[row] is not None]
            if len({frozenset(labels[row]) for row in named}) > 1:
                listed = [(rows.ids[row], rows.split[row], ", ".join(labels[row])) for row in named]
                text = (rows.texts or nothing)[named[0]] or ""
                conflicts.append({"head": head.name, "text": text, "rows": listed})
    return conflicts


def find_disagreements(data: DatasetDict, heads: list[HeadConfig], checkpoint: str | Path) -> list[dict[str, Any]]:
    """Ask a checkpoint for each row's labels by text alone and by picture alone; list where the two differ most.

    Of the `single_label` heads that task and checkpoint share. The distance is the Jensen-Shannon divergence in bits, 0
    to 1; each row is listed once, by the head for which it is largest.
    """
    predictor = Predictor.from_pretrained(str(checkpoint))
    if predictor.processor.tokenizer is None or predictor.processor.image_processor is None:
        raise ValueError(f"the checkpoint {checkpoint} does not read both text and pictures, so they can't disagree.")
    known = {head.name: head.labels for head in predictor.model.config.heads}
    shared = [head for head in heads if head.rules.exclusive and known.get(head.name) == head.labels]
    if not shared:
        raise ValueError(f"the checkpoint {checkpoint} has no head of the task, with the same labels.")
    found = []
    for rows in data.values():
        if not {"text", "image"} <= set(rows.column_names):
            raise ValueError("the task does not have both text and pictures, so they can't disagree.")
        sides = [predictor.outputs(rows.select_columns([side])) for side in ("text", "image")]
        for row, by_text, by_image in zip(rows, *sides, strict=True):
            if by_text.error or by_image.error:  # one is missing, or a picture can't be read, which is listed elsewhere
                continue
            for head in shared:
                one, two = (softmax(side.logits[head.name]) for side in (by_text, by_image))
                if one.argmax() != two.argmax():
                    line = {"id": row["id"], "head": head.name, "text": row["text"]}
                    line |= {"by_text": head.labels[one.argmax()], "by_image": head.labels[two.argmax()]}
                    line["label"] = "".join(head.rules.names(row[head.name]))
                    found.append(line | {"distance": float(jensenshannon(one, two, base=2) ** 2)})
    found.sort(key=lambda row: row["distance"])
    largest = {row["id"]: row for row in found}  # of each row the one that comes last
    return sorted(largest.values(), key=lambda row: -row["distance"])[:MOST_DISAGREEING]
