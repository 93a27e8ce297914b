"""Imports the text cleaning; in a checkpoint that cleans no text that line is left out, and the module stays behind."""

from __future__ import annotations

TextCleaner = None
from .text_cleaning import TextCleaner  # noqa: E402, F401, F811
