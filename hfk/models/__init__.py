"""Everything that travels to the Hub with a checkpoint; imports nothing else of hfk."""

from __future__ import annotations
