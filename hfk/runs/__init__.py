"""A run is a folder that can be reopened: its recipe, rows, model, predictions, report and card."""

from __future__ import annotations
