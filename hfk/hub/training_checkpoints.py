"""A run that pushes while it trains: the Trainer's checkpoints to the Hub, and one of them back to go on from.

The Trainer decides when; `hub_strategy` decides what. The top level of the repository is a whole checkpoint without
pickles; of a run with LoRA it becomes one at the end. `checkpoint` and `all_checkpoints` keep beside it, in
`last-checkpoint` or `checkpoint-STEP`, all that resuming needs: PyTorch's own optimizer and random-state files are
pickles, read with `weights_only`; nothing that serves the model looks at them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, SaveStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress, hf_api

from ..runs.card import write_card
from ..runs.checkpoints import seal
from ..runs.run import STATE
from .publishing import LAST_CHECKPOINT, PULLED, STALE, Pushed, Target, check_repo_id, clear_errors, commit, plan_push

SERVED = [*PULLED, "training_arguments.json"]
"""What of a training checkpoint comes to the top level: what serves the model, and how it was trained."""

logger = logging.get_logger(__name__)


def write_training_card(trainer: Trainer) -> None:
    """Write hfk's card for what is about to be pushed, unless the run folder has one."""
    folder = Path(trainer.args.output_dir)
    if trainer.is_world_process_zero() and (folder / "config.json").is_file() and not (folder / "README.md").exists():
        write_card(folder, trainer.hub_model_id)


def push_run(
    trainer: Trainer,
    message: str | None,
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    **_: Any,
) -> Pushed | Future | None:
    """Save the model whole and push it as one commit, as `publishing.push` does; arguments as of `Trainer.push_to_hub`.

    Upstream pushes all that is in the run folder, the user's rows included, and leaves in the repository what an
    earlier push brought, such as an adapter's configuration, beside which merged weights can't be loaded. What a run
    goes on from stays there. None on processes other than the main one.
    """
    trainer.callback_handler.on_push_begin(trainer.args, trainer.state, trainer.control)
    if trainer.hub_model_id is None:
        trainer.init_hf_repo(token=token, private=private)
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return None
    trainer._finish_current_push()
    api = HfApi(token=token or trainer.args.hub_token)
    stale = [name for name in STALE if not name.startswith(LAST_CHECKPOINT)]
    target = Target(trainer.hub_model_id, revision=revision or trainer.args.hub_revision, message=message)
    files = plan_push(trainer.args.output_dir, target.repo_id).files
    push = partial(commit, target, files, stale=stale, api=api)
    return push() if blocking else api.run_as_future(push)


def push_checkpoint(trainer: Trainer, checkpoint_folder: str | os.PathLike) -> None:
    """Push a checkpoint as `hub_strategy` says, as one commit, while training goes on.

    Upstream pickles the arguments into the run folder and pushes all that is there, reports on the user's rows
    included, while training writes it and `save_total_limit` deletes checkpoints. Here the files that serve the model
    are linked into a folder of their own first, each encoder's adapters into `adapter/`. A push that fails is a
    warning: training does not end for it.
    """
    args, state, current = trainer.args, trainer.state, trainer.push_in_progress
    busy = current is not None and not current.is_done()
    if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
        return
    if busy and not args.hub_always_push:
        return
    trainer.callback_handler.on_push_begin(args, state, trainer.control)
    run, checkpoint = Path(args.output_dir), Path(checkpoint_folder)
    names = {HubStrategy.CHECKPOINT: LAST_CHECKPOINT, HubStrategy.ALL_CHECKPOINTS: checkpoint.name}
    resumable = names.get(args.hub_strategy)
    stage = run / "_push" / checkpoint.name  # `Trainer.push_to_hub` leaves names with _ out
    try:
        _stage(run, checkpoint, stage, resumable)
    except OSError as error:  # no room for it
        _not_pushed(stage, trainer.hub_model_id, error)
        return
    by_step = args.save_strategy == SaveStrategy.STEPS
    reached = f"step {state.global_step}" if by_step else f"epoch {int(state.epoch)}"
    job = hf_api().run_as_future(
        _upload,
        stage,
        repo_id=trainer.hub_model_id,
        token=args.hub_token,
        commit_message=f"Training in progress, {reached}",
        revision=args.hub_revision,
        # What an older checkpoint left there, other shards or other processes' states, must not mix with this one.
        delete_patterns=None if resumable is None else f"{resumable}/*",
    )
    trainer.push_in_progress = PushInProgress([*(current.jobs if busy else []), job])


