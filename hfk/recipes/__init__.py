"""Built-in recipes, one YAML a recipe; see `hfk.runs.recipe` for what may stand in them."""

from __future__ import annotations
