"""The `checkpoint-*` folders that an interrupted run goes on from: sealed when whole, looked at before one is used.

The Trainer writes a checkpoint file by file. When all of it is on the disk, a seal names every file with its size and a
sum of its bytes; what has no seal was never finished, and what is not as its seal says has been damaged since. Neither
is gone on from: the newest whole one is. An old checkpoint loses its `trainer_state.json` and its seal first, so that
half of it is none.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers import TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..files import remove, sync, sync_entry, write_atomic

SEAL = "files.json"
"""In a checkpoint: file → bytes and their CRC-32, of all the others; written last."""
_READ_AT_ONCE = 2**24
_SET_ASIDE = "damaged-"


def step_of(path: Path) -> int | None:
    """Return the step in a checkpoint folder's name; None for what is called otherwise."""
    prefix, _, step = path.name.rpartition("-")
    return int(step) if prefix == PREFIX_CHECKPOINT_DIR and step.isascii() and step.isdecimal() else None


def list_checkpoints(run: str | Path) -> list[Path]:
    """Return a run's `checkpoint-*` folders, whole or not, the newest first."""
    found = [path for path in Path(run).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if step_of(path) is not None]
    return sorted(found, key=step_of, reverse=True)


def last_checkpoint(run: str | Path) -> str | None:
    """Return the newest whole checkpoint's folder, or None."""
    return next((str(path) for path in list_checkpoints(run) if damage(path) is None), None)


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint to the disk and say that it is whole."""
    sync(checkpoint)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL)
    sums = {path.relative_to(checkpoint).as_posix(): [path.stat().st_size, crc] for path, crc in _sums(files)}
    write_atomic(checkpoint / SEAL, json.dumps(sums, indent=1))
    sync_entry(checkpoint)
    sync_entry(checkpoint.parent)


def _sums(files: list[Path]) -> Iterator[tuple[Path, int]]:
    """The CRC-32 of files, which are read side by side."""

    def one(path: Path) -> int:
        crc = 0
        with open(path, "rb") as file:
            while part := file.read(_READ_AT_ONCE):
                crc = zlib.crc32(part, crc)
        return crc

    with ThreadPoolExecutor(4) as pool:
        yield from zip(files, pool.map(one, files), strict=True)


def damage(checkpoint: Path, read: bool = False) -> str | None:
    """Say what a checkpoint lacks, in words that go on after "…, as"; None if it is whole.

    With `read`, every byte is read; without, a file whose size is right is taken for whole.
    """
    try:
        seal = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        sums = {checkpoint / name: entry if isinstance(entry, list) else [entry, None] for name, entry in seal.items()}
        for path, (size, _) in sums.items():
            if not path.is_file():
                return f"{path.name} is missing"
            if path.stat().st_size != size:
                return f"{path.name} has {path.stat().st_size:,} bytes, not {size:,}"
        for path, crc in _sums(list(sums)) if read else ():
            if sums[path][1] not in (crc, None):  # None: sealed by an earlier version
                return f"{path.name} holds other bytes than were written"
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return f"{SEAL} can't be read"
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        as_named = state["global_step"] == step_of(checkpoint)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        as_named = False
    return None if as_named else f"{TRAINER_STATE_NAME} can't be read, or is another checkpoint's"


def set_aside_damaged(run: Path) -> list[str]:
    """Take away what is no whole checkpoint, and return a sentence each.

    What was never finished is removed; what has been damaged since is renamed, for there may be something in it.
    """
    said = []
    for path in list_checkpoints(run):
        reason = damage(path, read=True)
        if reason is None:
            continue
        if (path / SEAL).is_file():
            target = path.with_name(f"{_SET_ASIDE}{path.name}")
            remove(target)
            os.replace(path, target)
            said.append(f"{path} is damaged, as {reason}; it is kept as {target.name}.")
        else:
            remove_checkpoint(path)
            said.append(f"{path} is left out, as {reason}.")
    return said


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint: first what makes it one, so that a kill leaves no half of it."""
    for name in (TRAINER_STATE_NAME, SEAL):
        (path / name).unlink(missing_ok=True)
    remove(path)


def remove_checkpoints(run: Path) -> None:
    """Remove all checkpoints of a run, those that were set aside too."""
    for path in list_checkpoints(run):
        remove_checkpoint(path)
    for path in run.glob(f"{_SET_ASIDE}{PREFIX_CHECKPOINT_DIR}-*"):
        remove(path)


@contextmanager
def saving(args: TrainingArguments, state: TrainerState) -> Iterator[None]:
    """Around the Trainer's own saving: seal what it writes, and remove older checkpoints only then.

    Inside, `save_total_limit` may be set to None, so that the Trainer removes none by itself. What can't be written,
    for the disk is full or somebody interrupts, is removed, so that there is room again.
    """
    folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
    limit = args.save_total_limit
    try:
        yield
        if args.should_save:
            seal(folder)
    except BaseException:
        if args.should_save:
            with suppress(OSError):
                remove_checkpoint(folder)
        raise
    finally:
        args.save_total_limit = limit
    if args.should_save and limit:
        best = Path(state.best_model_checkpoint or folder)
        kept = {folder.name, best.name}
        others = [path for path in list_checkpoints(args.output_dir) if path.name not in kept]
        for path in others[max(limit - len(kept), 0) :]:
            remove_checkpoint(path)
