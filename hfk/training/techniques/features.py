"""The encoders' features before the first step: standardized, and batch norms left as they were pretrained."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from .base import Technique


class Standardization(Technique, key="standardize_rows", default=True):
    """Measure the encoders' features on some training rows, so that fusion and heads start from standardized ones.

    Args:
        count: how many rows, drawn by the seed; 0 leaves the features as they are.
    """

    count: int = 512

    def model(self, model: Any) -> Any:
        """Measure; see `MultiHeadForClassification.standardize`."""
        rows, arguments = self.setting.rows.get("train"), self.setting.arguments
        if rows is not None:
            chosen = rows.shuffle(arguments.seed).select(range(min(self.count, len(rows))))
            model.to(arguments.device).standardize(
                DataLoader(chosen, arguments.per_device_eval_batch_size, collate_fn=self.setting.collator)
            )
        return model


class FrozenBatchNorm(Technique, key="freeze_batch_norm"):
    """Keep the vision encoder's batch norms as they were pretrained.

    The statistics of small batches are noisy, and those that service uses follow them slowly.
    """

    def model(self, model: Any) -> Any:
        """Freeze them; the model's `train` then leaves their statistics alone too."""
        for module in model.vision_encoder.modules() if model.vision_encoder is not None else ():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        return model
