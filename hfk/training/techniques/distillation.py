"""Distillation: a student that learns what a teacher answers, beside the labels or where there are none.

After Hinton et al. 2015 (arXiv:1503.02531): the Kullback-Leibler divergence of the probabilities of both, softened by a
temperature T, times T². The teacher is any checkpoint or ensemble of the same labels. It answers every training row
once, before training; its answers lie as Arrow in the run's folder, and are used again when the run is resumed.

A student is an ordinary run: these are options of its recipe (`teacher`, `distill_…`, `student_layers`, `unlabelled`),
and its report says what it used. A row without labels is learned from the teacher alone; so self-training is a teacher,
an `unlabelled` table and, if the labels should have the say on the other rows, `distill_alpha: 0`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ...backbones.registry import resolve
from ...inference.loading import load_checkpoint, load_config
from ...models.configuration_multihead import HeadConfig
from ...models.modeling_ensemble import MultiHeadEnsemble
from ...models.processing_ensemble import MultiHeadEnsembleProcessor
from ...models.processing_multihead import MultiHeadProcessor
from ...runs.recipe import MultiHeadTrainingArguments, RecipeArguments, load_recipe
from ...tasks import Task
from ...tasks.collator import MultiHeadCollator
from ...tasks.look_alikes import image_bytes, normalize
from ...tasks.split import without_folds
from ...tasks.tables import read_table
from ..ensemble import FACTS
from ..trainer import MultiHeadTrainer, unwrap

ANSWERS = "teacher.arrow"
ENCODER = "student_encoder"
PROJECTION = "projection.safetensors"
_COLUMN = "teacher/"
_EMBEDDING = "embedding of teacher"
_WINDOW = 2048  # rows that are sorted by length into batches, and written together
_OWN = ("folds", "fold", "teacher", "student_layers", "unlabelled", "unlabelled_text")


@dataclass
class Lesson:
    """What a student learns from, beside its recipe.

    Args:
        rows: the training rows and the unlabelled ones, with a column of the teacher's answer for every head.
        facts: what the report says of it.
        temperature: softens both sides' probabilities.
        alpha: weight of the teacher's answer where there is a label.
        hidden: weight of the cosine distance of the embeddings.
        embedding_size: width of the teacher's embedding.
    """

    rows: Dataset
    facts: dict[str, Any]
    temperature: float
    alpha: float
    hidden: float
    embedding_size: int


def distil(
    teacher: str,
    output_dir: str | Path,
    student: str | Path | dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Train a student by its recipe, with a teacher; what `hfk distill` calls.

    Args:
        teacher: folder or Hub id of a checkpoint or ensemble.
        output_dir: folder of the run.
        student: recipe of the student, as for `train`; that of the teacher's own run by default.
        overrides: options that replace the recipe's, those of distillation among them.
        resume: as for `train`.

    Returns:
        as `train`.

    Raises:
        ValueError: if teacher and student have different labels, or as for `train`.

    Example:
        >>> distil("runs/cv/ensemble", "runs/small", "ynat", {"distill_alpha": 0.7})  # doctest: +SKIP
    """
    from ..train import train

    if student is None:
        student = Path(teacher) / "recipe.yaml"
        if not student.is_file():
            raise ValueError(f"{teacher} has no recipe.yaml to train the student by: name a recipe with --student.")
    options = dict(student) if isinstance(student, Mapping) else load_recipe(student)
    options = {name: value for name, value in options.items() if name not in _OWN}
    options["split"] = without_folds(options.get("split"))
    return train(options | (overrides or {}) | {"teacher": str(teacher)}, output_dir, resume=resume)


