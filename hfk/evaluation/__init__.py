"""How good a model is: metrics, pictures, and the report folder.

`metrics` turns logits and labels into flat scores, `modules` offers the same numbers as `evaluate` modules, `plots`
draws them as PNG, and `report` writes one folder for people to read. Imports `hfk.models` and nothing later.
"""

from __future__ import annotations
