"""Putting finished runs together: voting ensembles, and soups of averaged weights.

`build_ensemble` keeps every member and averages what they say, with equal weights or with weights fitted on rows that
none of them learned from. `cook_soup` averages the weights themselves (Wortsman et al. 2022, "Model soups",
arXiv:2203.05482): one model, as fast as any of its ingredients, but only runs that started from the same pretrained
weights have anything in common to average. Both leave a checkpoint folder, and score it where rows for that are known.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from ..evaluation.metrics import score_heads
from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table
from ..inference.loading import load_config
from ..inference.predictor import Predictor, find_device
from ..models.configuration_ensemble import MultiHeadEnsembleConfig, common_heads
from ..models.configuration_multihead import MultiHeadConfig
from ..models.modeling_ensemble import MultiHeadEnsemble
from ..models.processing_ensemble import MultiHeadEnsembleProcessor, processor_state
from ..runs.card import write_card
from ..runs.facts import environment
from ..runs.run import Run, open_task, read_labeled, scored_split
from ..tasks import ABOUT_ROWS, Task
from ..tasks.split import without_folds

VALIDATION = "validation"
"""In place of a table's path: the validation rows of the task that all runs share."""
_NO_ARCHITECTURE = (
    "transformers_version", "auto_map", "custom_pipelines", "_name_or_path", "architectures", "dtype",
    "fusion_dropout", "initializer_range",
)  # fmt: skip
_TRAINING_ONLY = ("temperature", "thresholds", "dropout", "path_weight")
_SUM_OF_ONE = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}


class _Parts:
    """The runs that are put together, and the task that all of them were trained on, if it is one and still there."""

    def __init__(self, folders: Sequence[str | Path], output_dir: str | Path) -> None:
        self.runs, self.result = [Run.open(folder) for folder in folders], Run(output_dir)
        places = [run.folder.resolve() for run in self.runs]
        if len(places) < 2:
            raise ValueError("give two runs or more.")
        if self.result.folder.resolve() in places:
            raise ValueError(f"{output_dir} is a run; name another --output-dir, or it would be replaced.")
        if len(set(places)) < len(places):
            raise ValueError("a run is named twice; one that should count double gets its weight by --fit-on.")
        self.names = [run.folder.name for run in self.runs]
        self.configs = [load_config(run.folder) for run in self.runs]
        self.task: Task | None = None
        self.folds = False
        with suppress(ValueError, OSError):  # a run does not say, or the task's file has moved
            options = [{name: run.options.get(name) for name in ("task", *ABOUT_ROWS)} for run in self.runs]
            self.folds = any((own["split"] or {}).get("folds") for own in options)
            options = [own | {"split": without_folds(own["split"])} for own in options]
            self.task = open_task(options[0]) if all(own == options[0] for own in options) else None

    @cached_property
    def unseen(self) -> dict[str, Dataset]:
        """Split → the task's rows that no run was trained on; folds were trained on each other's validation rows."""
        data = {} if self.task is None else self.task.load()
        return {name: rows for name, rows in data.items() if name == "test" or (name == VALIDATION and not self.folds)}

    def labelled(self, source: str | Path) -> tuple[Dataset, str]:
        """Return labeled rows, of a table or of the shared task, and what to call them."""
        if str(source) != VALIDATION:
            return read_labeled(self.runs[0].folder, source), Path(source).name
        if self.task is None:
            raise ValueError(
                "these runs do not name one task that is still there, so there are no validation rows: give a table."
            )
        if self.folds:
            raise ValueError("runs of folds were trained on each other's validation rows: give a table of other rows.")
        if VALIDATION not in self.unseen:
            raise ValueError(f"task {self.task.name!r} has no validation rows: give a table.")
        return self.unseen[VALIDATION], f"the validation rows of {self.task.name}"

    def finish(self, model: PreTrainedModel, processor: ProcessorMixin, facts: dict[str, Any]) -> dict[str, Any]:
        """Save the checkpoint with what belongs to it, and score it where there are rows to score it on."""
        facts["parameters"] = sum(weight.numel() for weight in model.parameters())
        self.result.save_ensemble(model, processor, self.runs[0], facts)
        if self.unseen:
            split = scored_split(self.unseen)
            about = {"title": f"{self.task.name}: {split}", "task": self.task.name, "split": split}
            about |= {"rows": {split: len(self.unseen[split])}, "parameters": facts["parameters"]}
            about |= {"ensemble": facts, "environment": environment()}
            results = self.result.report(_ask(model, processor, self.unseen[split]), about)
            print(f"\n{facts['kind']} of {len(self.runs)} runs, {split} rows:")
            print(format_table(results))
        write_card(self.result.folder)
        return facts


