"""What the files of a checkpoint would do to whoever loads it, looked at before any of them is loaded.

A config file is code: `auto_map` and `custom_pipelines` name what is imported, even from another repository, which a
pinned revision does not pin; an attention implementation that names a Hub kernel is downloaded and run unasked; an
adapter's configuration puts other weights in the place of these. An index of shards may name files anywhere, a header
of weights may be larger than memory, and a pickle runs whatever it likes. Here all of them are read as JSON only.

Model and processor look before they load (`CheckedModel`), so that no way to load a checkpoint leads around it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite, prod
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers.utils import cached_file

from .checked_tokenizer import check_tokenizer

CONFIGS = (
    "config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json",
    "generation_config.json",
)  # fmt: skip
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack")
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
MAX_HEADER_BYTES, MAX_TENSORS = 16 * 1024**2, 100_000
"""Of a file of weights: a hundred times what an ensemble of large encoders has."""
MAX_CONFIG_BYTES = 16 * 1024**2
"""Of a configuration: a head of a hundred thousand labels has five million."""
MAX_NUMBER, MAX_LABELS, MAX_LAYERS = 10**10, 100_000, 10_000
"""Of a configuration, whose numbers become lists of that length; sizes are counted while a model is built."""
MAX_SIDE = 4_096
"""Pixels a side of what a picture is made into for an encoder."""

CODE = ("auto_map", "custom_pipelines")
"""What of a configuration names code."""
_ORIGIN = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies")
_SIDES = ("size", "crop_size", "pad_size", "height", "width", "shortest_edge", "longest_edge")
_OWN_CODE = ("config.json", "processor_config.json")  # which may name the code that lies beside them
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


class CheckedModel:
    """Base of models that are loaded from checked safetensors only, by the installed code or that of the checkpoint."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, as transformers does; a ValueError if its files would do more than that."""
        source = pretrained_model_name_or_path
        check_configs(source, **kwargs)
        tensors, numbers = check_weights(source, **kwargs)
        kwargs |= {"use_safetensors": True, "trust_remote_code": False}
        with no_larger(tensors, numbers, str(source)), one_sentence(str(source)):
            return super().from_pretrained(source, *args, **kwargs)


