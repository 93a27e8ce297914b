"""What a head's problem decides: its loss, probabilities and answers, its labels as arrays, and how people read them.

One class a problem, one object a head: `head.rules` is `PROBLEMS[head.problem](head)`. What needs more than torch and
NumPy (scores, pages, columns of a table) hangs its own functions on these classes by `head.rules.pick({…})`. A further
problem is a subclass, entered in `PROBLEMS`; one whose answer is still one label a row derives from `SingleLabel`.
"""

# ruff: noqa: D102 - what a method means is said once, in `Problem`

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .shared import check_range

if TYPE_CHECKING:
    from .configuration_multihead import HeadConfig

MISSING = -100  # label of a single_label cell that is not known; unknown cells elsewhere are NaN

T = TypeVar("T")


@dataclass
class HeadLoss:
    """How a head is trained, beside its labels. Nothing here changes an answer, and no checkpoint holds it.

    Args:
        weight: factor of this head's loss in the total.
        class_weights: one factor a label: multiplies the cross-entropy of rows of that label (`single_label`) or the
            positive term (`multi_label`). None weighs all alike.
        label_smoothing: share of the target spread evenly over the labels, in [0, 1).
        focal_gamma: classification only: each term of the cross-entropy is multiplied by (1 - p) ** focal_gamma, so
            that what is right already counts less (focal loss: Lin et al. 2017, arXiv:1708.02002); 0 changes nothing.
        logit_adjustment: `single_label` only: this many times ln(prior) is added to the logits in the loss and not in
            answers, so that rare labels are answered as readily as common ones (the τ of Menon et al. 2021,
            arXiv:2007.07314, where 1 minimizes the error averaged over labels); 0 changes nothing.
        prior: each label's share of the training rows, above 0; what `logit_adjustment` needs. Training fills it in.
    """

    weight: float = 1.0
    class_weights: list[float] | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    logit_adjustment: float = 0.0
    prior: list[float] | None = None


LOSS_OPTIONS = tuple(HeadLoss.__dataclass_fields__)


