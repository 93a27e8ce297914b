"""The `datasets` builder behind every task: clean rows in, canonical Arrow columns out.

Kept apart from the code that touches files: `datasets` patches `open`, `Path` and friends in a builder's module, for
streaming from remote storage, and everything here is already in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import datasets

from ..models.configuration_multihead import HeadConfig
from .labels import encode_label, head_feature


@dataclass
class TaskBuilderConfig(datasets.BuilderConfig):
    """What `TaskBuilder` needs: clean frames by split (`source.CleanRows.frame`) and the final heads."""

    frames: dict[str, Any] = field(default_factory=dict)
    heads: list[HeadConfig] = field(default_factory=list)


class TaskBuilder(datasets.GeneratorBasedBuilder):
    """Writes a task's clean rows as an Arrow data set, or streams them.

    The columns are `id`, `text` (if the task has text), `image` (if it has pictures; paths or bytes, not decoded) and
    one column a head; see `head_feature`. The cache folder is named by the task and by a digest of the rows and heads.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = TaskBuilderConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=canonical_features(self.config.frames, self.config.heads))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=name, gen_kwargs={"split": name}) for name in self.config.frames]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        frame, heads = self.config.frames[split], self.config.heads
        plain = [name for name in ("id", "text", "image") if name in frame.columns]
        index = {head.name: {label: number for number, label in enumerate(head.labels)} for head in heads}
        soft = {head.name for head in heads if is_soft(self.config.frames, head)}
        names = [*plain, *index]
        for row, cells in enumerate(zip(*(frame[name] for name in names), strict=True)):
            values = dict(zip(names, cells, strict=True))
            for head in heads:
                values[head.name] = encode_label(values[head.name], head, index[head.name], head.name in soft)
            yield row, values


def canonical_features(frames: dict[str, Any], heads: list[HeadConfig]) -> datasets.Features:
    """The features of a task's data set.

    Args:
        frames: clean frames by split.
        heads: the final heads.
    """
    columns = next(iter(frames.values())).columns
    features: dict[str, Any] = {"id": datasets.Value("string")}
    if "text" in columns:
        features["text"] = datasets.Value("string")
    if "image" in columns:
        features["image"] = datasets.Image(decode=False)
    for head in heads:
        features[head.name] = head_feature(head, soft=is_soft(frames, head))
    return datasets.Features(features)


def is_soft(frames: dict[str, Any], head: HeadConfig) -> bool:
    """Whether any row of a `single_label` head carries a distribution instead of a label."""
    return head.problem == "single_label" and any(
        isinstance(value, list) for frame in frames.values() for value in frame[head.name]
    )
