"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the encoders' linear layers; their own weights stay."""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import Any, ClassVar

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from ...backbones.registry import FROM_SCRATCH, PACKAGED
from ...files import write_atomic
from ...runs.card import public_name
from ...runs.recipe import MultiHeadTrainingArguments
from ...tasks import Task
from .base import Technique

ADAPTER = "adapter"
"""Folder beside the merged checkpoint: in `text` and `vision` the adapters of each encoder that others can load."""
_CARD = """---
library_name: peft
tags: [lora, hfk]
{front}---

# Adapters of a {side} encoder

Low-rank adapters (rank {rank}, alpha {alpha}) for the linear layers of `{base}`. The model that they were trained in
lies beside this folder with all adapters merged, fusion and heads included: use that. By themselves they make of
`{base}` the encoder that it reads with:

```python
from peft import PeftModel
from {module} import {kind}
{more}
encoder = PeftModel.from_pretrained({kind}.from_pretrained({load}), "adapter/{side}")
```
"""


class Lora(Technique, key="lora"):
    """Adapters are trained, and fusion and heads whole; the finished checkpoint has them merged.

    Args:
        rank: of the adapters.
        alpha: their scale.
        dropout: dropout probability inside them.
    """

    last: ClassVar[bool] = True

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05

    def encoders(
        self, encoders: dict[str, str | None], task: Task, arguments: MultiHeadTrainingArguments
    ) -> dict[str, str | None]:
        """Note what the adapters are for: packaged names and Hub ids, which others can load too."""
        self._bases = {side: None if name in FROM_SCRATCH[side] else public_name(name)
                       for side, name in encoders.items()}  # fmt: skip
        return encoders

    def model(self, model: nn.Module) -> PeftModel:
        """Wrap the model; ValueError if no encoder has a linear layer."""
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        targets = [name for name in linear if name.startswith(("text_encoder.", "vision_encoder."))]
        if not targets:
            raise ValueError("lora needs linear layers in an encoder, and this one has none: train it without lora.")
        size = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        config = LoraConfig(**size, target_modules=targets, modules_to_save=["fusion", "heads"])
        self._model = get_peft_model(model, config)
        return self._model

    def save(self, folder: Path) -> None:
        """Put each encoder's adapters beside what training goes on from, as `finish` does."""
        self._save_adapters(folder / ADAPTER)

    def finish(self, trainer: Any) -> None:
        """Save each encoder's adapters by themselves, with a card, where there is a base that others can load."""
        if trainer.args.should_save:
            for sentence in self._save_adapters(Path(trainer.args.output_dir) / ADAPTER):
                print(sentence, flush=True)

    def _save_adapters(self, folder: Path) -> list[str]:
        """Write them; says of each encoder whose adapters would be of no use by themselves why."""
        shutil.rmtree(folder, ignore_errors=True)
        weights, config, left_out = get_peft_model_state_dict(self._model), self._model.peft_config["default"], []
        for side in ("text", "vision"):
            inside, base = f"{side}_encoder.", getattr(self, "_bases", {}).get(side)
            adapters = {
                name.replace(inside, "", 1): weight.detach().cpu().contiguous()
                for name, weight in weights.items()
                if name.startswith(f"base_model.model.{inside}")
            }
            encoder = getattr(self._model.base_model.model, f"{side}_encoder", None)
            if not adapters:
                continue
            if base is None or any(name.endswith("running_mean") for name, _ in encoder.named_buffers()):
                why = "it is no packaged or Hub encoder" if base is None else "its batch norm has learned beside them"
                left_out.append(f"the adapters of the {side} encoder are in the checkpoint only: {why}.")
                continue
            kind = type(encoder)
            own = copy(config)
            own.base_model_name_or_path, own.modules_to_save, own.inference_mode = base, None, True
            own.target_modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in adapters}
            own.auto_mapping = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
            own.save_pretrained(folder / side)
            save_file(adapters, folder / side / "adapter_model.safetensors", {"format": "pt"})
            packaged = base in PACKAGED
            card = _CARD.format(
                front="" if packaged else f"base_model: {base}\nbase_model_relation: adapter\n",
                more="\nfrom hfk import resolve_backbone\n" if packaged else "",
                load=f'resolve_backbone("{base}")' if packaged else f'"{base}"',
                module="transformers" if kind.__module__.startswith("transformers.") else kind.__module__,
                **{"side": side, "rank": self.rank, "alpha": self.alpha, "base": base, "kind": kind.__name__},
            )  # fmt: skip
            write_atomic(folder / side / "README.md", card)
        return left_out
