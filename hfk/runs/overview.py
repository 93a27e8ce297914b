"""What a run will learn from what: one short table before its first step."""

from __future__ import annotations

from datasets import DatasetDict

from ..evaluation.report import aligned
from ..models.configuration_multihead import HeadConfig
from ..models.processing_multihead import MultiHeadProcessor
from ..tasks.labels import label_arrays

_TEXTS = 1000  # whose lengths are looked at
_SHOWN = 5
_READ = {"head": "beginning is read", "tail": "end is read", "middle": "beginning and the end are read, half of either"}


def overview(data: DatasetDict, heads: list[HeadConfig], processor: MultiHeadProcessor) -> str:
    """Count the rows of each split and head; say what has no labels, or no training row, and which texts are cut."""
    arrays = {split: label_arrays(rows, heads) for split, rows in data.items()}
    lines, remarks = [["", *data], ["rows", *(f"{len(rows):,}" for rows in data.values())]], []
    bare = list(data) if heads else []  # translators have none
    for head in heads:
        read = {split: head.rules.read(found.get(head.name)) for split, found in arrays.items()}
        lines.append([head.name, *(f"{int(present.sum()):,}" for present, _ in read.values())])
        bare = [split for split in bare if not read[split][0].any()]
        present, target = read.get("train", next(iter(read.values())))
        counts = head.rules.counts(target[present]) if present.any() else ()
        never = [label for label, count in zip(head.labels, counts, strict=False) if not count]
        if never:
            shown = ", ".join(never[:_SHOWN]) + (", …" if len(never) > _SHOWN else "")
            remarks.append(f"{len(never):,} of {len(head.labels):,} labels of {head.name} ({shown})")
    said = [f"no row of {' and of '.join(bare)} has a label: nothing is scored there"] if bare else []
    said += [f"without a training row: {'; '.join(remarks)}"] if remarks else []
    return "\n".join([aligned(lines), *said, *_cut(data, processor)])


def _cut(data: DatasetDict, processor: MultiHeadProcessor) -> list[str]:
    rows = data.get("train", next(iter(data.values())))
    if "target" in rows.column_names or processor.tokenizer is None or "text" not in rows.column_names:
        return []
    texts = rows.select(range(0, len(rows), max(1, len(rows) // _TEXTS)))["text"]
    texts = [processor.text_prefix + text for text in texts if text]
    lengths = [len(ids) for ids in processor.tokenizer(texts, verbose=False)["input_ids"]] if texts else []
    longer = sum(length > processor.max_length for length in lengths)
    if not longer:
        return []
    of = (
        f"{longer:,} of {len(lengths):,} texts"
        if len(rows) <= _TEXTS
        else f"about {longer / len(lengths):.0%} of texts"
    )
    return [
        f"{of} are longer than max_length {processor.max_length} (the longest seen has {max(lengths):,} tokens); of "
        f"them the {_READ[processor.truncation]} (`truncation: {processor.truncation}`)"
    ]
