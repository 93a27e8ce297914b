"""`Recipe`: what is trained on what, and how, as one flat YAML.

A recipe holds fields of `transformers.TrainingArguments`, a few of its own about rows, encoders, model and input, and
one key a technique of training (`ema: 0.999`, `lora: {rank: 8}`), which training alone knows. Values are checked
against the fields' types here: transformers' own `HfArgumentParser` lets wrong ones through from YAML, and rewrites the
types of the dataclasses it reads.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
import math
import re
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from transformers import TrainingArguments
from transformers.utils import logging

from ..backbones.registry import FROM_SCRATCH
from ..models.processing_multihead import TRUNCATIONS
from ..models.shared import check_choice
from ..tasks.yaml_task import read_yaml

logger = logging.get_logger(__name__)
BUILT_IN = Path(__file__).parents[1] / "recipes"
EMBEDDINGS = ("random", "fasttext", "kiwi-morphemes")
MAIN = "value"
"""In a technique's mapping, the option that a lone value stands for: `{value: effective, beta: 0.99}`."""

RENAMED = {
    "augmentation": "eda", "image_augmentation": "pictures", "ema_decay": "ema", "focal_gamma": "focal",
    "early_stopping_patience": "early_stopping", "lora_rank": "lora.rank", "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout", "sampling_head": "sampling.head", "class_weights_beta": "class_weights.beta",
    "teacher": "distillation.teacher", "distill_temperature": "distillation.temperature",
    "distill_alpha": "distillation.alpha", "distill_hidden": "distillation.hidden",
    "student_layers": "distillation.layers", "unlabelled": "distillation.unlabelled",
    "unlabelled_text": "distillation.unlabelled_text", "folds": "split.folds", "fold": "split.fold",
}  # fmt: skip
"""Options of version 0.1 → what they are called now."""


@dataclass
class MultiHeadTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with hfk's defaults, and one option of its own.

    Args:
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
    keep_checkpoints: bool = False

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True  # bf16 is refused on a CPU that is not named
        if self.bf16 and self.use_cpu and not _computes_in_bfloat16():
            logger.warning_once(
                "This CPU only imitates bfloat16, which takes longer than float32: training in float32."
            )
            self.bf16 = False
        super().__post_init__()
        for tracker in {"tensorboard", "trackio", "wandb"} & set(self.report_to):
            if importlib.util.find_spec(tracker) is None:
                raise ImportError(f'report_to={tracker} needs its extra: pip install "hfk[{tracker}]"')
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor knows one head only; use label_smoothing instead.")


