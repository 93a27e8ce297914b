"""What a checkpoint's configuration would run, checked before anything of it is loaded.

With `trust_remote_code`, transformers imports what `auto_map` and `custom_pipelines` name, even from another
repository, which a pinned revision does not pin; and an attention implementation that names a Hub kernel downloads and
runs code without being asked at all. A config file is therefore code. Here it is read as JSON only.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        ValueError: owner/name: auto_map would run code from another repository, 'else/where'; …
    """
    if allow_foreign_code:
        return
    for field, value in _fields(config):
        code = field.rpartition(".")[2] in _CODE
        for reference in _strings(value):
            repository, marked, _ = reference.rpartition("--")
            if code and marked and repository != source:
                what = f"code from another repository, {repository!r}"
            elif not code and ("/" in reference or ":" in reference):
                what = f"a kernel from the Hub, {reference!r}"
            else:
                continue
            raise ValueError(
                f"{source}: {field} would run {what}; if you trust it, allow it with --allow-foreign-code."
            )


def code_files(folder: Path, *configs: dict[str, Any]) -> set[str]:
    """List the files of remote code that a folder's configurations need, relative imports included; none may lack."""
    references = [(field, text) for config in configs for field in _CODE for text in _strings(config.get(field))]
    needed: set[str] = set()
    for field, reference in references:
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


def _fields(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field that names code, at any depth, with its dotted path."""
    if isinstance(config, list):
        for item in config:
            yield from _fields(item, path)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        here = f"{path}.{key}" if path else str(key)
        if key in _CODE or str(key).removeprefix("_").removesuffix("_internal") in _IMPLEMENTATIONS:
            yield here, value
        else:
            yield from _fields(value, here)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
