"""Imports the encoders of hfk's own, which enter themselves in `ENCODERS`.

In a checkpoint, only the lines of the encoders that it has are left, so that no others travel (`shared.keep_imports`).
"""

from __future__ import annotations

from .encoder_base import ENCODERS
from .modeling_cnn import CNNModel, MLPModel  # noqa: F401
from .modeling_efficientnet_lite import EfficientNetLiteModel  # noqa: F401
from .modeling_morphemes import MorphemesModel  # noqa: F401
from .modeling_ngram import NGramModel  # noqa: F401
from .modeling_recurrent import RecurrentModel  # noqa: F401
from .modeling_side_by_side import SideBySideModel, SideBySideVisionModel  # noqa: F401
from .modeling_textcnn import TextCNNModel  # noqa: F401

__all__ = ["ENCODERS"]