def _computes_in_bfloat16() -> bool:
    """Whether the CPU has instructions for it. Without them a step of E5-small took 1.7 times as long as in float32."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


@dataclass
class Recipe:
    """A recipe, read; a ValueError if an option contradicts another."""

    task: str  # name of a built-in task, or path of a task YAML
    # Data file, or list of files, for a built-in task that needs some; None for what the task itself names.
    data: str | list | None = None
    split: dict | None = None  # such as {validation: 0.2, test: 0} or {folds: 5, fold: 0}; None for the task's own
    # File of corrected labels, columns id, head, from, to, reason (see hfk.tasks.corrections); None for the task's own.
    corrections: str | None = None
    bad_rows: str | None = None  # error or drop; as those of a task's YAML, as are the next two
    image_dir: str | None = None
    missing_images: str | None = None  # error, drop or text_only
    max_train_rows: int | None = None  # train on this many rows only, drawn by the seed; for trying things out
    # Packaged backbone, Hub id or folder; or morphemes, ngram, recurrent or textcnn, which start from nothing on the
    # training texts (see hfk.training.scratch). None leaves text out. Ignored if the task has no text.
    text_encoder: str | None = None
    text_config: dict | None = None  # of an encoder from nothing: options of its configuration, such as {cell: gru}
    # Of an encoder from nothing: {kind: bpe, vocab_size: 8000}, or a folder that `hfk tokenizer` made.
    tokenizer: str | dict | None = None
    # What an encoder from nothing begins with: random, fasttext for vectors trained on the training texts (needs the
    # extra `fasttext`; nothing of it is needed later), or kiwi-morphemes for the packaged pieces and their vectors.
    embeddings: str = "random"
    vision_encoder: str | None = None  # as text_encoder, for images; cnn or mlp start from nothing
    vision_config: dict | None = None  # of those: options of their configuration, such as {hidden_sizes: [32, 64]}
    translation: dict | None = None  # of a task that translates: options of hfk.training.translation.Seq2Seq
    fusion: str = "tokens"  # or pooled or gated; see MultiHeadConfig
    fusion_layers: int = 2  # TransformerEncoder layers of tokens fusion
    fusion_dropout: float = 0.1
    text_pooling: str = "mean"  # or cls, max or attention
    image_pooling: str = "mean"  # or cls or max
    max_length: int = 128  # tokens a text is cut to
    truncation: str = "head"  # what is read of a longer text: head, tail, or middle for half of either
    # Put before every text; "" for nothing, None for what the encoder was trained with, such as "query: " of E5.
    text_prefix: str | None = None
    # simple, or a list of steps, run on every text before the prefix, in training and in service; see
    # hfk.models.text_cleaning. None leaves texts as they are.
    text_cleaning: str | list | None = None
    letterbox: bool = False  # keep a picture's shape and fill up with white
    image_size: int | None = None  # pixels a side that pictures are resized to; the vision encoder's own by default
    # Of heads whose task does not say: linear, mlp or residual; dropout before them; see HeadConfig.path_weight.
    head_kind: str = "linear"
    head_dropout: float = 0.1
    path_weight: float = 1.0
    # Hub data set whose own validation or test rows a table holds, owner/name or owner/name:task, for .eval_results/.
    benchmark: str | None = None
    license: str | None = None  # of the weights, by the Hub's name, such as apache-2.0; None claims none in the card
    arguments: MultiHeadTrainingArguments = field(default_factory=MultiHeadTrainingArguments)
    techniques: dict[str, Any] = field(default_factory=dict)  # name → true, its main value, or a mapping, as given
    options: dict[str, Any] = field(default_factory=dict)  # all of the recipe's options, as given

    def __post_init__(self) -> None:
        check_choice("embeddings", self.embeddings, EMBEDDINGS)
        check_choice("truncation", self.truncation, TRUNCATIONS)
        if self.vision_config is not None and self.vision_encoder not in FROM_SCRATCH["vision"]:
            nothing = ", ".join(FROM_SCRATCH["vision"])
            raise ValueError(f"vision_config is for an encoder that starts from nothing: {nothing}.")
        if self.text_encoder not in FROM_SCRATCH["text"]:
            nothing = ", ".join(FROM_SCRATCH["text"])
            for name in ("text_config", "tokenizer"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for an encoder that starts from nothing: {nothing}.")
            if self.embeddings != "random":
                raise ValueError(f"embeddings: {self.embeddings} is for an encoder that starts from nothing.")

    @classmethod
    def read(cls, recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
        """Read a recipe: a built-in one's name, the path of a recipe or task YAML, or a mapping of options.

        `overrides` replace options, `lora.rank` one of a mapping. What is wrong is a ValueError; unknown options count
        as techniques, and training refuses those that it does not know.

        Example:
            >>> Recipe.read("ynat-mini", {"lora": True, "lora.rank": 8}).techniques["lora"]
            {'rank': 8}
        """
        options = dict(recipe) if isinstance(recipe, Mapping) else load_recipe(recipe)
        options = merge(merge({}, options), overrides or {})
        check_renamed(options)
        if not options.get("task"):
            raise ValueError(
                "the recipe names no task: add `task:`, a built-in task's name or the path of a task YAML."
            )
        own, how = get_type_hints(cls), get_type_hints(MultiHeadTrainingArguments)
        clean = {name: convert(name, options[name], own[name]) for name in OWN if name in options}
        given = {name: convert(name, options[name], how[name]) for name in ARGUMENTS if name in options}
        techniques = {name: value for name, value in options.items() if name not in own and name not in how}
        return cls(**clean, arguments=MultiHeadTrainingArguments(**given), techniques=techniques, options=options)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as used, for YAML: all of the recipe's own, others as they were given, and no tokens."""
        used = {name: getattr(self, name) for name in OWN}
        names = [name for name in self.options if name in ARGUMENTS]
        return plain(without_tokens(used | {name: getattr(self.arguments, name) for name in names} | self.techniques))


OWN = tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in ("arguments", "techniques", "options"))
ARGUMENTS = tuple(f.name for f in dataclasses.fields(MultiHeadTrainingArguments))


def list_recipes() -> list[str]:
    """Return the names of the built-in recipes."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def load_recipe(recipe: str | Path) -> dict[str, Any]:
    """Load the options of a built-in recipe, a recipe YAML or a task YAML; ValueError if there are none.

    A recipe may start from a built-in one, its `base:`. A task YAML's own `recipe:` (a name, or a mapping of options
    with `base:`) is applied to the task; the recipe `table` is the base by default. The recipe.yaml of a run folder
    that version 0.1 left is translated.
    """
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"recipe {recipe} does not exist.")
    elif str(recipe) in list_recipes():
        path = BUILT_IN / f"{recipe}.yaml"
    else:
        raise ValueError(
            f"there is no recipe {str(recipe)!r}; built in: {', '.join(list_recipes())}; or give a YAML file."
        )
    options = read_yaml(path, "learning_rate: 1e-4")
    if path.name == "recipe.yaml" and (path.parent / "config.json").is_file():
        options = translate(options)
    if "base" in options and "data" not in options:  # a recipe that changes another
        base = options.pop("base")
        if base not in list_recipes():
            raise ValueError(
                f"{path.name}: base {base!r} is no built-in recipe; there are: {', '.join(list_recipes())}."
            )
        options = merge(load_recipe(base), options)
    if "task" not in options:  # a task YAML
        own = options.get("recipe") or {}
        own = {"base": own} if isinstance(own, str) else own
        if not isinstance(own, dict):
            raise ValueError(f"{path.name}: `recipe:` is a recipe's name or a mapping of options, not {own!r}.")
        base = load_recipe(own.get("base", "table"))
        options = merge(base, {name: value for name, value in own.items() if name != "base"} | {"task": str(path)})
    check_renamed(options)
    return options


def merge(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with some replaced; `name.part` replaces one entry of a mapping, and makes one if need be.

    Example:
        >>> merge({"sampling": "sqrt", "seed": 1}, {"sampling.head": "cat3", "seed": 2})
        {'sampling': {'value': 'sqrt', 'head': 'cat3'}, 'seed': 2}
    """
    merged = dict(options) | {name: value for name, value in changes.items() if "." not in str(name)}
    for name, value in changes.items():
        if "." in str(name):
            whole, _, part = name.partition(".")
            there = merged.get(whole)
            if not isinstance(there, Mapping):
                there = {} if there is None or isinstance(there, bool) else {MAIN: there}
            merged[whole] = {**there, part: value}
    return merged