def _ask(model: PreTrainedModel, processor: ProcessorMixin, rows: Dataset) -> Predictions:
    return Predictor(model, processor, 64, device=find_device()).predictions(rows)


def _short(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def build_ensemble(
    runs: Sequence[str | Path], output_dir: str | Path, fit_on: str | Path | None = None
) -> dict[str, Any]:
    """Make one checkpoint of several runs that vote.

    The folder gets the checkpoint, `task.json`, `ensemble.json` (members, weights, scores), and a report on the test
    rows (else the validation rows, if no member was trained on them) of the task that all runs share, if they do.

    Args:
        runs: folders of finished runs, or of ensembles, whose members are then taken; all of the same heads.
        output_dir: the folder to fill.
        fit_on: fit the members' weights, head by head, on these labeled rows: a table with the columns that the runs
            were trained on, or "validation" for the validation rows of the task that all runs share. Equal by default.

    Returns:
        what `ensemble.json` holds.

    Raises:
        ValueError: if the heads differ, a run is not whole, or there are no rows to fit on.
    """
    parts = _Parts(runs, output_dir)
    common_heads(parts.configs, [str(run.folder) for run in parts.runs])
    rows, source = (None, "") if fit_on is None else parts.labelled(fit_on)
    pairs = [pair for run in parts.runs for pair in list_members(*run.model())]
    ensembles = [config for config in parts.configs if isinstance(config, MultiHeadEnsembleConfig)]
    if any(head.temperature != 1 for config in ensembles for head in config.heads):
        warnings.warn("an ensemble's own temperatures do not go with its members; calibrate the new one.", stacklevel=2)
    said = [_ask(*pair, rows) for pair in pairs] if rows is not None else []
    members = [member for member, _ in pairs]
    if len({member.dtype for member in members}) > 1:  # safetensors could hold both; one forward pass can't
        members = [member.float() for member in members]
    processor, readers = MultiHeadEnsembleProcessor.join([own for _, own in pairs])
    ensemble = MultiHeadEnsemble.from_members(members, readers, fit_weights(said) if said else {})
    heads = ensemble.config.heads
    facts: dict[str, Any] = {"kind": "ensemble", "runs": parts.names, "members": len(members)}
    facts["weights"] = {head.name: ensemble.config.member_weights(head.name) for head in heads}
    if said:
        alone, together = [score_heads(one) for one in said], Predictions.mean(said, facts["weights"], heads)
        facts["fitted_on"] = {"rows": len(rows), "source": source, "members": [_short(one) for one in alone]}
        facts["fitted_on"]["ensemble"] = _short(score_heads(together))
    return parts.finish(ensemble, processor, facts)


def list_members(model: Any, processor: Any) -> list[tuple[Any, Any]]:
    """List a checkpoint's members with their processors: of an ensemble all, else the model itself."""
    if not isinstance(model, MultiHeadEnsemble):
        return [(model, processor)]
    parts = processor.processors if isinstance(processor, MultiHeadEnsembleProcessor) else [processor]
    return [(m, parts[reader]) for m, reader in zip(model.members, model.config.readers, strict=True)]


def fit_weights(said: Sequence[Predictions]) -> dict[str, list[float]]:
    """Find, head by head, the members' weights of least log-loss (least squared error for `regression`).

    The weights are 0 or more and sum to 1; so the problem is convex, and has one best value. `said` are the members'
    predictions of the same rows; a head without labeled ones is left out.
    """
    count, result = len(said), {}
    for head in said[0].heads:
        present, target = said[0].target[head.name]
        if not present.any() or count < 2:
            continue
        probs = np.stack([one.probabilities[head.name].astype(np.float64) for one in said])[:, present]
        target = target[present]
        if not head.rules.has_labels:
            # In deviations, or the tolerance would mean another thing for prices in won than for stars.
            scale = max(float(target.std()), 1e-12)
            loss, votes = _squared_error, (probs.T - target[:, None]) / scale
        elif head.rules.exclusive:
            loss, votes = _log_loss, np.take_along_axis(probs, target[None, :, None], axis=2)[..., 0].T
        else:  # each label is an observation of its own
            loss, votes = _log_loss, np.where(target[None], probs, 1 - probs).reshape(count, -1).T
        start, bounds, exact = np.full(count, 1 / count), [(0, 1)] * count, {"ftol": 1e-10, "maxiter": 500}
        found = minimize(loss, start, (votes,), "SLSQP", True, bounds=bounds, constraints=_SUM_OF_ONE, options=exact)
        weights = np.where(found.x < 1e-4, 0.0, found.x) if found.success else np.ones(count)
        result[head.name] = [round(float(weight), 6) for weight in weights / weights.sum()]
    return result


def _squared_error(weights: np.ndarray, errors: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient; `errors` are `(rows, members)`, and weights that sum to 1 average them too."""
    off = errors @ weights
    return float(np.square(off).mean()), 2 * errors.T @ off / len(off)


def _log_loss(weights: np.ndarray, happened: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient; `happened` is what each member gave what did happen, `(observations, members)`."""
    happened = happened.clip(1e-12)
    mixed = (happened @ weights).clip(1e-12)
    return float(-np.log(mixed).mean()), -(happened / mixed[:, None]).mean(axis=0)


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
    parts = _Parts(runs, output_dir)
    _check_one_architecture(parts)
    fit_on = VALIDATION if fit_on is None and kind == "greedy" else fit_on
    rows, source = (None, "") if fit_on is None else parts.labelled(fit_on)
    models, processors = zip(*(run.model(torch.float32) for run in parts.runs), strict=True)
    for run, own in zip(parts.runs, processors, strict=True):
        if processor_state(own) != processor_state(processors[0]):
            raise ValueError(
                f"{run.folder} prepares its input in another way than {parts.runs[0].folder}: no soup of the two."
            )
    kept, soup, processor = list(range(len(models))), copy.deepcopy(models[0]), processors[0]
    for head in soup.config.heads:
        head.temperature, head.thresholds = 1.0, None
    facts: dict[str, Any] = {"kind": f"{kind} soup", "runs": parts.names}
    if rows is None:
        _pour(soup, models)
    else:
        scores = [score_heads(_ask(model, processor, rows)) for model in models]
        if kind == "greedy":
            kept, best = [], -np.inf
            for number in sorted(range(len(models)), key=lambda n: -_main_score(scores[n])):
                _pour(soup, [models[n] for n in (*kept, number)])
                score = _main_score(score_heads(_ask(soup, processor, rows)))
                if score >= best:
                    kept, best = [*kept, number], score
        _pour(soup, [models[n] for n in kept])
        own = score_heads(_ask(soup, processor, rows))
        facts["scored_on"] = {
            "rows": len(rows), "source": source, "runs": [_short(one) for one in scores], "soup": _short(own)
        }  # fmt: skip
        if _main_score(own) < min(map(_main_score, scores)):
            warnings.warn(
                "the soup is worse than each of its runs: they probably did not start from the same weights; let them "
                "vote instead, without --soup.",
                stacklevel=2,
            )
    facts["kept"] = [parts.names[number] for number in kept]
    dtype = parts.configs[0].dtype
    return parts.finish(soup if dtype is None else soup.to(dtype), processor, facts)


def _pour(soup: PreTrainedModel, models: Sequence[PreTrainedModel]) -> None:
    """Give the soup the models' mean weights; counters and position numbers are the same in all."""
    states = [model.state_dict() for model in models]
    soup.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})


def _mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values) if values[0].is_floating_point() else values[0]


def _main_score(scores: dict[str, float]) -> float:
    """Return the one figure that is larger for the better model."""
    if "mean_macro_f1" in scores:
        return scores["mean_macro_f1"]
    return -sum(value for name, value in scores.items() if name.endswith("_rmse"))


def _check_one_architecture(parts: _Parts) -> None:
    first = parts.runs[0].folder
    for run, config in zip(parts.runs, parts.configs, strict=True):
        if isinstance(config, MultiHeadEnsembleConfig):
            raise ValueError(f"{run.folder} is an ensemble; a soup is made of single models.")
        if config.adapters:  # the mean of two products is not that of the means of their factors
            raise ValueError(f"{run.folder} has adapters of its own; without --soup such models can vote.")
        left, right = _architecture(parts.configs[0]), _architecture(config)
        for name in sorted({*left, *right}):
            if left.get(name) != right.get(name):
                raise ValueError(
                    f"{first} and {run.folder} differ in {name}, so their weights can't be averaged; without --soup "
                    "they can vote."
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
