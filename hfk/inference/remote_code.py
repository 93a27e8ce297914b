"""The code that travels with a checkpoint: which of its files the configurations need.

What a checkpoint's files would do is checked by `hfk.models.checked_files`, which travels with it.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from ..models.checked_files import CODE, strings


def code_files(folder: Path, *configs: dict[str, Any]) -> set[str]:
    """List the files of remote code that a folder's configurations need, relative imports included; none may lack."""
    needed: set[str] = set()
    for field, config in product(CODE, configs):
        for _, reference in strings(config.get(field)):
            module, dot, _ = reference.rpartition("--")[2].partition(".")
            if dot:  # else the name of an Auto class, in custom_pipelines
                _require(folder, f"{module}.py", field)
                needed.add(f"{module}.py")
    for name in sorted(needed):
        try:
            imported = get_relative_import_files(folder / name)
        except FileNotFoundError as error:
            _require(folder, Path(error.filename).name, name)
            raise
        for path in imported:
            _require(folder, Path(path).name, name)
            needed.add(Path(path).name)
    return needed


def _require(folder: Path, name: str, needed_by: str) -> None:
    if not (folder / name).is_file():
        raise ValueError(f"{folder / name} is missing, which {needed_by} needs: save the checkpoint again.")
