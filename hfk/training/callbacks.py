"""What happens while training goes on: how long it has taken, one short line a log entry, and when it is saved."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Write into every log entry how many seconds training has taken; a resumed run goes on counting from its log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start from what the log of the resumed checkpoint says, if there is one."""
        before = [entry["train_seconds"] for entry in state.log_history if "train_seconds" in entry]
        self.started = time.perf_counter() - max(before, default=0.0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the time to the entry that was just written; evaluation without training has none."""
        if hasattr(self, "started") and state.log_history:
            state.log_history[-1]["train_seconds"] = round(time.perf_counter() - self.started, 1)


class LogLine(TrainerCallback):
    """Print one short line a log entry, in place of the Trainer's dict of everything; for logs that people read."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Print losses, macro F1 and the main score."""
        shown = {
            name: value
            for name, value in (logs or {}).items()
            if name.startswith(("loss", "eval_")) and name.endswith(("loss", "macro_f1", "_mae", "exact_match"))
        }
        if shown and state.is_world_process_zero:
            values = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items())
            print(f"epoch {state.epoch or 0:5.2f}/{args.num_train_epochs:g}  {values}", flush=True)


class SaveAtEpochEnd(TrainerCallback):
    """Put off a checkpoint that is due at an epoch's last step until the epoch has ended.

    Saved by steps, it would be written before the evaluation that the epoch ends with; a run that is resumed from it
    begins the next epoch, and that evaluation, its score and the patience that hangs on it would be missing.
    """

    due = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hold the checkpoint back."""
        if control.should_save and (state.epoch == int(state.epoch) or state.global_step >= state.max_steps):
            control.should_save, self.due = False, True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have it written after the evaluation."""
        control.should_save, self.due = control.should_save or self.due, False
