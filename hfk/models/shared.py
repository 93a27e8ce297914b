"""What several modules here need: checks of options, and the choice of the modules that travel with a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters of the Unicode category Cc."""


def check_choice(what: str, value: Any, known: Collection[str | None]) -> None:
    """Refuse a value that is none of `known`; ValueError."""
    if value not in known:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(map(str, known))}.")


def check_range(options: Any, *names: str, high: float = 1, where: str = "") -> None:
    """Refuse options outside of [0, high), by default those that are no share such as a dropout probability."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < high:
            raise ValueError(f"{where}{name} must be in [0, {high}), not {value}.")


def check_fields(where: str, values: Collection[str], known: Collection[str]) -> None:
    """Refuse fields of a saved file that this version doesn't know; ValueError."""
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"{where} has the field {unknown[0]!r}, which is not known here: if a newer hfk saved the checkpoint, "
            "upgrade (pip install -U hfk)."
        )


def keep_imports(folder: Path, module: str, needed: Collection[str]) -> None:
    """Take out of a saved checkpoint the modules that only others need.

    Transformers copies what a module imports, and reads that off its lines `from .name import …`. Of those in
    `folder / module`, the ones of `needed` stay; then the modules go to which no way leads any more.
    """
    path = folder / f"{module}.py"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    dropped = {line for line in lines if (found := re.match(r"from \.(\w+) import", line)) and found[1] not in needed}
    before = set(get_relative_import_files(path))
    path.write_text("".join(line for line in lines if line not in dropped), encoding="utf-8")
    others = {str(other) for other in folder.glob("*.py")} - before
    reached = others.union(*map(get_relative_import_files, others))
    for file in before - reached:
        Path(file).unlink()