class Problem:
    """The rules of one head; base of all problems.

    Shapes: logits are `(batch, num_outputs)`; "labels" are tensors as `tensor` makes them, "target" is a NumPy array as
    `read` returns it, "answer" one of the same form. Methods that take neither a batch nor rows look at one value.
    """

    name: ClassVar[str]
    has_labels: ClassVar[bool] = True  # answers are among the head's labels
    exclusive: ClassVar[bool] = False  # exactly one label a row: may have a parent, children, a confusion matrix
    number_cells: ClassVar[tuple[str, ...]] = ()  # of `cells`, those that hold numbers

    def __init__(self, head: HeadConfig) -> None:
        self.head = head

    def pick(self, table: Mapping[str, T]) -> T:
        """Return the entry, by a problem's name, for this one or else for the nearest of those it derives from."""
        names = [cls.name for cls in type(self).__mro__ if "name" in vars(cls)]
        return next(table[name] for name in names if name in table)

    @property
    def num_outputs(self) -> int:
        """Width of the head's logits."""
        return len(self.head.labels)

    def validate(self) -> None:
        """Refuse labels and parents that this problem can't have; ValueError."""
        head, where = self.head, f"head {self.head.name!r}"
        if self.has_labels and not head.labels:
            raise ValueError(f"{where} has no labels: give `labels`, the names in index order.")
        if head.labels and not self.has_labels:
            raise ValueError(f"{where}: a {self.name} head predicts a number and takes no `labels`.")
        if head.parent is not None and not self.exclusive:
            raise ValueError(f"{where}: only a single_label head can have a parent.")

    def validate_loss(self, options: HeadLoss) -> None:
        """Refuse training options that this head can't have; ValueError."""
        count, where = len(self.head.labels), f"head {self.head.name!r}: "
        for name, least, low in (("class_weights", "of 0 or more", 0.0), ("prior", "above 0", math.ulp(0.0))):
            values = getattr(options, name)
            if values is not None and (len(values) != count or not all(low <= v < math.inf for v in values)):
                raise ValueError(f"{where}{name} needs {count} numbers {least}, one a label.")
        check_range(options, "label_smoothing", where=where)
        check_range(options, "weight", "focal_gamma", "logit_adjustment", high=math.inf, where=where)
        if options.focal_gamma and not self.has_labels:
            raise ValueError(f"{where}focal_gamma is for labels; a {self.name} head predicts a number.")
        if options.logit_adjustment and not self.exclusive:
            raise ValueError(f"{where}logit_adjustment needs labels that exclude each other: problem single_label.")

    # ------------------------------------------------------------------------------------------------------- tensors

    def losses(self, logits: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        """Loss of each row, `(batch,)`; 0 where it is not labeled."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        """Loss of the head: the sum over labeled rows divided by the number of rows.

        Not by the number of labeled ones: so eight batches of one row give the gradient of one batch of eight,
        whichever labels are missing. Labels are, for `single_label`, int64 `(batch,)` with -100 where unknown, or a
        distribution `(batch, labels)`; for `multi_label` `(batch, labels)` of 0 to 1; for `regression` `(batch,)` in
        the target's unit; NaN where unknown. Other shapes are a ValueError.
        """
        # log-softmax of half precision logits loses the tail
        return self.losses(logits.float(), labels, options).sum() / logits.shape[0]

    def scaled(self, logits: Tensor) -> Tensor:
        """The logits after calibration, float32; for a number its value in the target's unit, `(batch, 1)`."""
        return logits.float() / self.head.temperature

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities, float32 `(batch, labels)`; for a number its value `(batch,)` in the target's unit."""
        raise NotImplementedError

    def decide(self, probs: Tensor, threshold: float | None) -> Tensor:
        """The answer of this head alone, from `probabilities`; None for the head's own threshold, or thresholds."""
        raise NotImplementedError

    def disagreement(self, one: Tensor, other: Tensor) -> Tensor:
        """How far two passes' logits are apart, `(batch,)`: ½ (KL(p ‖ q) + KL(q ‖ p)) for labels."""
        raise NotImplementedError

    def distillation(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far logits are from what `scaled` gave of a teacher's, `(batch,)`: T² × KL(teacher ‖ student) at T."""
        raise NotImplementedError

    def vote(self, members: Sequence[HeadConfig], logits: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Logits of the average answer of members, each with the head's own temperature and scale.

        `weights` are `(batch, members)`, 0 or more, no row all 0; they need not sum to 1.
        """
        shares = (weights / weights.sum(1, keepdim=True)).float().T[:, :, None]  # (members, batch, 1)
        said = torch.stack([own.rules.scaled(values) for own, values in zip(members, logits, strict=True)])
        return self._average(said, shares)

    def _average(self, said: Tensor, shares: Tensor) -> Tensor:
        raise NotImplementedError

    def readable(self, probs: Tensor, chosen: Tensor, top_k: int | None, threshold: float | None) -> list[Any]:
        """What a person gets to read of each row: a list of `{"label", "score"}`, or a number; see `decoding`."""
        raise NotImplementedError

    def tensor(self, values: Sequence[Any], soft: bool = False) -> Tensor:
        """Turn cells (an index, a list of them, a number, or with `soft` a distribution; None) into `loss`'s labels."""
        result = torch.full((len(values), len(self.head.labels)), float("nan"))
        for row, value in enumerate(values):
            if soft and value is not None:
                result[row] = torch.tensor(value)
            elif value is not None and not isinstance(value, float):
                result[row] = 0.0
                result[row, list(value)] = 1.0
        return result

    # -------------------------------------------------------------------------------------------------------- arrays

    def read(self, values: np.ndarray | None, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tell labeled rows from unlabeled ones and bring labels, shaped as `loss` takes them, into one form.

        Returns which rows are labeled, and the target: int64 `(rows,)`, bool `(rows, labels)` or float64 `(rows,)`,
        with zeros where missing. A ValueError names head and row of a label out of range.
        """
        values = np.full(self._shape(rows or 0), np.nan) if values is None else np.asarray(values)
        return self._read(values, len(values) if rows is None else rows)

    def _shape(self, rows: int) -> tuple[int, ...]:
        return (rows, len(self.head.labels)) if self.has_labels else (rows,)

    def _read(self, values: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        shape = self._shape(rows)
        self._check_shape(values, shape)
        values = values.astype(np.float64)
        wide = values.reshape(len(values), math.prod(shape[1:]))  # of no rows too
        infinite = np.flatnonzero(np.isinf(wide).any(axis=1))
        if infinite.size:
            raise ValueError(f"head {self.head.name!r}, row {infinite[0]}: the label is infinite.")
        present = ~np.isnan(wide).any(axis=1)
        return present, np.where(present[:, None] if len(shape) > 1 else present, values, 0.0)

    def _check_shape(self, labels: np.ndarray | Tensor, shape: Sequence[int]) -> None:
        if tuple(labels.shape) != tuple(shape):
            raise ValueError(
                f"head {self.head.name!r}: its labels have the shape {tuple(labels.shape)}, not {tuple(shape)}."
            )

    def _known(self, labels: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Which rows are labeled, and the labels as float32 with 0 for NaN."""
        self._check_shape(labels, shape)
        labels = labels.float()
        known = ~labels.isnan() if labels.dim() == 1 else ~labels.isnan().any(-1)
        return known, labels.nan_to_num(0.0)

    def majority(self, target: np.ndarray) -> tuple[Any, Any]:
        """The best answer that ignores the input: what stands for its probabilities, and the answer itself."""
        raise NotImplementedError

    def counts(self, target: np.ndarray) -> np.ndarray:
        """On how many rows each label is, `(labels,)`; empty for a number."""
        return self.indicators(target).sum(axis=0)

    def indicators(self, values: np.ndarray) -> np.ndarray:
        """Which label is on which row, bool `(rows, labels)`, of targets or answers; no column for a number."""
        raise NotImplementedError

    def right(self, target: np.ndarray, answer: np.ndarray) -> np.ndarray:
        """In which rows the answer is wholly right, bool `(rows,)`."""
        return (self.indicators(target) == self.indicators(answer)).all(axis=1)

    def confidence(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every confidence that a user sees, and whether it was right: one a row, or one a label and row."""
        raise NotImplementedError

    def errors(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How sure (for a number, how far off) each row's answer is; and the same where it is wrong, else -1."""
        score = self._sureness(target, answer, probs)
        return score, np.where(self.right(target, answer), -1.0, score)

    def _sureness(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    # -------------------------------------------------------------------------------------------------------- people

    def names(self, value: Any) -> list[str]:
        """Names of the labels of one cell, target or answer: none where it is None."""
        raise NotImplementedError

    def write(self, value: Any) -> str:
        """One target or answer as a cell of a CSV file; several labels as a JSON list, for labels may hold commas."""
        return self.names(value)[0]

    def say(self, value: Any) -> str:
        """One target or answer as a sentence shows it."""
        return self.write(value)

    def cells(self, answer: Any) -> list[Any]:
        """One answer of `readable` as the cells `pred` and `score` of a table."""
        raise NotImplementedError


class SingleLabel(Problem):
    """One label a row: softmax and cross-entropy."""

    name = "single_label"
    exclusive = True
    number_cells = ("score",)

    def validate(self) -> None:
        super().validate()
        if len(self.head.labels) < 2:
            where = f"head {self.head.name!r} has one label only ({self.head.labels[0]!r})"
            raise ValueError(f"{where}: there is nothing to decide; leave the column out.")

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Natural logarithms of the labels' probabilities, `(batch, labels)`, of logits that are calibrated or not."""
        return logits.log_softmax(-1)

    def as_logits(self, log_probabilities: Tensor) -> Tensor:
        """Logits that have these log-probabilities."""
        return log_probabilities

    def adjusted(self, logits: Tensor, options: HeadLoss) -> Tensor:
        """Log-probabilities as the loss sees them: with τ ln(prior) added."""
        values = self.log_probabilities(logits)
        if not options.logit_adjustment:
            return values
        if options.prior is None:
            where = f"head {self.head.name!r}"
            raise ValueError(f"{where}: logit_adjustment needs `prior`, the labels' shares in training.")
        prior = torch.tensor(options.prior, device=logits.device)
        return (values + options.logit_adjustment * prior.log()).log_softmax(-1)

    def losses(self, logits: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        return self.cross_entropy(self.adjusted(logits, options), labels, options)

    def cross_entropy(self, log_probabilities: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        """Loss of each row from log-probabilities; hard labels are distributions with one 1."""
        count = log_probabilities.shape[-1]
        if labels.dim() == 1:
            known = labels != MISSING
            labels = F.one_hot(torch.where(known, labels, 0).long(), count).float()
        else:
            known, labels = self._known(labels, log_probabilities.shape)
        losses = _positive_terms(_smooth(labels, count, options), log_probabilities, options).sum(-1)
        return torch.where(known, losses, 0.0)

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.log_probabilities(self.scaled(logits)).exp()

    def decide(self, probs: Tensor, threshold: float | None) -> Tensor:
        return probs.argmax(-1)

    def disagreement(self, one: Tensor, other: Tensor) -> Tensor:
        one, other = self.log_probabilities(one), self.log_probabilities(other)
        return ((one.exp() - other.exp()) * (one - other)).sum(-1) / 2

    def distillation(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        answer, target = (self.log_probabilities(values / temperature) for values in (logits, teacher))
        return F.kl_div(answer, target, reduction="none", log_target=True).sum(-1) * temperature**2

    def _average(self, said: Tensor, shares: Tensor) -> Tensor:
        # In logarithms: no probability underflows to an infinite logit.
        return self.as_logits(torch.logsumexp(self.log_probabilities(said) + shares.log(), 0))

    def readable(self, probs: Tensor, chosen: Tensor, top_k: int | None, threshold: float | None) -> list[Any]:
        # The consistent label comes first, whatever its own probability.
        return _listed(self.head, probs, probs.scatter(1, chosen[:, None], 2.0), top_k or 1, threshold or 0.0)

    def tensor(self, values: Sequence[Any], soft: bool = False) -> Tensor:
        if soft:
            return super().tensor(values, soft)
        return torch.tensor([MISSING if value is None or not value >= 0 else int(value) for value in values])

    def _read(self, values: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        count = len(self.head.labels)
        if values.ndim == 2:  # distributions
            present, values = super()._read(values, rows)
            return present, values.argmax(axis=1)
        self._check_shape(values, (rows,))
        filled = np.where(np.isnan(values), MISSING, values) if values.dtype.kind == "f" else values
        whole = filled.astype(np.int64)
        present = whole != MISSING
        bad = np.flatnonzero(present & ((whole < 0) | (whole >= count) | (whole != filled)))
        if bad.size:
            raise ValueError(
                f"head {self.head.name!r}, row {bad[0]}: label {values[bad[0]]} is not an index from 0 to "
                f"{count - 1}, nor {MISSING} for a missing one."
            )
        return present, np.where(present, whole, 0)

    def majority(self, target: np.ndarray) -> tuple[Any, Any]:
        prior = self.counts(target) / len(target)
        return prior, prior.argmax()

    def counts(self, target: np.ndarray) -> np.ndarray:
        return np.bincount(target, minlength=len(self.head.labels))

    def indicators(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values)[:, None] == np.arange(len(self.head.labels))

    def right(self, target: np.ndarray, answer: np.ndarray) -> np.ndarray:
        return target == answer

    def confidence(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.take_along_axis(probs, answer[:, None], axis=1)[:, 0], target == answer

    def _sureness(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> np.ndarray:
        return self.confidence(target, answer, probs)[0]

    def names(self, value: Any) -> list[str]:
        if value is None:
            return []
        index = max(range(len(value)), key=value.__getitem__) if isinstance(value, list) else int(value)
        return [self.head.labels[index]]

    def cells(self, answer: Any) -> list[Any]:
        return [answer[0]["label"], round(answer[0]["score"], 6)] if answer else [None, None]


class MultiLabel(Problem):
    """Any number of labels a row: independent sigmoids."""

    name = "multi_label"

    def losses(self, logits: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        known, labels = self._known(labels, logits.shape)
        labels = _smooth(labels, 2, options)
        yes = _positive_terms(labels, F.logsigmoid(logits), options)
        return torch.where(known, (yes + (1 - labels) * _focused(F.logsigmoid(-logits), options)).mean(-1), 0.0)

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.scaled(logits).sigmoid()

    def decide(self, probs: Tensor, threshold: float | None) -> Tensor:
        return probs >= (self._thresholds(probs) if threshold is None else threshold)

    def _thresholds(self, probs: Tensor) -> Tensor | float:
        return 0.5 if self.head.thresholds is None else torch.tensor(self.head.thresholds).to(probs)

    def disagreement(self, one: Tensor, other: Tensor) -> Tensor:
        return ((one.sigmoid() - other.sigmoid()) * (one - other)).mean(-1) / 2

    def distillation(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        soft = (teacher / temperature).sigmoid()
        cross = F.binary_cross_entropy_with_logits(logits / temperature, soft, reduction="none")
        entropy = F.binary_cross_entropy_with_logits(teacher / temperature, soft, reduction="none")
        return (cross - entropy).mean(-1) * temperature**2

    def _average(self, said: Tensor, shares: Tensor) -> Tensor:
        yes, no = (torch.logsumexp(F.logsigmoid(side) + shares.log(), 0) for side in (said, -said))
        return yes - no

    def readable(self, probs: Tensor, chosen: Tensor, top_k: int | None, threshold: float | None) -> list[Any]:
        if threshold is None and not top_k:
            said, threshold = probs.where(probs >= self._thresholds(probs), -1.0), 0.0
        else:
            said, threshold = probs, threshold or 0.0
        return _listed(self.head, said, probs, top_k or len(self.head.labels), threshold)

    def _read(self, values: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        present, values = super()._read(values, rows)
        return present, values >= 0.5

    def majority(self, target: np.ndarray) -> tuple[Any, Any]:
        prior = target.mean(axis=0)
        return prior, prior >= 0.5

    def indicators(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, dtype=bool)

    def confidence(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return probs.ravel(), target.ravel()

    def _sureness(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> np.ndarray:
        return np.abs(probs - target).max(axis=1)

    def names(self, value: Any) -> list[str]:
        if value is None:
            return []
        chosen = np.flatnonzero(value) if isinstance(value, np.ndarray) else sorted(value)
        return [self.head.labels[index] for index in chosen]

    def write(self, value: Any) -> str:
        return json.dumps(self.names(value), ensure_ascii=False)

    def say(self, value: Any) -> str:
        return ", ".join(self.names(value)) or "none"

    def cells(self, answer: Any) -> list[Any]:
        labels, scores = [item["label"] for item in answer], [round(item["score"], 6) for item in answer]
        return [json.dumps(labels, ensure_ascii=False), json.dumps(scores)]


class Regression(Problem):
    """A number: squared error of the target in deviations."""

    name = "regression"
    has_labels = False
    number_cells = ("pred", "score")

    @property
    def num_outputs(self) -> int:
        return 1

    def losses(self, logits: Tensor, labels: Tensor, options: HeadLoss) -> Tensor:
        known, labels = self._known(labels, logits.shape[:1])
        return torch.where(known, (logits.squeeze(-1) - (labels - self.head.mean) / self.head.std).square(), 0.0)

    def scaled(self, logits: Tensor) -> Tensor:
        return logits.float() * self.head.std + self.head.mean

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.scaled(logits).squeeze(-1)

    def decide(self, probs: Tensor, threshold: float | None) -> Tensor:
        return probs

    def disagreement(self, one: Tensor, other: Tensor) -> Tensor:
        return (one - other).square().sum(-1)

    def distillation(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return (logits - (teacher - self.head.mean) / self.head.std).square().squeeze(-1)

    def _average(self, said: Tensor, shares: Tensor) -> Tensor:
        return ((said * shares).sum(0) - self.head.mean) / self.head.std

    def readable(self, probs: Tensor, chosen: Tensor, top_k: int | None, threshold: float | None) -> list[Any]:
        return probs.tolist()

    def tensor(self, values: Sequence[Any], soft: bool = False) -> Tensor:
        return torch.tensor([float("nan") if value is None else float(value) for value in values])

    def majority(self, target: np.ndarray) -> tuple[Any, Any]:
        return target.mean(), target.mean()

    def indicators(self, values: np.ndarray) -> np.ndarray:
        return np.zeros((len(values), 0), dtype=bool)

    def errors(self, target: np.ndarray, answer: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        off = np.abs(answer - target)
        return off, off

    def names(self, value: Any) -> list[str]:
        return []

    def write(self, value: Any) -> str:
        return f"{float(value):.6g}"

    def cells(self, answer: Any) -> list[Any]:
        return [answer, None]


PROBLEMS: dict[str, type[Problem]] = {rules.name: rules for rules in (SingleLabel, MultiLabel, Regression)}
SPELLINGS = {f"{name}_classification": name for name in ("single_label", "multi_label")}
"""What transformers' `problem_type` says for a problem, which may be written so too."""


def _smooth(labels: Tensor, count: int, options: HeadLoss) -> Tensor:
    return labels * (1 - options.label_smoothing) + options.label_smoothing / count


def _positive_terms(labels: Tensor, log_probabilities: Tensor, options: HeadLoss) -> Tensor:
    """Loss of the labels that are there, each by its class weight."""
    losses = labels * _focused(log_probabilities, options)
    return losses if options.class_weights is None else losses * losses.new_tensor(options.class_weights)


def _focused(log_probabilities: Tensor, options: HeadLoss) -> Tensor:
    """-ln p, by the focal loss's factor (1 - p) ** gamma."""
    if not options.focal_gamma:
        return -log_probabilities
    # For a gamma below 1 the power's slope at p = 1 is infinite.
    rest = -torch.expm1(log_probabilities)
    return -log_probabilities * rest.clamp_min(torch.finfo(rest.dtype).eps) ** options.focal_gamma


def _listed(head: HeadConfig, probs: Tensor, ranking: Tensor, limit: int, floor: float) -> list[list[dict[str, Any]]]:
    """Each row's labels of highest rank, with their probabilities from `floor` on."""
    order = ranking.topk(min(limit, len(head.labels))).indices
    rows = zip(order.tolist(), probs.gather(1, order).tolist(), strict=True)
    return [
        [{"label": head.labels[index], "score": score} for index, score in zip(*row, strict=True) if score >= floor]
        for row in rows
    ]
