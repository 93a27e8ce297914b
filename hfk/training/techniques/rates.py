"""Which weights learn how fast.

Fusion and heads start from nothing and learn fast; encoders are pretrained and learn slowly, lower layers the slower
the deeper they lie.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from .base import Technique

LAYER = re.compile(r"\.(?:layers?|h|blocks?|stages?)\.(\d+)\.")
ENCODERS = ("text_encoder", "vision_encoder")


class HeadLearningRate(Technique, key="head_learning_rate", default=True):
    """A learning rate of its own for fusion and heads.

    Args:
        rate: the rate; ten times `learning_rate` by default.
    """

    off: ClassVar[tuple[Any, ...]] = ()

    rate: float | None = None

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give what is in no encoder this rate."""
        rate = self.rate if self.rate is not None else 10 * self.setting.arguments.learning_rate
        return [group if encoder_of(group["name"]) else group | {"lr": rate} for group in groups]


class LayerDecay(Technique, key="layer_decay"):
    """Slower learning the deeper an encoder's layer lies (Howard & Ruder 2018, arXiv:1801.06146: discriminative rates).

    Args:
        factor: learning rate of each layer relative to the one above it, in (0, 1].
    """

    off: ClassVar[tuple[Any, ...]] = ()

    factor: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.factor <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], not {self.factor}.")

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Lower the encoders' rates by depth."""
        names = [group["name"] for group in groups]
        depth = {encoder: depth_of(names, encoder) for encoder in ENCODERS}
        return [
            group | {"lr": group["lr"] * self.factor ** steps_from_top(group["name"], depth[encoder])}
            if (encoder := encoder_of(group["name"]))
            else group
            for group in groups
        ]


def encoder_of(name: str) -> str | None:
    """Which encoder a weight of this name is in; None for fusion and heads."""
    return next((encoder for encoder in ENCODERS if f"{encoder}." in name), None)


def depth_of(names: list[str], encoder: str) -> int:
    """Count an encoder's layers, by the names of all weights."""
    found = [int(match.group(1)) for name in names if f"{encoder}." in name and (match := LAYER.search(name))]
    return max(found, default=-1) + 1


def steps_from_top(name: str, depth: int) -> int:
    """0 for the top layer and what comes after it, `depth` for the embeddings and what comes before the first layer."""
    if match := LAYER.search(name):
        return depth - 1 - int(match.group(1))
    return depth if re.search(r"embed|stem", name) else 0
