"""Built-in recipes, one YAML a recipe; see `hfk.training.arguments` for what may stand in them."""

from __future__ import annotations
