"""How good a model is: what it said, scores, calibration, pictures, and the report folder."""

from __future__ import annotations
