"""What a checkpoint's configuration would run, checked before anything of it is loaded.

With `trust_remote_code`, transformers imports what `auto_map` and `custom_pipelines` name, even from another
repository, which a pinned revision does not pin; and an attention implementation that names a Hub kernel downloads and
runs code without being asked at all. A config file is therefore code. Here it is read as JSON only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

_CODE = ("auto_map", "custom_pipelines")
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def check_remote_code(config: dict[str, Any], source: str, allow_foreign_code: bool = False) -> None:
    """Refuse a parsed config.json, processor_config.json or the like that would run code from elsewhere; ValueError.

    Nested configurations are checked too. An `auto_map` that names `source` itself, a repository's id or a folder, is
    its own.

    Example:
        >>> check_remote_code({"auto_map": {"AutoModel": "modeling.Model"}}, "owner/name")
        >>> check_remote_code({"auto_map": {"AutoModel": "else/where--modeling.Model"}}, "owner/name")
        Traceback (most recent call last):
        ValueError: owner/name: auto_map would run code from another repository, 'else/where'; ...
    """
    if allow_foreign_code:
        return
    for path, reference in _strings(config):
        for depth, key in enumerate(path, 1):
            repository, marked, _ = reference.rpartition("--")
            if key in _CODE and marked and repository != source:
                what = f"code from another repository, {repository!r}"
            elif key.removeprefix("_").removesuffix("_internal") in _IMPLEMENTATIONS and set("/:") & set(reference):
                what = f"a kernel from the Hub, {reference!r}"
            else:
                continue
            raise ValueError(
                f"{source}: {'.'.join(path[:depth])} would run {what}; if you trust it, allow it with "
                "--allow-foreign-code."
            )


def code_files(folder: Path, *configs: dict[str, Any]) -> set[str]:
    """List the files of remote code that a folder's configurations need, relative imports included; none may lack."""
    needed: set[str] = set()
    for field, config in product(_CODE, configs):
        for _, reference in _strings(config.get(field)):
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


def _strings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every string in what was parsed, with the keys that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*path, str(key)))
