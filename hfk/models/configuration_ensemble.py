"""The configuration of an ensemble: its members' configurations, who reads which input, and how votes are weighed.

What the members must have in common, their heads, is checked here; they may differ in everything else. The weights are
plain numbers in config.json, not tensors: a reader of the file sees who counts for what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from .configuration_multihead import (
    HeadConfig,
    MultiHeadConfig,
    drop_known_pipelines,
    keep_encoders,
    name_labels,
    read_heads,
    written_parts,
)


class MultiHeadEnsembleConfig(PreTrainedConfig):
    """Configuration of `MultiHeadEnsemble`.

    Args:
        members: the members' configurations, each a `MultiHeadConfig` or its dict; all with the same heads.
        readers: for each member, the number of the processor that prepares its input (see
            `MultiHeadEnsembleProcessor`); all read what processor 0 prepares by default.
        weights: head name → one number of 0 or more a member, not all 0; heads left out weigh all members alike.
        heads: the ensemble's heads; made from the members' by default (`common_heads`). Their temperatures apply to
            the ensemble's answer, after those of the members.
        **kwargs: passed to `PreTrainedConfig`.

    Example:
        >>> from transformers import BertConfig
        >>> member = MultiHeadConfig(text_config=BertConfig(), heads=[HeadConfig("topic", ["정치", "경제"])])
        >>> MultiHeadEnsembleConfig([member, member], weights={"topic": [1, 3]}).member_weights("topic")
        [0.25, 0.75]
    """

    model_type = "multi-head-ensemble"
    keys_to_ignore_at_inference = ["losses", "embedding"]  # noqa: RUF012

    def __init__(
        self,
        members: list[MultiHeadConfig | dict] | None = None,
        readers: list[int] | None = None,
        weights: dict[str, list[float]] | None = None,
        heads: list[HeadConfig | dict] | None = None,
        **kwargs: Any,
    ) -> None:
        self.members = [m if isinstance(m, MultiHeadConfig) else MultiHeadConfig.from_dict(m) for m in members or []]
        self.readers = [0] * len(self.members) if readers is None else list(readers)
        self.weights = {name: [float(weight) for weight in row] for name, row in (weights or {}).items()}
        self.heads = []
        if self.members:  # transformers builds a bare config to find defaults
            self.heads = read_heads(common_heads(self.members) if heads is None else heads)
            self._validate()
        drop_known_pipelines(kwargs)
        super().__init__(**kwargs)
        name_labels(self)

    def _validate(self) -> None:
        count, names = len(self.members), [head.name for head in self.heads]
        common_heads([*self.members, MultiHeadConfig(heads=self.heads)])
        if len(self.readers) != count or sorted(set(self.readers)) != list(range(max(self.readers) + 1)):
            raise ValueError(f"readers must number the processor of each of the {count} members, from 0, without gaps.")
        for name, row in self.weights.items():
            if name not in names:
                raise ValueError(f"weights name {name!r}, which is no head; heads: {', '.join(names)}.")
            if len(row) != count or not all(0 <= w < math.inf for w in row) or sum(row) <= 0:
                raise ValueError(f"head {name!r} needs {count} weights of 0 or more, one a member, and not all 0.")

    def member_weights(self, head: str) -> list[float]:
        """Return the members' weights for a head, summing to 1."""
        row = self.weights.get(head, [1.0] * len(self.members))
        return [weight / sum(row) for weight in row]

    head = MultiHeadConfig.head

    @property
    def text_config(self) -> PreTrainedConfig | None:
        """The first text encoder's configuration; None if no member reads text."""
        return next((member.text_config for member in self.members if member.text_config is not None), None)

    @property
    def vision_config(self) -> PreTrainedConfig | None:
        """The first vision encoder's configuration; None if no member reads images."""
        return next((member.vision_config for member in self.members if member.vision_config is not None), None)

    @property
    def embedding_size(self) -> int:
        """Width of the members' embeddings, side by side."""
        return sum(member.embedding_size for member in self.members)

    def to_dict(self) -> dict[str, Any]:
        """Serialize, members and heads included."""
        members = [member.to_dict() for member in self.members]
        for member in members:  # the ensemble's own entries say where its code is
            for name in ("auto_map", "custom_pipelines", "_name_or_path", "transformers_version"):
                member.pop(name, None)
        return super().to_dict() | written_parts(self.heads) | {"members": members}

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save as `PreTrainedConfig` does, with the code of those of hfk's own encoders that the members have."""
        super().save_pretrained(save_directory, **kwargs)
        keep_encoders(save_directory, self.members)


def common_heads(members: Sequence[MultiHeadConfig], names: Sequence[str] | None = None) -> list[HeadConfig]:
    """Make the heads of an ensemble from those of its members.

    Returns heads without dropout and temperature, which each member applies itself; path weights and a regression
    head's mean and deviation are the means of the members'. Where heads differ otherwise, a ValueError calls the
    members by `names`: "member 0", "member 1", … by default.
    """
    names = names or [f"member {number}" for number in range(len(members))]
    first = members[0].heads
    for name, member in zip(names[1:], members[1:], strict=True):
        mine, theirs = [head.name for head in first], [head.name for head in member.heads]
        if mine != theirs:
            raise ValueError(
                f"the heads differ: {names[0]} has {', '.join(mine)}; {name} has {', '.join(theirs)}. Only models of "
                "the same heads can vote together."
            )
        for one, two in zip(first, member.heads, strict=True):
            for option in ("problem", "labels", "parent", "parent_of"):
                if getattr(one, option) != getattr(two, option):
                    only = sorted(set(one.labels) ^ set(two.labels))
                    how = f" ({only[0]!r} is in one of them only)" if only else " (the same ones, in another order)"
                    raise ValueError(
                        f"head {one.name!r} has another `{option}` in {name} than in {names[0]}"
                        f"{how if option == 'labels' else ''}; only models of the same heads can vote together."
                    )
    heads = []
    for place, head in enumerate(first):
        same = [member.heads[place] for member in members]
        means = {name: sum(getattr(one, name) for one in same) / len(same) for name in ("path_weight", "mean", "std")}
        heads.append(replace(head, kind="linear", dropout=0.0, temperature=1.0, thresholds=None, **means))
    return heads


MultiHeadEnsembleConfig.register_for_auto_class()