def prepare_lesson(
    recipe: RecipeArguments,
    args: MultiHeadTrainingArguments,
    task: Task,
    heads: list[HeadConfig],
    processor: MultiHeadProcessor,
    data: DatasetDict,
) -> Lesson:
    """Have the teacher answer the training rows, and the unlabelled ones.

    Args:
        recipe: gives the teacher and the options of distillation.
        args: gives the run's folder, device, batch size and precision.
        task: the task, for its text columns.
        heads: the student's heads.
        processor: the student's processor.
        data: the labelled rows.

    Raises:
        ValueError: if the teacher can't be read or has other labels than the student, or the unlabelled table can't be
            used.
    """
    config = load_config(recipe.teacher)
    order = match_labels(heads, config.heads, recipe.teacher)
    rows, facts = data["train"], {"teacher": Path(recipe.teacher).name, "temperature": recipe.distill_temperature}
    facts |= {"alpha": recipe.distill_alpha, "hidden": recipe.distill_hidden}
    _warn_of_folds(recipe.teacher, args.should_save)
    if recipe.unlabelled:
        extra, facts["unlabelled_rows"], left_out = read_unlabelled(recipe, task, processor, data)
        facts["unlabelled_left_out"] = left_out
        rows = concatenate_datasets([rows, extra])
        said = f"used {facts['unlabelled_rows']:,} unlabelled rows of {Path(recipe.unlabelled).name}"
        facts["note"] = said
        if args.should_save:
            print(f"distillation: {said}; left out: {json.dumps(left_out)}", flush=True)
    with args.main_process_first(desc="asking the teacher"):
        answers = teacher_answers(recipe.teacher, rows, args, with_embedding=recipe.distill_hidden > 0)
    unread = sum(value is None for value in answers[_COLUMN + config.heads[0].name])
    if unread == len(rows):
        raise ValueError(
            f"the teacher {recipe.teacher} can't read any of the rows: it reads other input than the task."
        )
    facts["rows_without_answer"] = unread
    columns = [_COLUMN + head.name for head in heads] + [_EMBEDDING] * (_EMBEDDING in answers.column_names)
    rows = _reorder(concatenate_datasets([rows, answers.select_columns(columns)], axis=1), order)
    return Lesson(
        rows, facts, recipe.distill_temperature, recipe.distill_alpha, recipe.distill_hidden, config.embedding_size
    )


