"""What frozen encoders make of every row, computed once and kept on the disk, so that training takes seconds.

A file holds the features of one encoder for one set of texts or pictures, whatever the split, the heads or the seed; so
folds, seeds and kinds of heads share it. The encoders stay in the model: they pass on what was computed where a batch
brings that, and encode where it brings pixels or tokens, so that the finished checkpoint is like any other.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.modeling_outputs import BaseModelOutput

from ...backbones.registry import cache_folder
from ...files import replacing
from ...models.image_preparation import split_box
from ...models.processing_ensemble import processor_state
from ...models.processing_multihead import RowError, is_absent
from .base import Setting, Technique

_VERSION = 1  # of what the files hold


class FrozenFeatures(Technique, key="frozen_features"):
    """Freeze the encoders and encode every text and every picture of all splits before the first step, once.

    The files lie beside the prepared backbones, in `features`, named after the encoder's weights, the preparation of
    its input, the pooling, the precision and the texts or pictures themselves; they may be deleted at any time.

    Raises:
        ValueError: where something else trains the encoders or changes their input, or all tokens are fused.
    """

    def begin(self, setting: Setting) -> None:
        """Have batches made of features, those of evaluation too."""
        super().begin(setting)
        self._rows: dict[str, dict[Hashable, int]] = {}  # side → text or picture → its row among the features
        self._features: dict[str, Tensor] = {}
        self._seconds: dict[str, float] = {}
        if "train" in setting.rows:
            setting.collator = setting.collator.reading(self._read)

    def model(self, model: Any) -> Any:
        """Freeze the encoders, and encode what the cache does not have. Registered before what looks at features."""
        config, arguments = model.config, self.setting.arguments
        pooling = {"text": config.text_pooling, "image": config.image_pooling}
        sides = {"text": model.text_encoder, "image": model.vision_encoder}
        sides = {side: encoder for side, encoder in sides.items() if encoder is not None}
        if config.fusion == "tokens" or any(pooling[side] == "attention" for side in sides):
            raise ValueError(
                "frozen_features keeps one vector a text or picture: fusion must be pooled or gated, and text_pooling "
                "cls, mean or max."
            )
        model.to(arguments.device)
        for side, encoder in sides.items():
            encoder.requires_grad_(False)
            cells = self._cells(side)
            self._rows[side] = {key: number for number, key in enumerate(cells)}
            path = cache_folder().with_name("features") / f"{self._digest(side, encoder, pooling[side])}.safetensors"
            with arguments.main_process_first(desc="encoding"):
                if not path.is_file():
                    self._encode(model, side, list(cells.values()), path)
            with safe_open(path, "pt") as file:
                self._features[side] = file.get_tensor("features")
                self._seconds[side] = float(file.metadata()["seconds"])
            _let_pass(encoder)
        return model

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Refuse what trains the encoders."""
        for name in (group["name"] for group in groups):
            if "text_encoder." in name or "vision_encoder." in name:
                raise ValueError(f"frozen_features keeps the encoders as they are, and {name} is trained: drop one.")
        return groups

    def facts(self) -> dict[str, Any]:
        """Return how long the features took when they were computed, whichever run did that."""
        return {"preparation_seconds": round(sum(self._seconds.values()), 1)}

    def _cells(self, side: str) -> dict[Hashable, Any]:
        """Every text or picture of all splits once, by what it is known by in a row; texts in order of length."""
        cells: dict[Hashable, Any] = {}
        for rows in self.setting.rows.values():
            for cell in rows[side] if side in rows.column_names else ():
                if not (is_absent(cell) if side == "image" else self.setting.processor.clean(cell) is None):
                    cells[_key(cell)] = cell
        return dict(sorted(cells.items(), key=lambda item: (len(item[0]) if side == "text" else 0, str(item[0]))))

    def _digest(self, side: str, encoder: nn.Module, pooling: str) -> str:
        """Name what the features of a side depend on."""
        about = [_VERSION, side, pooling, self.setting.arguments.bf16, self.setting.arguments.fp16]
        about += [processor_state(self.setting.processor), encoder.config.to_json_string(use_diff=False)]
        hasher = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
        for name, weight in encoder.state_dict().items():
            hasher.update(name.encode() + weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for key in self._rows[side]:
            hasher.update(json.dumps([str(key), _stamp(key) if side == "image" else None]).encode())
        return hasher.hexdigest()

    def _encode(self, model: Any, side: str, cells: list[Any], path: Path) -> None:
        arguments, started = self.setting.arguments, time.perf_counter()
        name = {"text": "text", "image": "images"}[side]
        batches = DataLoader(
            cells,
            arguments.per_device_eval_batch_size,
            collate_fn=functools.partial(_prepare, self.setting.processor, name),
            num_workers=arguments.dataloader_num_workers,
        )
        precision = torch.bfloat16 if arguments.bf16 else torch.float16
        with torch.autocast(arguments.device.type, precision, enabled=arguments.bf16 or arguments.fp16):
            found = [model.features(batch)[side].float().cpu() for batch in batches]
        seconds = time.perf_counter() - started
        size = model.fusion_side(side).standardization.mean.shape
        with replacing(path) as part:
            metadata = {"seconds": f"{seconds:.1f}"}
            save_file({"features": torch.cat(found) if found else torch.zeros(0, *size)}, part, metadata)
        print(f"frozen_features: {len(cells):,} {name} encoded in {seconds:.0f} s", flush=True)

    def _read(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Make a batch: features in the places of tokens and pixels."""
        batch = {}
        for side, known in self._rows.items():
            found = [known.get(_key(row.get(side))) for row in rows]
            lost = [row for row, at in zip(rows, found, strict=True) if at is None and not is_absent(row.get(side))]
            if lost and (side == "image" or any(self.setting.processor.clean(row["text"]) for row in lost)):
                raise ValueError(
                    f"the {side} of the row with id {lost[0].get('id')!r} is not among those that frozen_features has "
                    "encoded: leave out what changes it."
                )
            present = torch.tensor([at is not None for at in found])
            features = self._features[side][torch.tensor([at or 0 for at in found])] * present[:, None]
            batch |= {"pixel_values": features} if side == "image" else {"input_ids": features}
            if side == "text":
                batch["attention_mask"] = torch.ones(len(rows), 1, dtype=torch.long)
            if len(self._rows) > 1:
                batch[f"{side}_present"] = present
        return batch


def _prepare(processor: Any, name: str, cells: list[Any]) -> dict[str, Tensor]:
    try:
        return dict(processor(**{name: cells}))
    except RowError as error:  # such as an address that does not answer any more
        raise ValueError(f"frozen_features can't encode a row: {error.reason}") from None


def _let_pass(encoder: nn.Module) -> None:
    """Have an encoder return features, `(batch, size)`, as the one token of each row; it encodes all else."""
    encode = encoder.forward

    @functools.wraps(encode)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("input_ids", kwargs.get("pixel_values"))
        if given is not None and given.dim() == 2 and given.is_floating_point():
            return BaseModelOutput(last_hidden_state=given[:, None])
        return encode(*args, **kwargs)

    encoder.forward = forward


def _key(cell: Any) -> Hashable:
    """What a text or a picture of a row is known by."""
    if not isinstance(cell, Mapping):
        return cell if isinstance(cell, Hashable) else None
    data = cell.get("bytes")
    return cell.get("path") if data is None else hashlib.blake2b(data, digest_size=16).digest()


def _stamp(key: Hashable) -> Any:
    """Size and time of a picture's file, by which it is known to have changed."""
    path = split_box(key)[0] if isinstance(key, str) else None
    return os.stat(path)[6:9:2] if path and os.path.isfile(path) else None