@contextmanager
def one_sentence(source: str) -> Iterator[None]:
    """Make one sentence, a ValueError, of whatever the values in a checkpoint's files make their readers raise."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".: ")[:300] or type(error).__name__
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other sizes than its configuration says"
        raise ValueError(f"{source} is damaged: {reason}.") from error


_budget = threading.local()  # of the model that a thread is building: modules and numbers that are left


@contextmanager
def no_larger(tensors: int, numbers: int, source: str) -> Iterator[None]:
    """Refuse, while it is being built, a model of far more layers or numbers than its weights have; ValueError."""
    _count_what_is_built()
    before = getattr(_budget, "left", None)
    _budget.left = {"source": source, "modules": 50 * tensors + 1_000, "numbers": 4 * numbers + 1_000_000}
    try:
        yield
    finally:
        _budget.left = before


@functools.cache
def _count_what_is_built() -> None:
    """Once, and for good: hooks that come and go would disturb other threads."""

    def spend(kind: str, count: int) -> None:
        left = getattr(_budget, "left", None)
        if left is not None:
            left[kind] -= count
            if left[kind] < 0:
                raise ValueError(f"{left['source']}: config.json describes a far larger model than the weights are of.")

    def parameter(module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is not None and value.is_meta:  # as long as it is only built
            spend("numbers", value.numel())

    register_module_parameter_registration_hook(parameter)
    register_module_module_registration_hook(lambda *_: spend("modules", 1))


def check_configs(
    source: str | os.PathLike, allow_foreign_code: bool = False, repo_id: str | None = None, **options: Any
) -> None:
    """Refuse a checkpoint whose configurations would run code that is not its own, or load other weights; ValueError.

    Args:
        source: folder or Hub id.
        allow_foreign_code: accept code from other repositories, and Hub kernels.
        repo_id: what it is called on the Hub, if `source` is a copy of that.
        **options: those of `from_pretrained` that say where its files are (`revision`, `subfolder`, …) count.
    """
    for name in CONFIGS:
        config = _read(source, name, options)
        if name != "tokenizer_config.json":  # whose model_max_length may be any
            check_sizes(config, f"{source}: {name}")
        check_remote_code(config, repo_id or str(source), allow_foreign_code)
        for path, _ in strings(config) if not allow_foreign_code else ():
            if "auto_map" in path and (name not in _OWN_CODE or (path[0] != "auto_map" and name != "config.json")):
                raise ValueError(
                    f"{source}: {'.'.join(path)} of {name} would have code take the place of a tokenizer or an image "
                    "processor, which no checkpoint of hfk needs."
                )
    check_tokenizer_of(source, **options)
    _refuse_adapter(source, options)


def check_tokenizer_of(source: str | os.PathLike, **options: Any) -> None:
    """Refuse the tokenizer.json of a folder or Hub id, if there is one, as `check_tokenizer` does; ValueError."""
    path = _find(source, "tokenizer.json", options)
    if path is not None:
        check_tokenizer(path, f"{source}: tokenizer.json")


def check_sizes(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration whose numbers would take memory or time without measure, or that loads more; ValueError.

    Example:
        >>> check_sizes({"text_config": {"num_labels": 10**9}}, "config.json")
        Traceback (most recent call last):
        ValueError: config.json: text_config.num_labels is 1e+09; 100,000 is the most that is read.
    """
    for path, value in _leaves(config):
        key = path[-1]
        most = MAX_SIDE if key in _SIDES else MAX_LABELS if key == "num_labels" else MAX_NUMBER
        if "layers" in key or "depth" in key:
            most = MAX_LAYERS
        if isinstance(value, int | float) and not (
            abs(value) <= most or (isinstance(value, float) and isfinite(value))
        ):
            raise ValueError(f"{where}: {'.'.join(path)} is {value:.4g}; {most:,} is the most that is read.")
        if (key == "use_pretrained_backbone" and value) or "quantization_config" in path:
            raise ValueError(f"{where}: {'.'.join(path)} would have other weights, or other code, take part.")


def check_encoder(source: str | os.PathLike, **options: Any) -> tuple[int, int]:
    """Refuse an encoder, a folder or Hub id that a user names, as `check_configs` and `check_weights` do; ValueError.

    Code of its own runs only with `trust_remote_code`, and what its tokenizer would run counts for nothing. Returns
    what `check_weights` does.
    """
    config = _read(source, CONFIGS[0], options)
    check_sizes(config, f"{source}: {CONFIGS[0]}")
    check_remote_code(config, str(source), bool(options.get("trust_remote_code")))
    _refuse_adapter(source, options)
    return check_weights(source, **options)


def _refuse_adapter(source: str | os.PathLike, options: dict[str, Any]) -> None:
    if _find(source, ADAPTER, options) is not None:
        raise ValueError(
            f"{source} has an {ADAPTER}, which would change its weights or put another model's in their place: merge "
            "the adapter and save the model, or take the file away."
        )


def check_weights(source: str | os.PathLike, **options: Any) -> tuple[int, int]:
    """Refuse weights that are pickled, lie elsewhere, are cut off, or have a header without measure; ValueError.

    The arguments are those of `check_configs`. A checkpoint without weights is left to whoever loads it.

    Returns:
        how many tensors and numbers the weights are.
    """
    whole = _find(source, WHOLE, options)
    if whole is not None:
        return check_header(whole, f"{source}: {WHOLE}")
    if _find(source, INDEX, options) is not None:
        names = shards(_read(source, INDEX, options), f"{source}: {INDEX}")
        found = [(_find(source, name, options), name) for name in names]  # it is said elsewhere who needs the others
        counts = [check_header(path, f"{source}: {name}") for path, name in found if path is not None]
        return sum(tensors for tensors, _ in counts), sum(numbers for _, numbers in counts)
    pickled = sorted(path.name for path in Path(source).glob("*") if path.suffix in PICKLES)
    if pickled:
        raise ValueError(
            f"{source} has no {WHOLE}, only the pickle {pickled[0]}, which could run any code when it is read: ask for "
            "safetensors, or load it where you trust it and save it again."
        )
    return 0, 0


