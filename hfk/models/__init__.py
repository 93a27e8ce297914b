"""Everything that travels to the Hub with a checkpoint; imports nothing else of hfk."""

from __future__ import annotations

import transformers  # noqa: F401 - before any module here: hfk registers the models as soon as it is there
