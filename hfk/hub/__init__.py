"""Where weights come from and where checkpoints go: backbones, model cards, publishing."""

from __future__ import annotations
