"""Putting finished runs together: voting ensembles, and soups of averaged weights.

`build_ensemble` keeps every member and averages what they say, with equal weights or with weights fitted on rows that
none of them learned from. `cook_soup` averages the weights themselves (Wortsman et al. 2022, "Model soups",
arXiv:2203.05482): one model, as fast as any of its ingredients, but only runs that started from the same pretrained
weights have anything in common to average. Both leave a checkpoint folder, and score it where rows for that are known.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..evaluation.metrics import score_heads
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table, write_report
from ..inference.loading import load_checkpoint, load_config
from ..models.configuration_ensemble import MultiHeadEnsembleConfig, common_heads
from ..models.configuration_multihead import MultiHeadConfig
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.modeling_multihead import MultiHeadForClassification
from ..models.processing_ensemble import MultiHeadEnsembleProcessor, processor_state
from ..models.processing_multihead import MultiHeadProcessor
from ..runs import card as cards
from ..runs.recipe import parse_recipe, translate
from ..tasks import ABOUT_ROWS, Task, load_task
from ..tasks.collator import MultiHeadCollator
from ..tasks.split import without_folds

FACTS = "ensemble.json"
VALIDATION = "validation"
"""In place of a table's path: the validation rows of the task that all runs share."""
_NO_ARCHITECTURE = (
    "transformers_version", "auto_map", "custom_pipelines", "_name_or_path", "architectures", "dtype",
    "fusion_dropout", "initializer_range",
)  # fmt: skip
_TRAINING_ONLY = (
    "temperature", "dropout", "path_weight",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- ensembles


def build_ensemble(
    runs: Sequence[str | Path], output_dir: str | Path, fit_on: str | Path | None = None
) -> dict[str, Any]:
    """Make one checkpoint of several runs that vote.

    The folder gets the checkpoint, `task.json`, `ensemble.json` (members, weights, scores), and a report on the test
    rows (else the validation rows, if no member was trained on them) of the task that all runs share, if they do.

    Args:
        runs: folders of finished runs, or of ensembles, whose members are then taken; all of the same heads.
        output_dir: the folder to fill.
        fit_on: fit the members' weights, head by head, on these labelled rows: a table with the columns that the runs
            were trained on, or "validation" for the validation rows of the task that all runs share. Equal by default.

    Returns:
        what `ensemble.json` holds.

    Raises:
        ValueError: if the heads differ, a run is not whole, or there are no rows to fit on.
    """
    folders = _run_folders(runs, output_dir)
    configs = [load_config(folder) for folder in folders]
    names = [str(folder) for folder in folders]
    common_heads(configs, names)
    facts: dict[str, Any] = {"kind": "ensemble", "runs": [folder.name for folder in folders]}
    shared = _shared_task(folders)
    members: list[MultiHeadForClassification] = []
    processors: list[MultiHeadProcessor] = []
    fit_rows, fit_source = (None, "") if fit_on is None else _labelled_rows(folders, fit_on, shared)
    said: list[Predictions] = []
    for folder in folders:
        model, processor = load_checkpoint(folder)
        for member, own in _members(model, processor):
            if fit_rows is not None:
                said.append(predict_rows(member, own, fit_rows))
            members.append(member)
            processors.append(own)
    if len({member.dtype for member in members}) > 1:  # safetensors could hold both; one forward pass can't
        members = [member.float() for member in members]
    processor, readers = MultiHeadEnsembleProcessor.join(processors)
    weights = {}
    if fit_rows is not None:
        weights = fit_weights(said)
    ensemble = MultiHeadEnsemble.from_members(members, readers, weights)
    heads = ensemble.config.heads
    facts |= {"members": len(members), "weights": {h.name: ensemble.config.member_weights(h.name) for h in heads}}
    if fit_rows is not None:
        logits = {
            head.name: head.rules.vote(
                [m.config.head(head.name) for m in members],
                [torch.as_tensor(one.logits[head.name]) for one in said],
                torch.tensor(ensemble.config.member_weights(head.name)).expand(len(fit_rows), -1),
            ).numpy()
            for head in heads
        }
        facts["fitted_on"] = {
            "rows": len(fit_rows),
            "source": fit_source,
            "members": [_short(score_heads(one)) for one in said],
            "ensemble": _short(score_heads(replace(said[0], heads=heads, logits=logits))),
        }  # fmt: skip
    return _finish(Path(output_dir), ensemble, processor, folders, shared, facts)


def fit_weights(said: Sequence[Predictions]) -> dict[str, list[float]]:
    """Find, head by head, the members' weights of least log-loss (least squared error for `regression`).

    The weights are 0 or more and sum to 1; so the problem is convex, and has one best value.

    Args:
        said: each member's predictions of the same labelled rows.

    Returns:
        head name → one weight a member. A head without labelled rows is left out.
    """
    from scipy.optimize import minimize

    count, result = len(said), {}
    for head in said[0].heads:
        present, target = said[0].target[head.name]
        if not present.any() or count < 2:
            continue
        probs = np.stack([one.probabilities[head.name].astype(np.float64) for one in said])[:, present]
        target = target[present]
        if not head.rules.has_labels:
            # Targets in deviations, or the tolerance would mean another thing for prices in won than for stars.
            scale = max(float(target.std()), 1e-12)
            votes, right = probs.T / scale, target / scale

            def loss(weights: np.ndarray, votes=votes, right=right) -> tuple[float, np.ndarray]:
                off = votes @ weights - right
                return float(np.square(off).mean()), 2 * votes.T @ off / len(off)

        else:
            if head.rules.exclusive:
                happened = np.take_along_axis(probs, target[None, :, None], axis=2)[..., 0].T
            else:  # each label is an observation of its own
                happened = np.where(target[None], probs, 1 - probs).reshape(count, -1).T
            happened = happened.clip(1e-12)

            def loss(weights: np.ndarray, happened=happened) -> tuple[float, np.ndarray]:
                mixed = (happened @ weights).clip(1e-12)
                return float(-np.log(mixed).mean()), -(happened / mixed[:, None]).mean(axis=0)

        found = minimize(
            loss,
            np.full(count, 1 / count),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-10, "maxiter": 500},
        )
        weights = np.where(found.x < 1e-4, 0.0, found.x) if found.success else np.ones(count)
        result[head.name] = [round(float(weight), 6) for weight in weights / weights.sum()]
    return result


