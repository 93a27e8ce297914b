"""`SavingTrainer`: what the Trainers of every kind of task share: how a checkpoint is written, and gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..runs.checkpoints import saving


class SavingTrainer(Trainer):
    """A Trainer whose checkpoints count when they are whole and on the disk, and hold no pickled arguments."""

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Upstream looks after a step only whether it has ended: resumed from its last one, a run would take one more.
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with saving(self.args, self.state):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process writes a file of its own

    def _save(self, output_dir: str | None = None, state_dict: Mapping | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        if self.args.should_save:
            # Upstream pickles the arguments; JSON (with tokens masked) says the same and runs nothing when read.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            (folder / "training_arguments.json").write_text(self.args.to_json_string(), encoding="utf-8")
            if folder.name.startswith(PREFIX_CHECKPOINT_DIR):
                self.args.save_total_limit = None  # upstream would remove older ones before this is whole; see `saving`
