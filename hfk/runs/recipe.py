"""What a recipe may say: `RecipeArguments` (task, encoders, model, input) and `MultiHeadTrainingArguments`.

A recipe is one flat YAML of these fields, so that every option of `transformers.TrainingArguments` may stand in it.
hfk/recipes holds the built-in ones. Values are checked against the fields' types here: transformers' own
`HfArgumentParser` lets wrong ones through from YAML, and rewrites the types of the dataclasses that it reads.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from transformers import TrainingArguments

from ..backbones.registry import FROM_SCRATCH
from ..training.techniques.eda import EasyDataAugmentation
from ..training.techniques.pictures import ImageAugmentation

EMBEDDINGS = ("random", "fasttext")
SAMPLING = ("natural", "sqrt", "balanced")
CLASS_WEIGHTS = ("none", "balanced", "sqrt", "effective")


@dataclass
class RecipeArguments:
    """The part of a recipe that says what is trained on what.

    Args:
        task: name of a built-in task, or path of a task YAML.
        data: data file for a built-in task that needs one (`tour`, `ynat`); None for what the task itself names.
        split: how the rows are divided, such as `{validation: 0.2, test: 0}`; None for what the task itself says.
        corrections: file of corrected labels, columns id, head, from, to, reason; applied to the task's rows when they
            are loaded (see `hfk.tasks.corrections`). None for what the task itself names.
        text_encoder: packaged backbone, Hub id or folder; or `ngram`, `recurrent` or `textcnn`, which start from
            nothing on the training texts (see `hfk.training.scratch`). None leaves text out. Ignored if the task has no
            text.
        text_config: options of an encoder that starts from nothing, such as `{cell: gru}`: those of `NGramConfig`,
            `RecurrentConfig` or `TextCNNConfig`.
        tokenizer: of an encoder that starts from nothing: what to train on the training texts, such as
            `{kind: bpe, vocab_size: 8000}` (see `hfk.training.tokenizer_training`), or a folder that `hfk tokenizer`
            made.
        embeddings: what an encoder that starts from nothing begins with: `random`, or `fasttext` for vectors trained
            on the training texts (needs the extra `fasttext`; nothing of it is needed later).
        vision_encoder: likewise for images.
        fusion: `tokens`, `pooled` or `gated`; see `MultiHeadConfig`.
        fusion_layers: TransformerEncoder layers of `tokens` fusion.
        fusion_dropout: dropout probability inside the fusion.
        text_pooling: `cls`, `mean`, `max` or `attention`.
        image_pooling: `mean`, `cls` or `max`.
        modality_dropout: probability, in training, that a row with text and image loses one of them.
        modality_loss: weight, in training, of each side's loss alone beside that of both; see `MultiHeadConfig`.
        max_length: tokens a text is cut to.
        text_prefix: put before every text, such as "query: " for E5 encoders.
        text_cleaning: `simple`, `elaborate` (needs the extra `korean`), or a list of steps, run on every text before
            the prefix, in training and in service; see `hfk.models.text_cleaning`. None leaves texts as they are.
        image_size: pixels a side that pictures are resized to; the vision encoder's own by default.
        freeze_batch_norm: keep the vision encoder's batch norms as they were pretrained. The statistics of small
            batches are noisy, and those that service uses follow them slowly.
        head_kind: `linear`, `mlp` or `residual`, for heads whose task does not say.
        head_dropout: dropout probability before the heads, for heads whose task does not say.
        label_smoothing: for classification heads whose task does not say.
        class_weights: `none`; `balanced` (inverse frequency), `sqrt` (its square root) or `effective` (inverse of the
            effective number of rows, (1 - β^n) / (1 - β): Cui et al. 2019, arXiv:1901.05555), scaled so that the mean
            over the training rows is 1.
        class_weights_beta: the β of `effective`, in [0, 1): how soon more rows of a class stop to count as new.
        focal_gamma: of the classification heads whose task does not say; see `HeadConfig`.
        logit_adjustment: of the single-label heads whose task does not say; see `HeadConfig`. Their `prior` is taken
            from the training rows, so choose this, or `sampling`, or `class_weights`.
        hierarchy_loss: `none` or `marginal`; see `MultiHeadConfig`.
        path_weight: of the heads that others refine, where the task does not say; see `HeadConfig`.
        standardize_rows: training rows on which the encoders' features are measured before training, so that fusion and
            heads start from standardised ones; 0 leaves the features as they are.
        max_train_rows: train on this many rows only, drawn by the seed; for trying things out.
        calibrate: fit every head's temperature on the validation rows when training has ended, so that its
            probabilities mean what they say; answers stay as they are. See `hfk.evaluation.calibration`.
        folds: train on all but one of this many parts of the train and validation rows, and validate on that one; see
            `hfk.training.folds`. `hfk train --folds` trains them all.
        fold: which part is left out, from 0.
        teacher: checkpoint or ensemble whose answers the model learns beside the labels; see
            `hfk.training.techniques.distillation`.
        distill_temperature: softens the teacher's and the student's probabilities, above 0.
        distill_alpha: weight of the teacher's answer, from 0 to 1, where a row has a label; the label has the rest.
            Where it has none, the teacher alone counts.
        distill_hidden: weight of the cosine distance between the student's and the teacher's embedding.
        student_layers: make the text encoder (the vision encoder, without one) of the teacher's own embeddings and
            these of its layers, counted from 0, in place of `text_encoder`.
        unlabelled: table of texts without labels that the teacher answers and the student learns too.
        unlabelled_text: its text column; the task's own by default.
    """

    task: str
    data: str | None = None
    split: dict | None = None
    corrections: str | None = None
    text_encoder: str | None = None
    text_config: dict | None = None
    tokenizer: str | dict | None = None
    embeddings: str = "random"
    vision_encoder: str | None = None
    fusion: str = "tokens"
    fusion_layers: int = 2
    fusion_dropout: float = 0.1
    text_pooling: str = "mean"
    image_pooling: str = "mean"
    modality_dropout: float = 0.0
    modality_loss: float = 0.0
    max_length: int = 128
    text_prefix: str = ""
    text_cleaning: str | list | None = None
    image_size: int | None = None
    freeze_batch_norm: bool = False
    head_kind: str = "linear"
    head_dropout: float = 0.1
    label_smoothing: float = 0.0
    class_weights: str = "none"
    class_weights_beta: float = 0.999
    focal_gamma: float = 0.0
    logit_adjustment: float = 0.0
    hierarchy_loss: str = "none"
    path_weight: float = 1.0
    standardize_rows: int = 512
    max_train_rows: int | None = None
    calibrate: bool = False
    folds: int | None = None
    fold: int | None = None
    teacher: str | None = None
    distill_temperature: float = 2.0
    distill_alpha: float = 0.5
    distill_hidden: float = 0.0
    student_layers: list[int] | None = None
    unlabelled: str | None = None
    unlabelled_text: str | None = None

    def __post_init__(self) -> None:
        if self.embeddings not in EMBEDDINGS:
            raise ValueError(f"embeddings {self.embeddings!r} is not one of {', '.join(EMBEDDINGS)}.")
        if self.text_encoder not in FROM_SCRATCH:
            for name in ("text_config", "tokenizer"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for an encoder that starts from nothing: {', '.join(FROM_SCRATCH)}.")
            if self.embeddings != "random":
                raise ValueError(f"embeddings: {self.embeddings} is for an encoder that starts from nothing.")
        if self.class_weights not in CLASS_WEIGHTS:
            raise ValueError(f"class_weights {self.class_weights!r} is not one of {', '.join(CLASS_WEIGHTS)}.")
        if not 0 <= self.class_weights_beta < 1:
            raise ValueError(f"class_weights_beta must be in [0, 1), not {self.class_weights_beta}.")
        if self.fold is not None and self.folds is None:
            raise ValueError(f"fold {self.fold} of how many? Say folds too, such as folds=5.")
        if not 0 < self.distill_temperature < math.inf or not 0 <= self.distill_alpha <= 1 or self.distill_hidden < 0:
            raise ValueError(
                "distill_temperature must be above 0, distill_alpha from 0 to 1, and distill_hidden 0 or more; not "
                f"{self.distill_temperature}, {self.distill_alpha} and {self.distill_hidden}."
            )
        if self.teacher is None and (self.student_layers or self.unlabelled):
            raise ValueError("student_layers and unlabelled need a teacher: name a checkpoint, teacher=runs/large.")


@dataclass
class MultiHeadTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with hfk's defaults and a few options of its own.

    Args:
        head_learning_rate: learning rate of fusion and heads, which start from nothing; by default ten times
            `learning_rate`.
        layer_decay: learning rate of each encoder layer relative to the layer above it, in (0, 1]; 1 gives all layers
            the same (Howard & Ruder 2018, arXiv:1801.06146, call it discriminative fine-tuning).
        ema_decay: evaluate and save an exponential moving average of the weights, which keeps this share of itself at a
            step, such as 0.999; 0 for none. See `hfk.training.techniques.averaging`.
        r_drop: weight of the disagreement of two passes with different dropout over every training batch (Wu et al.
            2021, arXiv:2106.14448, α there); 0 for one pass. It doubles a step's time and memory.
        sampling: how training rows are drawn: `natural`; `sqrt` or `balanced` draw rows of rare classes more often, by
            the square root of the inverse class frequency or by the inverse itself.
        sampling_head: the head whose classes count for `sampling`; the finest single-label head by default.
        augmentation: `eda` adds changed copies of training rows, more of them the rarer their class; a mapping says
            how, such as `{swap: 0.2, delete: 0.1, head: cat3}`. See `hfk.training.techniques.eda.EasyDataAugmentation`.
        image_augmentation: `basic` mirrors, crops and relights training pictures; a mapping says how, such as
            `{flip: 0.5, crop: 0.6, light: 0}`. See `hfk.training.techniques.pictures.ImageAugmentation`.
        lora: train low-rank adapters on the encoders' linear layers instead of all weights; fusion and heads are
            trained whole (Hu et al. 2021, arXiv:2106.09685).
        lora_rank: rank of the adapters.
        lora_alpha: scale of the adapters.
        lora_dropout: dropout probability inside the adapters.
        early_stopping_patience: stop after this many evaluations without a better score; None trains to the end.
        keep_checkpoints: keep the Trainer's `checkpoint-*` folders, with optimizer state, when training has finished.
    """

    output_dir: str | None = field(default="runs/hfk", metadata={"help": "Folder of the run."})
    learning_rate: float = 1e-4
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 64
    num_train_epochs: float = 3.0
    warmup_steps: float = 0.1
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.01
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
    logging_steps: float = 20
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "mean_macro_f1"
    train_sampling_strategy: str = "group_by_length"
    remove_unused_columns: bool = False
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    report_to: None | str | list[str] = "none"  # noqa: RUF036  (HfArgumentParser takes no other order)
    dataloader_pin_memory: bool = False
    head_learning_rate: float | None = None
    layer_decay: float = 1.0
    ema_decay: float = 0.0
    r_drop: float = 0.0
    sampling: str = "natural"
    sampling_head: str | None = None
    augmentation: str | dict | None = None
    image_augmentation: str | dict | None = None
    lora: bool = False
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    early_stopping_patience: int | None = None
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True  # bf16 is refused on a CPU that is not named
        super().__post_init__()
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling {self.sampling!r} is not one of {', '.join(SAMPLING)}.")
        if EasyDataAugmentation.from_option(self.augmentation) and self.sampling != "natural":
            raise ValueError(f"augmentation adds rows of rare classes already: leave out sampling {self.sampling!r}.")
        ImageAugmentation.from_option(self.image_augmentation)  # a wrong one is said now
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], not {self.layer_decay}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}.")
        if not 0 <= self.r_drop < math.inf:
            raise ValueError(f"r_drop must be 0 or more, not {self.r_drop}.")
        if self.ema_decay and (self.fsdp or self.deepspeed):
            raise ValueError("ema_decay needs all weights in every process: leave it out under FSDP or DeepSpeed.")
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor knows one head only; use label_smoothing instead.")


