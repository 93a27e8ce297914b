"""Distillation: a student that learns a teacher's logits, beside the labels or where there are none.

After Hinton et al. 2015 (arXiv:1503.02531): the Kullback-Leibler divergence of the probabilities of both, softened by a
temperature T, times T². The teacher is any checkpoint or ensemble of the same labels. It reads every training row once,
before training; its logits lie in the run's folder, and are used again when the run is resumed.

A row without labels is learned from the teacher alone; so self-training is a teacher, an `unlabelled` table and, if the
labels should have the say on the other rows, `alpha: 0`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...files import replacing
from ...inference.loading import load_checkpoint, load_config
from ...inference.predictor import Predictor
from ...models.configuration_multihead import HeadConfig
from ...runs.recipe import MultiHeadTrainingArguments
from ...runs.run import ENSEMBLE, Run
from ...tasks import Task
from ...tasks.inputs import join_texts
from ...tasks.look_alikes import image_bytes, normalize
from ...tasks.tables import read_table
from ..students import teacher_encoder
from .base import Setting, Technique

LOGITS = "teacher-{}.safetensors"
"""In a run's folder, by what the logits depend on."""
PROJECTION = "projection.safetensors"
_COLUMN = "teacher/"
_EMBEDDING = "embedding of teacher"


class Distillation(Technique, key="distillation"):
    """Learn a teacher's logits too.

    Of a head, a labeled cell costs (1 − alpha) × its own loss + alpha × `soft_loss`, an unlabeled one `soft_loss`
    alone. With `hidden`, the cosine distance between the student's and the teacher's embedding is added; where their
    widths differ, the student's goes through a linear layer, which is learned along and thrown away.

    Args:
        teacher: folder or Hub id of a checkpoint or ensemble.
        temperature: softens the teacher's and the student's probabilities, above 0.
        alpha: weight of the teacher where a row has a label, from 0 to 1; the label has the rest.
        hidden: weight of the cosine distance between the embeddings.
        layers: make the text encoder (the vision encoder, without one) of the teacher's own embeddings and these of its
            layers, counted from 0, in place of the recipe's.
        unlabelled: table of texts without labels that the teacher reads and the student learns too.
        unlabelled_text: its text column; the task's own by default.
    """

    teacher: str
    temperature: float = 2.0
    alpha: float = 0.5
    hidden: float = 0.0
    layers: list[int] | None = None
    unlabelled: str | None = None
    unlabelled_text: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf or not 0 <= self.alpha <= 1 or self.hidden < 0:
            raise ValueError(
                "distillation: temperature must be above 0, alpha from 0 to 1, and hidden 0 or more; not "
                f"{self.temperature}, {self.alpha} and {self.hidden}."
            )
        self._facts: dict[str, Any] = {}
        self._projection: nn.Module = nn.Identity()

    def encoders(
        self, encoders: dict[str, str | None], task: Task, arguments: MultiHeadTrainingArguments
    ) -> dict[str, str | None]:
        """Take the teacher's layers, if that is asked."""
        if not self.layers:
            return encoders
        folder = Path(arguments.output_dir)
        return encoders | teacher_encoder(self.teacher, self.layers, task, folder, arguments.should_save)

    def begin(self, setting: Setting) -> None:
        """Find the teacher's labels; ValueError if they are others."""
        super().begin(setting)
        self._teacher = load_config(self.teacher)
        self._order = match_labels(setting.heads, self._teacher.heads, self.teacher)

    def rows(self, rows: Dataset) -> Dataset:
        """Add the unlabeled rows, and to every row a column a head of the teacher's logits."""
        arguments = self.setting.arguments
        facts: dict[str, Any] = {name: getattr(self, name) for name in ("temperature", "alpha", "hidden")}
        facts["teacher"] = Path(self.teacher).name
        if arguments.should_save:
            _warn_of_folds(self.teacher)
        if self.unlabelled:
            extra, left_out = read_unlabelled(self.unlabelled, self.unlabelled_text, self.setting)
            rows = concatenate_datasets([rows, extra])
            note = f"used {len(extra):,} unlabeled rows of {Path(self.unlabelled).name}"
            facts |= {"unlabelled_left_out": left_out, "unlabelled_rows": len(extra), "note": note}
            if arguments.should_save:
                print(f"distillation: {note}; left out: {json.dumps(left_out)}", flush=True)
        with arguments.main_process_first(desc="asking the teacher"):
            said = teacher_logits(self.teacher, rows, arguments, with_embedding=self.hidden > 0)
        columns = {_COLUMN + name: said[name][:, places].numpy() for name, places in self._order.items()}
        if self.hidden:
            columns[_EMBEDDING] = said[_EMBEDDING].numpy()
        unread = int(next(iter(said.values())).isnan().any(-1).sum())
        if unread == len(rows):
            raise ValueError(
                f"the teacher {self.teacher} can't read any of the rows: it reads other input than the task."
            )
        self._facts = facts | {"rows_without_answer": unread}
        return concatenate_datasets([rows, Dataset.from_dict(columns)], axis=1)

    def model(self, model: nn.Module) -> nn.Module:
        """Make the layer between embeddings of different widths, where it is needed."""
        arguments, width, wanted = self.setting.arguments, model.config.embedding_size, self._teacher.embedding_size
        if self.hidden and width != wanted:
            if arguments.world_size > 1:
                raise ValueError(
                    f"the embeddings of teacher ({wanted}) and student ({width}) differ in width: distillation.hidden "
                    "then works in one process only."
                )
            self._projection = nn.Linear(width, wanted, bias=False).to(arguments.device)
        return model

    def collator(self, collator: Any) -> Any:
        """Put the teacher's logits into the batch."""
        return collator.also(_read_teacher)

    def groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Learn the layer between the embeddings too."""
        arguments = self.setting.arguments
        options = {"name": "projection", "lr": arguments.learning_rate, "weight_decay": arguments.weight_decay}
        return [*groups, *({"params": [weight]} | options for weight in self._projection.parameters())]

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Clear that layer's gradient; the Trainer clears those of its model only."""
        self._projection.zero_grad()

    def loss(self, loss: Tensor, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Give the teacher its part; what other techniques add to the model's own loss keeps its weight."""
        teacher, labels = batch["teacher"], batch["labels"]
        loss = loss - self.alpha * outputs.loss
        for head in self.setting.heads:
            logits, said = outputs.logits[head.name], teacher[head.name]
            soft = soft_loss(logits, said, labels.get(head.name), head, self.temperature, self.alpha)
            outputs.losses[f"{head.name}_teacher"] = soft
            loss = loss + self.setting.losses[head.name].weight * soft
        if self.hidden:
            loss = loss + self.hidden * self._distance(outputs.embedding.float(), teacher[_EMBEDDING])
        return loss

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        known = ~teacher.isnan().any(-1)
        distance = 1 - F.cosine_similarity(self._projection(student).float(), teacher.nan_to_num(), dim=-1)
        return torch.where(known, distance, 0.0).sum() / len(known)

    def save(self, folder: Path) -> None:
        """Keep the layer between the embeddings."""
        if weights := self._projection.state_dict():
            save_file(weights, folder / PROJECTION)

    def load(self, folder: Path, model: nn.Module) -> None:
        """Go on with it."""
        if (folder / PROJECTION).is_file():
            self._projection.load_state_dict(load_file(folder / PROJECTION))

    def facts(self) -> dict[str, Any]:
        """Return teacher, options, and which rows it was asked about."""
        return {"distillation": self._facts}


def _read_teacher(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    names = [name for name in rows[0] if name.startswith(_COLUMN) or name == _EMBEDDING]
    return {"teacher": {name.removeprefix(_COLUMN): torch.tensor([row[name] for row in rows]) for name in names}}


def soft_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor | None, head: HeadConfig, temperature: float, alpha: float
) -> Tensor:
    """Measure how far the student's answer is from the teacher's, as a mean over the rows of `Problem.distillation`.

    `teacher` holds `(batch, outputs)`, as `teacher_logits` returns them. Rows whose `labels` (as in `Problem.loss`) are
    known weigh `alpha`, the others 1, and those that the teacher has no answer to nothing.
    """
    known = ~teacher.isnan().any(-1)
    losses = head.rules.distillation(logits.float(), teacher.nan_to_num(), temperature)
    if labels is not None:
        missing = labels.isnan() if labels.is_floating_point() else labels < 0
        losses = losses * torch.where(missing.view(len(labels), -1).any(-1), 1.0, alpha)
    return torch.where(known, losses, 0.0).sum() / len(losses)


# ----------------------------------------------------------------------------------------------------------- the rows


def match_labels(student: list[HeadConfig], teacher: list[HeadConfig], name: str) -> dict[str, list[int]]:
    """Find where the teacher, which errors call `name`, has each label of the student's heads; `[0]` for `regression`.

    ValueError if a head or label is missing there, or the problems differ; it may have more heads.
    """
    known = {head.name: head for head in teacher}
    order = {}
    for head in student:
        other = known.get(head.name)
        if other is None:
            raise ValueError(f"the teacher {name} has no head {head.name!r}; it has: {', '.join(known)}.")
        if other.problem != head.problem:
            raise ValueError(
                f"head {head.name!r} is {head.problem} for the student and {other.problem} for the teacher {name}."
            )
        odd = sorted(set(head.labels) ^ set(other.labels))
        if odd:
            who = "student" if odd[0] in head.labels else "teacher"
            raise ValueError(
                f"head {head.name!r}: the teacher {name} has other labels than the student; only the {who} knows "
                f"{odd[0]!r}."
            )
        order[head.name] = [other.labels.index(label) for label in head.labels] or [0]
    return order


def _warn_of_folds(teacher: str) -> None:
    """Say it where the teacher has learned from the rows that the student is going to be judged by."""
    if any(re.match(r"fold-\d+", str(run)) for run in Run(teacher).read(ENSEMBLE).get("runs", ())):
        warnings.warn(
            "the teacher's members were trained on folds of the validation rows too: the student's validation scores "
            "are a little flattering; judge it by test rows.",
            stacklevel=4,
        )


def read_unlabelled(table: str, column: str | None, setting: Setting) -> tuple[Dataset, dict[str, int]]:
    """Read the unlabeled table as training rows whose labels are all missing; `column` is the task's own by default.

    Empty texts, and those that are repeated or among the task's own rows, are left out and counted.
    """
    path, task, processor = Path(table), setting.task, setting.processor
    if task is None or not task.text or processor.tokenizer is None:
        raise ValueError("unlabeled rows are texts, and this task or student has none.")
    if not path.is_file():
        raise FileNotFoundError(f"the unlabeled table {path} does not exist.")
    frame = read_table(path)
    columns = [column] if column else task.source.text
    for name in columns:
        if name not in frame.columns:
            raise ValueError(
                f"column {name!r} is missing from {path.name}; it has: {', '.join(map(str, frame.columns))}. Name "
                "the text column with --text."
            )
    seen = {normalize(text) for rows in setting.rows.values() for text in rows["text"] if text}
    texts, left_out = [], {"empty": 0, "repeated, or among the labeled rows": 0}
    for cells in zip(*(frame[name] for name in columns), strict=True):
        text = join_texts(cells) or ""
        if processor.clean(text) is None:
            left_out["empty"] += 1
        elif normalize(text) in seen:
            left_out["repeated, or among the labeled rows"] += 1
        else:
            seen.add(normalize(text))
            texts.append(text)
    if not texts:
        raise ValueError(f"{path.name} has no text that is not empty or among the labeled rows already.")
    features = setting.rows["train"].features
    content = {name: [None] * len(texts) for name in features}
    content |= {"id": [f"unlabelled-{number}" for number in range(len(texts))], "text": texts}
    return Dataset.from_dict(content, features=features), left_out


def teacher_logits(
    teacher: str, rows: Dataset, args: MultiHeadTrainingArguments, with_embedding: bool = False
) -> dict[str, Tensor]:
    """Return what the teacher says of every row; asked once, then read from the run's folder.

    Head name → float32 `(rows, outputs)`: logits after the teacher's own temperature, or the value, in its unit, for
    `regression`; NaN in rows that it can't read. With `with_embedding`, its embeddings too.
    """
    path = Path(args.output_dir) / LOGITS.format(_fingerprint(teacher, rows, with_embedding, args.bf16 or args.fp16))
    if not path.is_file():
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        size = args.per_device_eval_batch_size
        predictor = Predictor(*load_checkpoint(teacher), size, device=args.device, autocast=half)
        config = predictor.model.config
        said = {head.name: torch.full((len(rows), head.num_outputs), torch.nan) for head in config.heads}
        if with_embedding:
            said[_EMBEDDING] = torch.full((len(rows), config.embedding_size), torch.nan)
        inputs = rows.select_columns([name for name in ("text", "image") if name in rows.column_names])
        for row, output in enumerate(predictor.outputs(inputs, with_embedding, progress="teacher")):
            if output.error is None:  # else there is nothing that this teacher can read
                for head in config.heads:
                    said[head.name][row] = head.rules.scaled(torch.as_tensor(output.logits[head.name]))
                if with_embedding:
                    said[_EMBEDDING][row] = torch.as_tensor(output.embedding)
        with replacing(path) as part:
            save_file(said, part)
    return load_file(path)


def _fingerprint(teacher: str, rows: Dataset, *others: Any) -> str:
    """Hash all that the answers depend on: the teacher's files, the rows' input, and options."""
    hasher = hashlib.blake2b(repr(others).encode(), digest_size=16)
    folder = Path(teacher)
    if folder.is_dir():
        for path in sorted([*folder.glob("*"), *folder.glob("processor_*/*")]):
            if path.suffix in (".safetensors", ".json") and path.name != ENSEMBLE:
                hasher.update(path.relative_to(folder).as_posix().encode())
                with open(path, "rb") as file:
                    hasher.update(hashlib.file_digest(file, "blake2b").digest())
    else:
        hasher.update(f"{teacher} {load_config(teacher)._commit_hash}".encode())
    for name in ("id", "text"):
        if name in rows.column_names:
            hasher.update(json.dumps(list(rows[name]), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if "image" in rows.column_names:
        for image in rows["image"]:
            hasher.update(hashlib.blake2b(image_bytes(image) or b"").digest())
    return hasher.hexdigest()
