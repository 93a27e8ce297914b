"""One byte a number for the vectors of pieces, when training has ended."""

from __future__ import annotations

from typing import Any

from ...models.modeling_morphemes import MorphemesModel
from .base import Technique


class Int8Embeddings(Technique, key="int8_embeddings", default=True):
    """Save the vectors of a `morphemes` encoder in one byte a number, a quarter of the size; scores are taken after it.

    This file is imported, and so the technique's turn comes, before the calibration of what is saved.
    """

    def finish(self, trainer: Any) -> None:
        """Bring them to one byte."""
        encoder = getattr(trainer.model, "text_encoder", None)
        if isinstance(encoder, MorphemesModel):
            encoder.compact()
            trainer.model.config.text_config.num_trained = 0