FIELDS = tuple(f.name for kind in (RecipeArguments, MultiHeadTrainingArguments) for f in dataclasses.fields(kind))


def list_recipes() -> list[str]:
    """Return the names of the built-in recipes."""
    folder = resources.files("hfk.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str | Path) -> dict[str, Any]:
    """Read a recipe.

    Args:
        recipe: name of a built-in recipe, path of a recipe YAML, or path of a task YAML. A task YAML's own `recipe:`
            (a name, or a mapping of options with `base:` for the recipe they start from) is applied to the task;
            the recipe `table` is the base by default.

    Returns:
        the recipe's options, flat.

    Raises:
        ValueError: if there is no such recipe, or it is not a mapping of known options.
    """
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"recipe {recipe} does not exist.")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path.name} is not UTF-8; save it as UTF-8.") from None
    elif str(recipe) in list_recipes():
        text = resources.files("hfk.recipes").joinpath(f"{recipe}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"there is no recipe {str(recipe)!r}; built in: {', '.join(list_recipes())}; or give a YAML file."
        )
    try:
        options = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict):
        raise ValueError(f"{path.name} must be a mapping of options, such as `learning_rate: 1e-4`.")
    if "base" in options and "data" not in options:  # a recipe that changes another
        base = options.pop("base")
        if base not in list_recipes():
            raise ValueError(
                f"{path.name}: base {base!r} is no built-in recipe; there are: {', '.join(list_recipes())}."
            )
        options = load_recipe(base) | options
    if "task" not in options:  # a task YAML
        own = options.get("recipe") or {}
        own = {"base": own} if isinstance(own, str) else own
        if not isinstance(own, dict):
            raise ValueError(f"{path.name}: `recipe:` is a recipe's name or a mapping of options, not {own!r}.")
        own = dict(own)
        options = load_recipe(own.pop("base", "table")) | own | {"task": str(path)}
    check_options(options)
    return options


