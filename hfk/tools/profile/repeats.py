"""Rows that repeat or contradict each other: look-alikes, one input with two labels, text against picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from scipy.spatial.distance import jensenshannon

from ...evaluation.pages import thumbnail
from ...inference.predictor import Predictor
from ...tasks.look_alikes import Picture, duplicate_groups, normalize
from .pictures import TILE
from .rows import SHOWN, HeadConfig, Rows

MOST_DISAGREEING = 60


def find_duplicates(rows: Rows, pictures: list[Picture | None] | None) -> dict[str, Any]:
    """Find rows of the same or nearly the same text or picture.

    Returns:
        `text` and `image`, where the task has them: `same` (rows that repeat an earlier one), `near` (further rows that
        are nearly like another), `in_groups`, `groups` (the largest: (id, split, text or JPEG) of some of their rows).
        `across`: rows of validation or test with a look-alike in train, by split.
    """
    count = len(rows.ids)
    result: dict[str, Any] = {}
    if rows.texts is not None:
        groups = duplicate_groups(rows.texts, None, count)
        own, shown = _count_repeats(groups, [text or None for text in rows.texts])
        own["groups"] = [[(rows.ids[row], rows.split[row], rows.texts[row]) for row in group[:5]] for group in shown]
        result["text"] = own
    if pictures is not None:
        groups = duplicate_groups(None, pictures, count)
        own, shown = _count_repeats(groups, [picture and picture.digest for picture in pictures])
        whole = [[row for row in group if pictures[row].thumbnail is not None][:4] for group in shown[: SHOWN // 2]]
        own["groups"] = [
            [(rows.ids[row], rows.split[row], thumbnail(rows.images[row], TILE)) for row in group] for group in whole
        ]
        result["image"] = own
    groups = duplicate_groups(rows.texts, pictures, count) if rows.texts or pictures else np.arange(count)
    trained = {group for group, split in zip(groups, rows.split, strict=True) if split == "train"}
    held_out = (s for group, s in zip(groups, rows.split, strict=True) if s != "train" and group in trained)
    return result | {"across": dict(Counter(held_out))}


def _count_repeats(groups: np.ndarray, keys: Sequence[Any]) -> tuple[dict[str, Any], list[list[int]]]:
    """Count rows that repeat others by their groups and by what they are (None: nothing); the largest groups first."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if keys[row] is not None:
            members[int(group)].append(row)
    found = sorted((rows for rows in members.values() if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))
    given = [key for key in keys if key is not None]
    same = len(given) - len(set(given))
    in_groups = sum(map(len, found))
    return {"same": same, "near": in_groups - len(found) - same, "in_groups": in_groups}, found[:SHOWN]


def find_conflicts(rows: Rows, pictures: list[Picture | None] | None, heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Find inputs, the same letters and digits and the same picture, that occur with different labels.

    Returns:
        one dict an input and head that has labels: `head`, `text`, `rows` ((id, split, labels)).
    """
    members: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for row in range(len(rows.ids)):
        text = rows.texts[row] if rows.texts is not None else None
        picture = pictures[row] if pictures is not None else None
        if text or picture is not None:
            members[normalize(text) if text else "", picture.digest if picture else b""].append(row)
    conflicts = []
    for group in members.values():
        for head in [head for head in heads if head.rules.has_labels]:
            labels = rows.labels[head.name]
            named = [row for row in group if labels[row] is not None]
            if len({frozenset(labels[row]) for row in named}) > 1:
                listed = [(rows.ids[row], rows.split[row], ", ".join(labels[row])) for row in named]
                text = rows.texts[named[0]] if rows.texts is not None else None
                conflicts.append({"head": head.name, "text": text or "", "rows": listed})
    return conflicts


def find_disagreements(data: DatasetDict, heads: list[HeadConfig], checkpoint: str | Path) -> list[dict[str, Any]]:
    """Ask a checkpoint for each row's labels by text alone and by picture alone; list where the two differ most.

    Args:
        data: what `Task.load` returned.
        heads: the task's heads; those `single_label` ones that the checkpoint has too, with the same labels, count.
        checkpoint: folder or Hub id.

    Returns:
        the rows of the largest Jensen-Shannon divergence between the two (in bits, 0 to 1) among those where the two
        choose different labels, largest first, each row once, by the head it is largest for.
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
        for start in range(0, len(rows), predictor.batch_size):
            batch = []
            for row in rows.select(range(start, min(start + predictor.batch_size, len(rows)))):
                try:
                    text, image = predictor.processor.prepare_row(row["text"], row["image"])
                except ValueError:  # the page lists such pictures on their own
                    continue
                if text is not None and image is not None:
                    batch.append((row, text, image))
            if not batch:
                continue
            by_text = predictor.logits([(text, None) for _, text, _ in batch])
            by_image = predictor.logits([(None, image) for _, _, image in batch])
            for head in shared:
                one, two = (logits[head.name].float().softmax(-1).cpu().numpy() for logits in (by_text, by_image))
                differ = np.flatnonzero(one.argmax(axis=1) != two.argmax(axis=1))
                distances = jensenshannon(one[differ], two[differ], base=2, axis=1) ** 2
                for place, distance in zip(differ, distances, strict=True):
                    row = batch[place][0]
                    labels = {"by_text": head.labels[one[place].argmax()], "by_image": head.labels[two[place].argmax()]}
                    labels["label"] = "".join(head.rules.names(row[head.name]))
                    whose = {"id": row["id"], "head": head.name, "text": row["text"]}
                    found.append({**whose, **labels, "distance": float(distance)})
    found.sort(key=lambda row: row["distance"])
    largest = {row["id"]: row for row in found}  # of each row the one that comes last
    return sorted(largest.values(), key=lambda row: -row["distance"])[:MOST_DISAGREEING]