def match_labels(student: list[HeadConfig], teacher: list[HeadConfig], name: str) -> dict[str, list[int]]:
    """Find where the teacher has each of the student's labels.

    Args:
        student: the student's heads.
        teacher: the teacher's heads; it may have more.
        name: what errors call the teacher.

    Returns:
        for every head whose labels stand in another order there: head name → index of each label at the teacher.

    Raises:
        ValueError: if a head or label is missing there, or the problems differ; one sentence.
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
        if head.labels != other.labels:
            order[head.name] = [other.labels.index(label) for label in head.labels]
    return order


def _reorder(rows: Dataset, order: dict[str, list[int]]) -> Dataset:
    for name, places in order.items():
        column, feature = rows[_COLUMN + name], rows.features[_COLUMN + name]
        moved = [None if values is None else [values[place] for place in places] for values in column]
        rows = rows.remove_columns(_COLUMN + name).add_column(_COLUMN + name, moved, feature=feature)
    return rows


def _warn_of_folds(teacher: str, say: bool) -> None:
    """Say it where the teacher has learned from the rows that the student is going to be judged by."""
    try:
        facts = json.loads((Path(teacher) / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if say and any(re.match(r"fold-\d+", str(run)) for run in facts.get("runs", ())):
        warnings.warn(
            "the teacher's members were trained on folds of the validation rows too: the student's validation scores "
            "are a little flattering; judge it by test rows.",
            stacklevel=4,
        )


# ----------------------------------------------------------------------------------------------------------- the rows


def read_unlabelled(
    recipe: RecipeArguments, task: Task, processor: MultiHeadProcessor, data: DatasetDict
) -> tuple[Dataset, int, dict[str, int]]:
    """Read the unlabelled table as training rows whose labels are all missing.

    Args:
        recipe: gives the table and its text column.
        task: gives the text columns by default.
        processor: the student's; rows of whose text it leaves nothing are left out.
        data: the labelled rows; texts that are among them, validation and test included, are left out.

    Returns:
        the rows, their number, and how many were left out for which reason.

    Raises:
        ValueError: if a column is missing, or no row is left.
    """
    path = Path(recipe.unlabelled)
    if not task.text or processor.tokenizer is None:
        raise ValueError("unlabelled rows are texts, and this task or student has none.")
    if not path.is_file():
        raise FileNotFoundError(f"the unlabelled table {path} does not exist.")
    frame = read_table(path)
    columns = [recipe.unlabelled_text] if recipe.unlabelled_text else task.source.text
    for column in columns:
        if column not in frame.columns:
            raise ValueError(
                f"column {column!r} is missing from {path.name}; it has: {', '.join(map(str, frame.columns))}. Name "
                "the text column with --text."
            )
    seen = {normalize(text) for rows in data.values() for text in rows["text"] if text}
    texts, left_out = [], {"empty": 0, "repeated, or among the labelled rows": 0}
    for cells in zip(*(frame[column] for column in columns), strict=True):
        text = " ".join(str(cell) for cell in cells if isinstance(cell, str) and cell.strip())
        if processor.clean(text) is None:
            left_out["empty"] += 1
        elif normalize(text) in seen:
            left_out["repeated, or among the labelled rows"] += 1
        else:
            seen.add(normalize(text))
            texts.append(text)
    if not texts:
        raise ValueError(f"{path.name} has no text that is not empty or among the labelled rows already.")
    features = data["train"].features
    content = {name: [None] * len(texts) for name in features}
    content |= {"id": [f"unlabelled-{number}" for number in range(len(texts))], "text": texts}
    return Dataset.from_dict(content, features=features), len(texts), left_out


def teacher_answers(
    teacher: str, rows: Dataset, args: MultiHeadTrainingArguments, with_embedding: bool = False
) -> Dataset:
    """Return what the teacher says of every row; asked once, then read from the run's folder.

    Args:
        teacher: folder or Hub id.
        rows: the rows.
        args: gives the run's folder, device, batch size and precision.
        with_embedding: its embeddings too.

    Returns:
        one column a head, `teacher/NAME`: logits after the teacher's own temperature, or the value, in its unit, for
        `regression`; None in rows that it can't read. With `with_embedding`, another one.
    """
    path = Path(args.output_dir) / ANSWERS
    state = _fingerprint(teacher, rows, with_embedding, args.bf16 or args.fp16)
    if not _is_current(path, state):
        model, processor = load_checkpoint(teacher)
        heads = model.config.heads
        names = [_COLUMN + head.name for head in heads] + [_EMBEDDING] * with_embedding
        schema = pa.schema([(name, pa.list_(pa.float32())) for name in names], metadata={"state": state})
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for columns in _ask(model.to(args.device).eval(), processor, rows, args, with_embedding):
                arrays = [pa.array(column, pa.list_(pa.float32())) for column in columns]
                stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        os.replace(part, path)
    return Dataset.from_file(str(path))


@torch.inference_mode()
def _ask(
    model: nn.Module,
    processor: MultiHeadProcessor | MultiHeadEnsembleProcessor,
    rows: Dataset,
    args: MultiHeadTrainingArguments,
    with_embedding: bool,
) -> Iterator[list[list[Any]]]:
    """Yield the answers to a window of rows at a time, in row order: one list a column."""
    heads, size = model.config.heads, args.per_device_eval_batch_size
    half = torch.bfloat16 if args.bf16 else torch.float16
    silent = args.disable_tqdm or not sys.stderr.isatty()
    with tqdm(total=len(rows), desc="teacher", unit=" rows", disable=silent) as bar:
        for start in range(0, len(rows), _WINDOW):
            window = rows[start : start + _WINDOW]
            count = len(window["id"])
            texts, images = (window.get(name, [None] * count) for name in ("text", "image"))
            answers: list[list[Any]] = [[None] * count for _ in range(len(heads) + with_embedding)]
            order = sorted(range(count), key=lambda place: len(texts[place] or ""))
            for first in range(0, count, size):
                prepared, kept = [], []
                for place in order[first : first + size]:
                    try:
                        prepared.append(processor.prepare_row(texts[place], images[place]))
                        kept.append(place)
                    except ValueError:  # nothing that this teacher can read
                        continue
                if not kept:
                    continue
                tensors = {name: values.to(args.device) for name, values in processor.to_tensors(prepared).items()}
                with torch.autocast(args.device.type, half, enabled=args.bf16 or args.fp16):
                    output = model(**tensors)
                said = [
                    output.logits[head.name].float() * head.std + head.mean
                    if head.problem == "regression"
                    else output.logits[head.name].float() / head.temperature
                    for head in heads
                ]
                said += [output.embedding.float()] * with_embedding
                for column, values in zip(answers, said, strict=True):
                    for place, value in zip(kept, values.cpu().numpy(), strict=True):
                        column[place] = value
                bar.update(len(kept))
            yield answers


def _fingerprint(teacher: str, rows: Dataset, *others: Any) -> str:
    """Hash all that the answers depend on: the teacher's files, the rows' input, and options."""
    hasher = hashlib.blake2b(repr((2, others)).encode(), digest_size=16)
    folder = Path(teacher)
    if folder.is_dir():
        for path in sorted([*folder.glob("*"), *folder.glob("processor_*/*")]):
            if path.suffix in (".safetensors", ".json") and path.name != FACTS:
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


def _is_current(path: Path, state: str) -> bool:
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return (stream.schema.metadata or {}).get(b"state") == state.encode()
    except (OSError, pa.ArrowInvalid):
        return False


# --------------------------------------------------------------------------------------------------------- the student


def teacher_encoder(recipe: RecipeArguments, task: Task, folder: Path, write: bool) -> None:
    """Make the student's encoder of some of the teacher's layers, and name it in the recipe.

    It becomes an encoder folder like any other, `student_encoder` in the run's folder, tokenizer included. Of an
    ensemble, the first member's encoder is taken.

    Args:
        recipe: names teacher and layers; its `text_encoder` (`vision_encoder`, for a task or teacher without text) is
            set.
        task: the task.
        folder: of the run.
        write: whether this process writes the folder.

    Raises:
        ValueError: if the teacher's encoder has no such layers.
    """
    target = folder / ENCODER
    if write:
        model, processor = load_checkpoint(recipe.teacher)
        if isinstance(model, MultiHeadEnsemble):
            reader = model.config.readers[0]
            processor = processor.processors[reader] if isinstance(processor, MultiHeadEnsembleProcessor) else processor
            model = model.members[0]
    config = load_config(recipe.teacher)
    side = "text" if task.text and config.text_config is not None else "vision"
    if write:
        encoder = getattr(model, f"{side}_encoder")
        if encoder is None:
            raise ValueError(f"the first member of {recipe.teacher} has no {side} encoder to take layers from.")
        keep_layers(encoder, recipe.student_layers)
        part = folder / f".{ENCODER}.part"
        shutil.rmtree(part, ignore_errors=True)
        encoder.save_pretrained(part)
        (processor.tokenizer if side == "text" else processor.image_processor).save_pretrained(part)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    setattr(recipe, f"{side}_encoder", resolve(str(target), side))


def keep_layers(encoder: nn.Module, layers: Sequence[int]) -> None:
    """Take all layers but some out of a transformer encoder, in place.

    Args:
        encoder: any transformers encoder whose layers stand in one list.
        layers: which to keep, from the input, counted from 0; they keep this order.

    Raises:
        ValueError: if there is no such layer, one is named twice, or the layers can't be told apart.
    """
    config = encoder.config
    count = getattr(config, "num_hidden_layers", None)
    lists = {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if not isinstance(count, int) or len(outer) != 1:
        raise ValueError(f"the layers of a {config.model_type!r} encoder can't be picked one by one.")
    if not layers or len(set(layers)) != len(layers) or not all(0 <= layer < count for layer in layers):
        raise ValueError(f"layers must be different numbers from 0 to {count - 1}, not {', '.join(map(str, layers))}.")
    own = lists[outer[0]]
    for place, layer in enumerate(layers):
        if own[layer].state_dict().keys() != own[place].state_dict().keys():
            raise ValueError(
                f"layer {place} of a {config.model_type!r} encoder is built in another way than layer {layer}, which "
                f"can't take its place; keep layer {place}."
            )
    parent, _, name = outer[0].rpartition(".")
    setattr(encoder.get_submodule(parent), name, nn.ModuleList(own[layer] for layer in layers))
    for option, value in config.to_dict().items():  # such as ModernBERT's layer_types
        if isinstance(value, list) and len(value) == count and option != "id2label":
            setattr(config, option, [value[layer] for layer in layers])
    config.num_hidden_layers = len(layers)


# -------------------------------------------------------------------------------------------------------- the trainer


class DistillationCollator(MultiHeadCollator):
    """`MultiHeadCollator` that adds the teacher's answers, if the rows have them, as `teacher`: name → tensor.

    Rows that the teacher could not read are NaN.
    """

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Build a batch; see `MultiHeadCollator`."""
        batch = super().__call__(rows)
        names = [name for name in rows[0] if name.startswith(_COLUMN) or name == _EMBEDDING]
        teacher = {}
        for name in names:
            values = [row[name] for row in rows]
            width = next((len(value) for value in values if value is not None), 1)
            missing = [float("nan")] * width
            teacher[name.removeprefix(_COLUMN)] = torch.tensor([missing if v is None else v for v in values])
        return batch | ({"teacher": teacher} if teacher else {})