def check_options(options: dict[str, Any]) -> None:
    """Refuse options that no recipe knows, naming the nearest that it does; ValueError."""
    for name in options:
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name), FIELDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"there is no option {name!r}.{hint} See hfk.runs.recipe for all of them.")


def parse_overrides(items: list[str]) -> dict[str, Any]:
    """Read `key=value` words, each value as YAML.

    Args:
        items: for example `["learning_rate=2e-4", "vision_encoder=null"]`.

    Raises:
        ValueError: for a word without `=`, a value that is not YAML, or an unknown key.
    """
    options = {}
    for item in items:
        key, found, value = item.partition("=")
        if not found:
            raise ValueError(f"{item!r} is no option: write key=value, such as learning_rate=2e-4.")
        try:
            options[key.strip().lstrip("-").replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"the value of {key!r} is not valid YAML: {value!r}") from None
    check_options(options)
    return options


def parse_recipe(options: dict[str, Any]) -> tuple[RecipeArguments, MultiHeadTrainingArguments]:
    """Turn a recipe's options into the two argument objects.

    Args:
        options: flat options; numbers that YAML reads as text (`2e-4`) are converted.

    Raises:
        ValueError: for an unknown option, a missing task, or a value of the wrong kind.
    """
    check_options(options)
    if not options.get("task"):
        raise ValueError("the recipe names no task: add `task:`, a built-in task's name or the path of a task YAML.")
    kinds = get_type_hints(RecipeArguments) | get_type_hints(MultiHeadTrainingArguments)
    clean = {name: _convert(name, value, kinds[name]) for name, value in options.items()}
    return tuple(
        kind(**{f.name: clean[f.name] for f in dataclasses.fields(kind) if f.name in clean})
        for kind in (RecipeArguments, MultiHeadTrainingArguments)
    )


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Fit a value from YAML or the command line to an option's type; ValueError if it can't be."""
    kinds = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    kinds = [get_origin(kind) or kind for kind in kinds]  # list for list[str]
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in kinds and name != "report_to":
        value = None
    if value is None:
        if type(None) in kinds:
            return None
        if kinds == [str]:
            return ""
    elif isinstance(value, bool):
        if bool in kinds:
            return value
        if str in kinds and value is False:  # YAML reads `eval_strategy: no` so
            return "no"
    elif isinstance(value, str) and str not in kinds:
        try:  # YAML reads 2e-4 as text
            number = float(value)
        except ValueError:
            number = None
        if number is not None:
            return _convert(name, number, hint)
    elif isinstance(value, int | float) and math.isfinite(value):
        if int in kinds and isinstance(value, int):
            return value
        if float in kinds:
            return float(value)  # AdamW takes no mixture of 0 and 0.999
        if int in kinds and value.is_integer():
            return int(value)
        if str in kinds:
            return str(value)
    elif not isinstance(value, float) and isinstance(value, tuple(kind for kind in kinds if isinstance(kind, type))):
        return value
    needs = [words for kind, words in _WORDS.items() if kind in kinds]
    raise ValueError(f"option {name!r} needs {' or '.join(needs) or 'another kind of value'}, not {value!r}.")


_WORDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list", dict: "a mapping",
    type(None): "null",
}  # fmt: skip