def check_renamed(options: Iterable[str]) -> None:
    """Refuse options of version 0.1; ValueError, naming the new one."""
    for name in options:
        if name in RENAMED:
            new = RENAMED[name]
            whole, _, part = new.partition(".")
            how = f"{new}=… on the command line, `{whole}: {{{part}: …}}` in YAML" if part else f"{new}=…"
            raise ValueError(f"option {name!r} is now {new!r}: write {how}.")


def translate(options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the flat options of version 0.1 into today's; those that are today's already stay as they are."""
    needs = {
        "lora": options.get("lora"),
        "sampling": options.get("sampling") not in (None, "natural"),
        "class_weights": options.get("class_weights") == "effective",
        "distillation": options.get("teacher"),
        "split": options.get("folds"),
    }
    changes = {}
    for name, value in options.items():
        new = RENAMED.get(name)
        if new is None or value is None or not needs.get(new.partition(".")[0], value):
            continue
        if new in ("eda", "pictures"):  # `eda`, `basic` or a mapping, which might have replaced words by synonyms
            gone = ("replace", "insert", "synonyms")
            value = {k: v for k, v in value.items() if k not in gone} if isinstance(value, Mapping) else True
        changes[new] = value
    return merge({name: value for name, value in options.items() if name not in RENAMED}, changes)


def unknown_option(name: str, known: Iterable[str], where: str = "") -> ValueError:
    """Say that there is no such option in the mapping `where`, the recipe by default, naming the nearest there is."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, 1)
    rest = f"It has: {', '.join(known) or 'none'}." if where else "docs/guide.md names them all."
    hint = f"Did you mean {near[0]!r}?" if near else rest
    return ValueError(f"{where or 'the recipe'} has no option {name!r}. {hint}")


def parse_overrides(items: list[str]) -> dict[str, Any]:
    """Read words such as `learning_rate=2e-4`, `vision_encoder=null` and `lora.rank=8`, each value as YAML."""
    options = {}
    for item in items:
        key, found, value = item.partition("=")
        if not found:
            raise ValueError(f"{item!r} is no option: write key=value, such as learning_rate=2e-4.")
        try:
            options[key.strip().lstrip("-").replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"the value of {key!r} is not valid YAML: {value!r}") from None
    check_renamed(options)
    return options


def convert(name: str, value: Any, hint: Any) -> Any:
    """Fit a value from YAML or the command line to an option's type, such as `int | None`, or raise ValueError."""
    kinds = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    kinds = [get_origin(kind) or kind for kind in kinds]  # list for list[str]
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in kinds and name != "report_to":
        return None
    if isinstance(value, str) and str not in kinds:
        with suppress(ValueError):  # YAML reads 2e-4 as text
            value = float(value)
    if value is None and (type(None) in kinds or kinds == [str]):
        return None if type(None) in kinds else ""
    if isinstance(value, bool):
        if bool in kinds:
            return value
        if str in kinds and value is False:  # YAML reads `eval_strategy: no` so
            return "no"
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


_SECRET = re.compile(r"(?:^|_)(?:token|password|api_key)$", re.I)


def without_tokens(options: Any) -> Any:
    """Leave out of options, and of mappings inside them, what is secret: nothing of hfk's writes a token to a file.

    Example:
        >>> without_tokens({"seed": 1, "hub_token": "hf_…"})
        {'seed': 1}
    """
    if not isinstance(options, Mapping):
        return options
    return {name: without_tokens(value) for name, value in options.items() if not _SECRET.search(str(name))}


_WORDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list", dict: "a mapping",
    type(None): "null",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Make a value fit for YAML and JSON: enums and paths become text, tuples lists."""
    return json.loads(json.dumps(value, default=lambda odd: str(getattr(odd, "value", odd))))
