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
    """Refuse a configuration that would run code from outside its own repository.

    Args:
        config: the parsed config.json, processor_config.json or tokenizer_config.json; nested configurations are
            checked too.
        source: the repository's id or the folder; an `auto_map` that names this very id is its own.
        allow_foreign_code: let everything pass.

    Raises:
        ValueError: naming the field and the other repository.

    Example:
        >>> check_remote_code({"auto_map": {"AutoModel": "modeling.Model"}}, "owner/name")
        >>> check_remote_code({"auto_map": {"AutoModel": "else/where--modeling.Model"}}, "owner/name")
        Traceback (most recent call last):
        ValueError: owner/name: auto_map would run code from another repository, 'else/where'; …
    """
    if allow_foreign_code:
        return
    for field, value in _fields(config):
        name = field.rpartition(".")[2].removeprefix("_").removesuffix("_internal")
        for reference in _strings(value):
            repository, marked, _ = reference.rpartition("--")
            if name in _CODE and marked and repository != source:
                raise ValueError(
                    f"{source}: {field} would run code from another repository, {repository!r}; if you trust it, allow "
                    "it with --allow-foreign-code."
                )
            if name in _IMPLEMENTATIONS and ("/" in reference or ":" in reference):
                raise ValueError(
                    f"{source}: {field} would run a kernel from the Hub, {reference!r}; if you trust it, allow it with "
                    "--allow-foreign-code."
                )


def code_files(folder: Path, *configs: dict[str, Any]) -> set[str]:
    """List the files of remote code that a folder's configurations need, their relative imports included.

    Raises:
        ValueError: if one of them is missing.
    """
    needed: set[str] = set()
    for config in configs:
        for field in _CODE:
            for reference in _strings(config.get(field)):
                module, dot, _ = reference.rpartition("--")[2].partition(".")
                if not dot:  # the name of an Auto class, in custom_pipelines
                    continue
                _require(folder, f"{module}.py", field)
                needed.add(f"{module}.py")
    for name in sorted(needed):
        for path in _closure(folder / name):
            _require(folder, path.name, name)
            needed.add(path.name)
    return needed


def _closure(module: Path) -> list[Path]:
    try:
        return [Path(path) for path in get_relative_import_files(module)]
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing, which {module.name} needs: save the checkpoint again."
        ) from None


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
