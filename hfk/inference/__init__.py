"""Inference: classify many rows fast, in order, with bounded memory."""

from __future__ import annotations
