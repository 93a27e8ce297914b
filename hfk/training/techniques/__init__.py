"""What may change training: one technique a file, named by its key in a recipe."""

from __future__ import annotations
