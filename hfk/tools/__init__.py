"""One file a command beyond the core; the core imports no tool, and no tool another."""

from __future__ import annotations