class DistillationTrainer(MultiHeadTrainer):
    """`MultiHeadTrainer` whose training loss hears the teacher too.

    Of a head, a labelled cell costs (1 − alpha) × its own loss + alpha × `soft_loss`, an unlabelled one `soft_loss`
    alone. With `hidden`, the cosine distance between the student's and the teacher's embedding is added; where their
    widths differ, the student's goes through a linear layer, which is learned along and thrown away.

    Args:
        *args: as for `MultiHeadTrainer`.
        lesson: what to learn from.
        **kwargs: as for `MultiHeadTrainer`.
    """

    def __init__(self, *args: Any, lesson: Lesson, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collator = self.data_collator
        self.data_collator = DistillationCollator(collator.processor, collator.heads, collator.soft)
        self.lesson = lesson
        self.projection: nn.Linear | None = None
        width = self.accelerator.unwrap_model(self.model).config.embedding_size
        if lesson.hidden and width != lesson.embedding_size:
            if self.args.world_size > 1:
                raise ValueError(
                    f"the embeddings of teacher ({lesson.embedding_size}) and student ({width}) differ in width: "
                    "distill_hidden then works in one process only."
                )
            self.projection = nn.Linear(width, lesson.embedding_size, bias=False).to(self.args.device)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, for the projection too."""
        new = self.optimizer is None
        super().create_optimizer(model)
        if new and self.projection is not None:
            rate = self.args.head_learning_rate or 10 * self.args.learning_rate
            self.optimizer.add_param_group({"params": list(self.projection.parameters()), "lr": rate})
            # The Trainer clears the gradients of its model only.
            self.optimizer.register_step_post_hook(lambda *_: self.projection.zero_grad())
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the loss, the teacher's part included in training."""
        inputs = dict(inputs)
        teacher = inputs.pop("teacher", None)
        loss, outputs = super().compute_loss(model, inputs, True)
        if teacher is not None and model.training:
            lesson = self.lesson
            loss = loss - lesson.alpha * outputs.loss  # what R-Drop adds keeps its weight
            for head in self.heads:
                soft = soft_loss(
                    outputs.logits[head.name],
                    teacher[head.name],
                    inputs["labels"].get(head.name),
                    head,
                    lesson.temperature,
                    lesson.alpha,
                )
                loss = loss + unwrap(self.model).head_losses[head.name].weight * soft
                name = f"{head.name}_teacher"
                self._head_losses[name] = self._head_losses.get(name, 0.0) + soft.detach()
            if lesson.hidden:
                loss = loss + lesson.hidden * self._distance(outputs.embedding.float(), teacher[_EMBEDDING])
        return (loss, outputs) if return_outputs else loss

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        known = ~teacher.isnan().any(-1)
        if self.projection is not None:
            student = self.projection(student)
        distance = 1 - F.cosine_similarity(student.float(), teacher.nan_to_num(), dim=-1)
        return torch.where(known, distance, 0.0).sum() / len(known)

    def _save(self, output_dir: str | None = None, state_dict: Mapping | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.projection is not None and output_dir is not None and self.args.should_save:  # a checkpoint, to resume
            save_file({"weight": self.projection.weight.detach().cpu().contiguous()}, Path(output_dir) / PROJECTION)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        path = Path(resume_from_checkpoint) / PROJECTION
        if self.projection is not None and path.is_file():
            self.projection.load_state_dict(load_file(path))


def soft_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor | None, head: HeadConfig, temperature: float, alpha: float
) -> Tensor:
    """Measure how far the student's answer is from the teacher's.

    Args:
        logits: the student's, `(batch, outputs)`.
        teacher: the teacher's logits, `(batch, labels)`, or values in their unit, `(batch, 1)`; NaN rows where it has
            no answer.
        labels: as in `Problem.loss`, to tell labelled rows; None without labels.
        head: the student's head.
        temperature: T.
        alpha: weight of labelled rows; unlabelled ones weigh 1.

    Returns:
        scalar, the weighted sum over the rows divided by the number of rows: T² × KL(teacher ‖ student), both softened
        by T, for `single_label`; the same for each label's yes and no, averaged over the labels, for `multi_label`;
        the squared difference in deviations for `regression`.
    """
    logits, known = logits.float(), ~teacher.isnan().any(-1)
    teacher = teacher.nan_to_num()
    if head.problem == "regression":
        losses = (logits - (teacher - head.mean) / head.std).square().squeeze(-1)
    elif head.problem == "multi_label":
        soft = (teacher / temperature).sigmoid()
        cross = F.binary_cross_entropy_with_logits(logits / temperature, soft, reduction="none")
        entropy = F.binary_cross_entropy_with_logits(teacher / temperature, soft, reduction="none")
        losses = (cross - entropy).mean(-1) * temperature**2
    else:
        target = (teacher / temperature).log_softmax(-1)
        answer = (logits / temperature).log_softmax(-1)
        losses = F.kl_div(answer, target, reduction="none", log_target=True).sum(-1) * temperature**2
    if labels is None:
        labelled = torch.zeros_like(known)
    elif labels.is_floating_point():
        labelled = ~(labels.isnan().any(-1) if labels.dim() > 1 else labels.isnan())
    else:
        labelled = labels >= 0
    weights = torch.where(labelled, alpha, 1.0)
    return torch.where(known, losses * weights, 0.0).sum() / len(losses)
