"""What may change training, one technique a file; importing this package registers them all (see `base.Technique`)."""

from __future__ import annotations

from .averaging import Ema
from .base import TECHNIQUES, Setting, Technique, make_techniques
from .calibration import Calibration
from .distillation import Distillation
from .early_stopping import EarlyStopping
from .eda import EasyDataAugmentation
from .features import FrozenBatchNorm, Standardization
from .lora import Lora
from .modalities import ModalityDropout, ModalityLoss
from .pictures import ImageAugmentation
from .r_drop import RDrop
from .rare_classes import ClassWeights, Focal, HierarchyLoss, LabelSmoothing, LogitAdjustment
from .rates import HeadLearningRate, LayerDecay
from .sampling import Sampling

__all__ = [
    "TECHNIQUES",
    "Calibration",
    "ClassWeights",
    "Distillation",
    "EarlyStopping",
    "EasyDataAugmentation",
    "Ema",
    "Focal",
    "FrozenBatchNorm",
    "HeadLearningRate",
    "HierarchyLoss",
    "ImageAugmentation",
    "LabelSmoothing",
    "LayerDecay",
    "LogitAdjustment",
    "Lora",
    "ModalityDropout",
    "ModalityLoss",
    "RDrop",
    "Sampling",
    "Setting",
    "Standardization",
    "Technique",
    "make_techniques",
]
