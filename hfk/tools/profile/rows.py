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
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from PIL import Image
from scipy.spatial.distance import jensenshannon
from tqdm import tqdm

from ...evaluation.pages import thumbnail
from ...evaluation.plots import BLUE, MUTED, name_axes, new_figure, plain, titles, to_png
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

    def first_label(self, head: str | None, row: int) -> str:
        """The row's label of a `single_label` head; empty without one."""
        labels = self.labels[head][row] if head else None
        return labels[0] if labels else ""


def read_rows(data: DatasetDict, heads: list[HeadConfig]) -> Rows:
    """Collect the rows of all splits of what `Task.load` returned, labels by name."""
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
            read = (lambda value, rules=head.rules: tuple(rules.names(value))) if head.rules.has_labels else float
            rows.labels[head.name] += [None if value is None or value != value else read(value) for value in values]
    return rows


def progress(items: Sequence[Any] | range, what: str) -> Iterable[Any]:
    """Show how far a loop is, where somebody watches."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(items, desc=f"{what:10}", leave=False, disable=not watched or len(items) < 5)


def look_at_images(rows: Rows) -> tuple[list[Picture | None], dict[str, Any]]:
    """Open every picture once.

    Returns:
        what `describe_images` says of each row; and `present`, `missing`, `unreadable` ((id, file) of pictures that
        can't be read), `sizes` (int array `(pictures, 2)`, width and height in pixels), `formats`.
    """
    pictures: list[Picture | None] = []
    sizes, unreadable, formats = [], [], Counter()
    for identity, image in zip(rows.ids, progress(rows.images, "pictures"), strict=True):
        data = image_bytes(image)
        (picture,) = describe_images([data]) if data else (None,)
        pictures.append(picture)
        if picture is not None and picture.thumbnail is not None:
            with Image.open(io.BytesIO(data)) as opened:
                sizes.append(opened.size)
                formats[opened.format] += 1
        elif image is not None:
            unreadable.append((identity, Path(image.get("path") or "").name))
    missing = sum(image is None for image in rows.images)
    return pictures, {
        "present": len(rows.images) - missing,
        "missing": missing,
        "unreadable": unreadable,
        "sizes": np.array(sizes, dtype=int).reshape(-1, 2),
        "formats": dict(formats.most_common()),
    }


def contact_sheet(rows: Rows, pictures: list[Picture | None], heads: list[HeadConfig]) -> list[dict[str, Any]]:
    """Choose pictures of all classes in turn: `id`, `label`, `jpeg` (bytes, at most `TILE` pixels a side)."""
    head = finest_head(heads)
    members: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        if picture is not None and picture.thumbnail is not None:
            members[rows.first_label(head, row)].append(row)
    draw = random.Random(SEED)
    queues = [draw.sample(members[label], len(members[label])) for label in sorted(members)]
    chosen: list[int] = []
    while len(chosen) < SHEET and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    sheet = [
        {"id": rows.ids[row], "label": rows.first_label(head, row), "jpeg": thumbnail(rows.images[row], TILE)}
        for row in chosen[:SHEET]
    ]
    return sorted(sheet, key=lambda tile: tile["label"])


def image_sizes_png(sizes: np.ndarray) -> bytes:
    """Draw how wide and high pictures are: a bubble for each size, its area by the number of pictures."""
    distinct, count = np.unique(sizes, axis=0, return_counts=True)
    different = len(distinct)
    if different > 400:  # a cloud of single sizes: 40 steps a side show the same
        step = max(1, int(np.ceil(sizes.max() / 40)))
        distinct, count = np.unique(sizes // step * step + step // 2, axis=0, return_counts=True)
    figure, (axes,) = new_figure(4.6, 3.6)
    end = float(sizes.max()) * 1.12
    axes.plot([0, end], [0, end], color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    axes.scatter(*distinct.T, s=10 + 240 * count / count.max(), color=BLUE, alpha=0.35, zorder=2)
    plain(axes, x=(0, end), y=(0, end), grid="both")
    name_axes(axes, "width, pixels", "height, pixels")
    beside = {"xytext": (-4, -14), "textcoords": "offset points", "ha": "right"}
    axes.annotate("square", (end, end), fontsize=8, color=MUTED, **beside)
    width, height = np.median(sizes, axis=0).astype(int)
    titles(axes, "Picture sizes", f"{len(sizes):,} pictures of {different:,} sizes; the median is {width}×{height}")
    return to_png(figure)


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
