"""What may change training, one technique a file; importing this package registers them all (see `base.Technique`)."""

from __future__ import annotations

from . import (  # noqa: F401
    averaging,
    calibration,
    distillation,
    early_stopping,
    eda,
    extraction,
    features,
    fitted_heads,
    lora,
    mixing,
    modalities,
    pictures,
    r_drop,
    rare_classes,
    rates,
    sampling,
    thin,
    unfreezing,
)
from .base import TECHNIQUES, Setting, Technique, make_techniques

__all__ = ["TECHNIQUES", "Setting", "Technique", "make_techniques"]