def _members(model: Any, processor: Any) -> list[tuple[MultiHeadForClassification, MultiHeadProcessor]]:
    """List a checkpoint's members with their processors: of an ensemble all, else the model itself."""
    if not isinstance(model, MultiHeadEnsemble):
        return [(model, processor)]
    if any(head.temperature != 1 for head in model.config.heads):
        warnings.warn("an ensemble's own temperatures do not go with its members; calibrate the new one.", stacklevel=3)
    parts = processor.processors if isinstance(processor, MultiHeadEnsembleProcessor) else [processor]
    return [(m, parts[reader]) for m, reader in zip(model.members, model.config.readers, strict=True)]


# -------------------------------------------------------------------------------------------------------------- soups


def cook_soup(
    runs: Sequence[str | Path], output_dir: str | Path, kind: str = "uniform", fit_on: str | Path | None = None
) -> dict[str, Any]:
    """Average the weights of several runs of one architecture into one model.

    Batch norm statistics are averaged too. Temperatures are not: the soup's are 1 until it is calibrated.

    Args:
        runs: folders of finished runs that started from the same pretrained weights.
        output_dir: the folder to fill, as in `build_ensemble`.
        kind: `uniform` averages all; `greedy` starts from the best run and keeps each further one, from the best to
            the worst, only if the average does not get worse by it.
        fit_on: rows to score on, as in `build_ensemble`; `greedy` needs them, and takes "validation" by default.

    Returns:
        what `ensemble.json` holds.

    Raises:
        ValueError: if the runs differ in architecture, heads or processor, or there are no rows to choose by.
    """
    if kind not in ("uniform", "greedy"):
        raise ValueError(f"soup {kind!r} is not one of uniform, greedy.")
    folders = _run_folders(runs, output_dir)
    configs = [load_config(folder) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if isinstance(config, MultiHeadEnsembleConfig):
            raise ValueError(f"{folder} is an ensemble; a soup is made of single models.")
        _check_same_architecture(folders[0], configs[0], folder, config)
    shared = _shared_task(folders)
    fit_on = VALIDATION if fit_on is None and kind == "greedy" else fit_on
    rows, source = (None, "") if fit_on is None else _labelled_rows(folders, fit_on, shared)
    model, processor = load_checkpoint(folders[0], dtype=torch.float32)
    state = processor_state(processor)
    scores: list[dict[str, float]] = []
    for folder in folders:
        other, own = (model, processor) if folder is folders[0] else load_checkpoint(folder, dtype=torch.float32)
        if processor_state(own) != state:
            raise ValueError(f"{folder} prepares its input in another way than {folders[0]}: no soup of the two.")
        if rows is not None:
            scores.append(score_heads(predict_rows(other, own, rows)))
    for head in model.config.heads:
        head.temperature = 1.0
    order = (
        sorted(range(len(folders)), key=lambda n: -_main_score(scores[n])) if rows is not None else range(len(folders))
    )
    kept, best, total = [], -np.inf, None
    for number in order:
        weights = load_checkpoint(folders[number], dtype=torch.float32)[0].state_dict()
        candidate = weights if total is None else {name: _plus(total[name], weights[name]) for name in total}
        if kind == "greedy":
            _pour(model, candidate, len(kept) + 1)
            score = _main_score(score_heads(predict_rows(model, processor, rows)))
            if score < best:
                continue
            best = score
        kept.append(number)
        total = candidate
    _pour(model, total, len(kept))
    facts: dict[str, Any] = {
        "kind": f"{kind} soup",
        "runs": [folder.name for folder in folders],
        "kept": [folders[number].name for number in kept],
    }
    if rows is not None:
        soup = score_heads(predict_rows(model, processor, rows))
        facts["scored_on"] = {
            "rows": len(rows), "source": source, "runs": [_short(one) for one in scores], "soup": _short(soup)
        }  # fmt: skip
        if _main_score(soup) < min(map(_main_score, scores)):
            warnings.warn(
                "the soup is worse than each of its runs: they probably did not start from the same weights; let them "
                "vote instead, without --soup.",
                stacklevel=2,
            )
    dtype = configs[0].dtype
    model = model if dtype is None else model.to(dtype)
    return _finish(Path(output_dir), model, processor, folders, shared, facts)


def _plus(total: Tensor, more: Tensor) -> Tensor:
    return total + more if total.is_floating_point() else total  # counters and position numbers are all the same


def _pour(model: torch.nn.Module, total: dict[str, Tensor], count: int) -> None:
    model.load_state_dict(
        {name: value / count if value.is_floating_point() else value for name, value in total.items()}
    )


def _check_same_architecture(one: Path, first: MultiHeadConfig, two: Path, second: MultiHeadConfig) -> None:
    left, right = _architecture(first), _architecture(second)
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            raise ValueError(
                f"{one} and {two} differ in {name}, so their weights can't be averaged; without --soup they can vote."
            )


def _architecture(config: MultiHeadConfig) -> dict[str, Any]:
    """Flatten a configuration to what its weights' shapes and meaning depend on."""
    content = {name: value for name, value in config.to_dict().items() if name not in _NO_ARCHITECTURE}
    for head in content.pop("heads"):
        content |= {f"head {head['name']}: {name}": v for name, v in head.items() if name not in _TRAINING_ONLY}
    for part in ("text_config", "vision_config"):
        inner = content.pop(part) or {}
        content |= {f"{part}.{name}": v for name, v in inner.items() if name not in _NO_ARCHITECTURE}
    return content


# ------------------------------------------------------------------------------------------------------------- shared


@torch.inference_mode()
def predict_rows(model: PreTrainedModel, processor: ProcessorMixin, rows: Dataset, batch_size: int = 64) -> Predictions:
    """Run a model on rows in a task's columns, in their order, in this process alone.

    Args:
        model: a multi-head model or ensemble; moved to an accelerator, if there is one.
        processor: its processor.
        rows: the rows.
        batch_size: rows a forward pass.
    """
    model.to(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu").eval()
    batches = DataLoader(rows, batch_size, collate_fn=MultiHeadCollator(processor, []))
    logits = defaultdict(list)
    for batch in tqdm(batches, desc="predict", disable=not sys.stderr.isatty()):
        output = model(**{name: values.to(model.device) for name, values in batch.items()})
        for name, values in output.logits.items():
            logits[name].append(values.float().cpu().numpy())
    logits = {name: np.concatenate(parts) for name, parts in logits.items()}
    return Predictions.of(rows, [replace(head) for head in model.config.heads], logits)


def _run_folders(runs: Sequence[str | Path], output_dir: str | Path) -> list[Path]:
    folders = [Path(run) for run in runs]
    if len(folders) < 2:
        raise ValueError("give two runs or more.")
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}: give those of finished runs, such as runs/ynat.")
        if folder.resolve() == Path(output_dir).resolve():
            raise ValueError(f"{folder} is a run; name another --output-dir, or it would be replaced.")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a run is named twice; one that should count double gets its weight by --fit-on.")
    return folders


def _recipe(folder: Path) -> dict[str, Any] | None:
    try:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        recipe = translate(recipe)
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return None
    return recipe


def _shared_task(folders: Sequence[Path]) -> tuple[Task, bool] | None:
    """Find the task that all runs were trained on, and whether its validation rows are unseen by all of them."""
    from .train import open_task

    recipes, unseen = [_recipe(folder) for folder in folders], True
    for recipe in filter(None, recipes):
        split = recipe.get("split") or {}
        unseen = unseen and not (split.get("folds") or recipe.get("folds"))
        recipe["split"] = without_folds(split)
    keys = {tuple(str(recipe.get(name)) for name in ("task", *ABOUT_ROWS)) if recipe else None for recipe in recipes}
    if len(keys) != 1 or None in keys:
        return None
    try:
        chosen = {name: recipes[0].get(name) for name in ("task", *ABOUT_ROWS)}
        return open_task(parse_recipe(chosen)[0]), unseen
    except (ValueError, OSError):  # the task's file has moved
        return None


def _labelled_rows(
    folders: Sequence[Path], source: str | Path, shared: tuple[Task, bool] | None
) -> tuple[Dataset, str]:
    """Return labelled rows, and what to call them."""
    if str(source) == VALIDATION:
        if shared is None:
            raise ValueError(
                "these runs do not name one task that is still there, so there are no validation rows: give a table."
            )
        task, unseen = shared
        if not unseen:
            raise ValueError("runs of folds were trained on each other's validation rows: give a table of other rows.")
        data = task.load()
        if VALIDATION not in data:
            raise ValueError(f"task {task.name!r} has no validation rows: give a table.")
        return data[VALIDATION], f"the validation rows of {task.name}"
    try:
        columns = json.loads((folders[0] / "task.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{folders[0]} has no task.json that says what its columns are called.") from None
    task = load_task(
        columns.pop("task", None) or columns, data=str(source), split=None, heads=load_config(folders[0]).heads
    )
    return concatenate_datasets(list(task.load().values())), Path(source).name


def _finish(
    folder: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    folders: Sequence[Path],
    shared: tuple[Task, bool] | None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Save the checkpoint with what belongs to it, and score it where there are rows to score it on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report", "processor_1"):  # what another ensemble left here
        shutil.rmtree(folder / name, ignore_errors=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if (folders[0] / "task.json").is_file():
        shutil.copyfile(folders[0] / "task.json", folder / "task.json")
    facts["parameters"] = sum(weight.numel() for weight in model.parameters())
    if shared is not None:
        _report(folder, model, processor, *shared, facts)
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    cards.write_card(folder)
    return facts


def _report(
    folder: Path, model: PreTrainedModel, processor: ProcessorMixin, task: Task, unseen: bool, facts: dict[str, Any]
) -> None:
    from .train import environment

    data = task.load()
    split = next((name for name in ("test", VALIDATION) if name in data and (name == "test" or unseen)), None)
    if split is None:
        return
    rows = data[split]
    results = write_report(
        folder / "report",
        predict_rows(model, processor, rows),
        {
            "title": f"{task.name}: {split}",
            "task": task.name,
            "split": split,
            "rows": {split: len(rows)},
            "parameters": facts["parameters"],
            "ensemble": facts,
            "environment": environment(),
        },
    )
    print(f"\n{facts['kind']} of {len(facts['runs'])} runs, {split} rows:")
    print(format_table(results))


def _main_score(scores: dict[str, float]) -> float:
    """Return the one figure that is larger for the better model."""
    if "mean_macro_f1" in scores:
        return scores["mean_macro_f1"]
    return -sum(value for name, value in scores.items() if name.endswith("_rmse"))


def _short(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}
