"""Encoders that are frozen, or learn from the top only, or block by block as training goes on."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from .base import Setting, Technique
from .rates import depth_of, encoder_of, steps_from_top


class Unfreezing(Technique, key="unfreezing"):
    """Train of each encoder its top blocks alone, from epoch to epoch more of them if asked (Howard & Ruder 2018,
    arXiv:1801.06146: gradual unfreezing).

    Batch norms of what is frozen keep their statistics. What comes after the last block learns with it; embeddings or
    stem learn where `blocks` is above the number of blocks.

    Args:
        blocks: so many of them learn; 0 trains fusion and heads alone.
        schedule: in place of that, so many in each epoch, such as `[0, 2, 99]`: the last number holds to the end.

    Raises:
        ValueError: for a negative number, or a schedule that freezes again what has learned.
    """

    off: ClassVar[tuple[Any, ...]] = ("none",)

    blocks: int = 0
    schedule: list[int] | None = None

    def __post_init__(self) -> None:
        self._counts = self.schedule or [self.blocks]
        whole = all(isinstance(count, int) and count >= 0 for count in self._counts)
        if not whole or self._counts != sorted(self._counts):
            raise ValueError(f"unfreezing needs whole numbers of blocks that never fall, not {self._counts}.")
        self._weights: list[tuple[int, nn.Parameter]] = []

    def begin(self, setting: Setting) -> None:
        """Tell several processes that not every weight takes part in every step."""
        super().begin(setting)
        if len(self._counts) > 1:
            setting.arguments.ddp_find_unused_parameters = True

    def model(self, model: nn.Module) -> nn.Module:
        """Freeze what never learns; what learns later is the optimizer's from the start."""
        names = [name for name, _ in model.named_parameters()]
        for name, weight in model.named_parameters():
            if (encoder := encoder_of(name)) and weight.requires_grad:
                self._weights.append((steps_from_top(name, depth_of(names, encoder)), weight))
        if self._counts[-1] and not self._weights:
            raise ValueError("unfreezing lets blocks learn, and all of the encoders is frozen before: leave one out.")
        self._release(self._counts[-1])
        return model

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Refuse adapters, which freeze the encoders' own weights themselves."""
        if any("lora_" in group["name"] for group in groups):
            raise ValueError("unfreezing and lora both say which weights learn: leave one of them out.")
        return groups

    def on_epoch_begin(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
        """Let as many blocks learn as this epoch says."""
        self._release(self._counts[min(int(state.epoch), len(self._counts) - 1)])

    def _release(self, blocks: int) -> None:
        for steps, weight in self._weights:
            weight.requires_grad_(steps < blocks)
