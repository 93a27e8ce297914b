"""One byte a number for the vectors of pieces, when training has ended."""

from __future__ import annotations

from typing import Any

from ...models.modeling_morphemes import MorphemesModel
from .base import Technique


class Int8Embeddings(Technique, key="int8_embeddings", default=True):
    """Save the vectors of a `morphemes` encoder in one byte a number; imported, and so done, before calibration."""

    def finish(self, trainer: Any) -> None:
        """Bring them to one byte; scores are taken after it."""
        if isinstance(encoder := trainer.model.text_encoder, MorphemesModel):
            encoder.compact()
            trainer.model.config.text_config.num_trained = 0
