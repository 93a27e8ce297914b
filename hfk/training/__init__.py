"""Training: recipes, arguments, the trainer, and the run that ties them together."""

from __future__ import annotations