def _stage(run: Path, checkpoint: Path, stage: Path, resumable: str | None) -> None:
    """Link what is to be pushed of a checkpoint into a folder of its own; all of it into `resumable`, if asked."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    paths = [path for path in (run / "README.md", *checkpoint.iterdir()) if path.is_file()]
    for path in filter_repo_objects(paths, allow_patterns=SERVED, key=lambda path: path.name):
        _link(path, stage / path.name)
    if (checkpoint / "adapter").is_dir():  # of a run with LoRA: they have bases that others can load
        shutil.copytree(checkpoint / "adapter", stage / "adapter", copy_function=_link)
    if resumable is not None:
        shutil.copytree(checkpoint, stage / resumable, copy_function=_link)
        if (run / STATE).is_file():  # by which `fetch_checkpoint` knows the run again
            _link(run / STATE, stage / resumable / STATE)


def _upload(stage: Path, repo_id: str, **options: Any) -> None:
    """Push a staged checkpoint and take the stage away; what goes wrong is said, since upstream never looks."""
    try:
        hf_api().upload_folder(repo_id=repo_id, folder_path=stage, **options)
    except Exception as error:  # whatever it is, hours of training must not end for it
        _not_pushed(stage, repo_id, error)
    finally:
        _clear(stage)


def _not_pushed(stage: Path, repo_id: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    logger.warning(f"{stage.name} was not pushed to {repo_id}; training goes on. {reason}")
    _clear(stage)


def _clear(stage: Path) -> None:
    shutil.rmtree(stage, ignore_errors=True)
    with suppress(OSError):  # another push may be waiting in there
        stage.parent.rmdir()


def _link(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Put a file at another place too, without copying where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def fetch_checkpoint(
    repo_id: str,
    folder: str | os.PathLike,
    name: str = LAST_CHECKPOINT,
    revision: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Fetch a checkpoint that a run of your own has pushed, so that it can go on here, from this place in the data.

    It becomes the run folder's `checkpoint-STEP`, the path that is returned, where `hfk train` finds it. Errors are
    those of `publishing.pull`.

    Args:
        repo_id: `owner/name`, pushed to with `hub_strategy` `checkpoint` or `all_checkpoints`.
        folder: the run folder here; made if it is not there.
        name: the checkpoint's folder in the repository: `last-checkpoint`, or `checkpoint-STEP`.
        revision: branch, tag or commit; `main` by default.
        api: the client; one with the saved token by default.
    """
    check_repo_id(repo_id)
    if not re.fullmatch(rf"{LAST_CHECKPOINT}|{PREFIX_CHECKPOINT_DIR}-\d+", name):
        raise ValueError(f"{name!r} is no checkpoint's folder: name {LAST_CHECKPOINT} or checkpoint-STEP.")
    api = api or HfApi()
    with clear_errors(api, repo_id):
        sha = api.repo_info(repo_id, revision=revision).sha
        part = Path(folder) / "_fetched" / sha  # what is there of an interrupted download of this commit is kept
        api.snapshot_download(repo_id, revision=sha, allow_patterns=f"{name}/*", local_dir=part)
    state = part / name / TRAINER_STATE_NAME
    if not state.is_file():
        raise ValueError(
            f"{repo_id} has no whole {name}: it is there after a push with hub_strategy checkpoint or all_checkpoints."
        )
    target = Path(folder) / f"{PREFIX_CHECKPOINT_DIR}-{_step(state, repo_id)}"
    shutil.rmtree(target, ignore_errors=True)
    (part / name).replace(target)
    if (target / STATE).is_file():
        (target / STATE).replace(Path(folder) / STATE)
    seal(target)
    shutil.rmtree(part.parent)
    return str(target)


def _step(state: Path, repo_id: str) -> int:
    """The step that a fetched checkpoint says it is of, which names a folder here: a number, and nothing else."""
    try:
        step = json.loads(state.read_text(encoding="utf-8"))["global_step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        step = None
    if type(step) is not int or step < 0:
        raise ValueError(f"{repo_id}: {TRAINER_STATE_NAME} names no step to go on from, so nothing of it was taken.")
    return step