def shards(index: dict[str, Any], where: str) -> list[str]:
    """Return the names of the files that an index of weights leads to; ValueError if one is no shard beside it."""
    found = index.get("weight_map")
    names = sorted(set(map(str, found.values()))) if isinstance(found, dict) else []
    if not names or not all(map(SHARD.fullmatch, names)):
        raise ValueError(f"{where} is damaged: it names no shards in its own folder; save the checkpoint again.")
    return names


def check_header(path: str | os.PathLike, where: str) -> tuple[int, int]:
    """Refuse a file of safetensors that is cut off, or whose header has no measure; a ValueError that says `where`.

    Returns how many tensors and numbers it holds.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and length > MAX_HEADER_BYTES:
            raise ValueError(f"{where} has a header of {length:,} bytes; {MAX_HEADER_BYTES:,} are allowed.")
        content = file.read(length)
        if content.count(b"data_offsets") > MAX_TENSORS:  # before all of them become objects
            raise ValueError(f"{where} has more than {MAX_TENSORS:,} tensors, which is no model.")
        try:
            header = json.loads(content)
            entries = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max((entry["data_offsets"][1] for entry in entries), default=0)
            numbers = sum(prod(entry["shape"]) for entry in entries)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise ValueError(f"{where} is damaged, so the checkpoint is not whole: copy it again.") from None
    if end != size - 8 - length:
        raise ValueError(f"{where} is cut off, so the checkpoint is not whole: copy it again.")
    return len(entries), numbers


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
    for path, reference in strings(config):
        for depth, key in enumerate(path, 1):
            repository, marked, _ = reference.rpartition("--")
            if key in CODE and marked and repository != source:
                what = f"code from another repository, {repository!r}"
            elif key.removeprefix("_").removesuffix("_internal") in _IMPLEMENTATIONS and set("/:") & set(reference):
                what = f"a kernel from the Hub, {reference!r}"
            else:
                continue
            raise ValueError(
                f"{source}: {'.'.join(path[:depth])} would run {what}; if you trust it, allow it with "
                "--allow-foreign-code."
            )


def _read(source: str | os.PathLike, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Read one of a checkpoint's JSON files, {} without it; what can't be read is left to whoever loads it."""
    path = _find(source, name, options)
    if path is None:
        return {}
    size, most = os.path.getsize(path), MAX_CONFIG_BYTES if name != INDEX else 4 * MAX_HEADER_BYTES
    if size > most:
        raise ValueError(f"{source}: {name} has {size:,} bytes; {most:,} are allowed.")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{source}: {name} is nested too deeply to be a configuration.") from None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _find(source: str | os.PathLike, name: str, options: dict[str, Any]) -> str | None:
    """Where a file of a checkpoint lies, fetched if need be; None if it has none."""
    below = options.get("subfolder") or ""
    if os.path.isdir(source):
        path = os.path.join(source, below, name)
        return path if os.path.isfile(path) else None
    origin = {key: options[key] for key in _ORIGIN if options.get(key) is not None}
    tolerant = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "connection_errors")}
    return cached_file(str(source), name, subfolder=below, **origin, **tolerant)


def strings(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every string in what was parsed, with the keys that lead to it."""
    return ((path, found) for path, found in _leaves(value) if isinstance(found, str))


def _leaves(value: Any, path: tuple[str, ...] = ("",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path[1:] or path, value
