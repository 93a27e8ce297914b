"""The configuration of a multi-head classifier: two optional encoders, how they are fused, and a list of heads.

`HeadConfig` describes one label column. Heads are a list, not a dict: config JSON is saved with sorted keys, and the
order of the heads is meaningful (coarse to fine). All validation of heads lives here, so that a wrong option is one
sentence, said early.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY

from .checked_files import MAX_LABELS, check_sizes
from .encoders import ENCODERS
from .problems import LOSS_OPTIONS, PROBLEMS, SPELLINGS, Problem
from .shared import check_choice, check_fields, check_range, keep_imports

HEAD_KINDS = ("linear", "mlp", "residual")
FUSIONS = ("tokens", "pooled", "gated")
TEXT_POOLINGS = ("cls", "mean", "max", "attention")
IMAGE_POOLINGS = ("cls", "mean", "max")
TRAINING_OPTIONS = ("modality_dropout", "modality_loss", "hierarchy_loss")  # older checkpoints hold them
PIPELINES = {
    "multi-head-classification": {"impl": "pipeline_multihead.MultiHeadClassificationPipeline", "pt": ["AutoModel"]}
}


@dataclass
class HeadConfig:
    """One label column.

    Args:
        name: what the head is called everywhere (dataset column, results, metrics).
        labels: label names in index order. Empty for `regression`.
        problem: `single_label` (softmax), `multi_label` (independent sigmoids) or `regression` (one number).
        parent: name of the coarser head of which this one is a refinement, or None. Both must be `single_label`.
        parent_of: for each label, the index of its parent label in the parent head. Required with `parent`.
        kind: `linear`; `mlp` (Linear-ReLU-Linear); `residual` (a Linear and an MLP path, summed).
        dropout: dropout probability before the head's first layer.
        temperature: logits are divided by it before softmax or sigmoid; set by calibration, 1.0 changes nothing.
        thresholds: `multi_label` only: the probability from which on each label is chosen where no other is asked for;
            None is 0.5 for all.
        path_weight: `single_label` only: power of this head's probability in the product that chooses a path through a
            hierarchy. Below 1 it has less to say, with 0 nothing: its answer is then the parent of what is chosen below
            it, which suits heads whose finer ones learned with class weights or a logit adjustment.
        mean: `regression` only: the target's mean; the head predicts (target - mean) / std.
        std: `regression` only: the target's standard deviation, above 0.

    Example:
        >>> HeadConfig("cat2", ["자연관광지", "음식점"], parent="cat1", parent_of=[0, 1]).num_outputs
        2
    """

    name: str
    labels: list[str] = field(default_factory=list)
    problem: str = "single_label"
    parent: str | None = None
    parent_of: list[int] | None = None
    kind: str = "linear"
    dropout: float = 0.1
    temperature: float = 1.0
    thresholds: list[float] | None = None
    path_weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        self.labels = [str(label) for label in self.labels]
        self.problem = SPELLINGS.get(self.problem, self.problem)
        where = f"head {self.name!r}: "
        if not self.name or not isinstance(self.name, str):
            raise ValueError("a head has no name: give every head a `name`.")
        check_choice(f"{where}problem", self.problem, PROBLEMS)
        check_choice(f"{where}kind", self.kind, HEAD_KINDS)
        if len(self.labels) > MAX_LABELS:
            raise ValueError(
                f"{where}{len(self.labels):,} labels are more than the {MAX_LABELS:,} that a head may have."
            )
        repeated = sorted(label for label, count in Counter(self.labels).items() if count > 1)
        if repeated:
            raise ValueError(f"{where}label {repeated[0]!r} is listed twice; label names must differ.")
        self.rules.validate()
        check_range(self, "dropout", where=where)
        check_range(self, "path_weight", high=math.inf, where=where)
        for name in ("temperature", "std"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{where}{name} must be above 0, not {getattr(self, name)}.")
        if self.thresholds is not None and (self.rules.exclusive or len(self.thresholds) != len(self.labels)):
            raise ValueError(f"{where}thresholds are for problem multi_label, one a label.")
        if (self.parent is None) != (self.parent_of is None):
            raise ValueError(f"{where}`parent` and `parent_of` come together; one of them is missing.")
        if self.parent_of is not None and len(self.parent_of) != len(self.labels):
            raise ValueError(
                f"{where}parent_of has {len(self.parent_of)} entries for {len(self.labels)} labels; give one a label."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HeadConfig:
        """Make a head of a checkpoint's dict; what checkpoints of older versions say of its training is left out."""
        values = {name: value for name, value in values.items() if name not in LOSS_OPTIONS}
        check_fields(f"head {values.get('name')!r}", values, cls.__dataclass_fields__)
        return cls(**values)

    @property
    def rules(self) -> Problem:
        """What follows from the head's problem: loss, probabilities, answers, labels as arrays."""
        return PROBLEMS[self.problem](self)

    @property
    def num_outputs(self) -> int:
        """Width of the head's logits: the number of labels, 1 for regression."""
        return self.rules.num_outputs


def validate_heads(heads: list[HeadConfig]) -> None:
    """Check what no head can see alone: unique names, known parents, no cycles, parent indices in range; ValueError."""
    if not heads:
        raise ValueError("the model has no heads: give at least one HeadConfig.")
    validate_parents(heads)
    sizes, refined = {head.name: len(head.labels) for head in heads}, {head.parent for head in heads}
    for head in heads:
        for label, index in zip(head.labels, head.parent_of or (), strict=False):
            last = sizes[head.parent] - 1
            if not 0 <= index <= last:
                raise ValueError(f"head {head.name!r}, label {label!r}: parent index {index} is outside 0–{last}.")
        if head.path_weight == 0 and head.name not in refined:
            raise ValueError(f"head {head.name!r}: path_weight 0 is for heads that another one refines; none does.")


def validate_parents(heads: Sequence[Any]) -> None:
    """Check names, problems and parents of heads, or of columns that are to become heads; ValueError."""
    by_name = {head.name: head for head in heads}
    if len(by_name) != len(heads):
        names = [head.name for head in heads]
        raise ValueError(f"two heads are called {next(n for n in names if names.count(n) > 1)!r}: names must differ.")
    for head in heads:
        seen, above = [head.name], head.parent
        while above is not None:
            if above not in by_name:
                raise ValueError(f"head {seen[-1]!r}: its parent {above!r} is not a head; heads: {', '.join(by_name)}.")
            for name in (seen[-1], above):
                if not by_name[name].rules.exclusive:
                    raise ValueError(f"head {name!r}: only single_label heads can be parent or child.")
            if above in seen:
                raise ValueError(f"the heads' parents run in a circle: {' → '.join([*seen, above])}.")
            seen.append(above)
            above = by_name[above].parent


class MultiHeadConfig(PreTrainedConfig):
    """Configuration of `MultiHeadForClassification`.

    Args:
        text_config: configuration of the text encoder (any `AutoModel` text encoder), as a config or a dict; None for
            an image-only model.
        vision_config: configuration of the vision encoder, as a config or a dict; None for a text-only model.
        heads: the heads, coarse to fine, each a `HeadConfig` or its dict.
        fusion: how two encoders become one embedding: `tokens` (both token sequences through a small
            TransformerEncoder), `pooled` (concatenated pooled vectors) or `gated` (their gated sum). None with one
            encoder.
        fusion_size: width of the fused embedding of `tokens` and `gated`; the text encoder's hidden size by default.
            That of `pooled` is the sum of both encoders' hidden sizes.
        fusion_layers: TransformerEncoder layers of `tokens`.
        fusion_heads: attention heads of `tokens`; must divide `fusion_size`.
        fusion_dropout: dropout probability inside the fusion.
        text_pooling: `cls`, `mean`, `max` or `attention` over the text encoder's tokens; `tokens` fusion
            reads all of them.
        image_pooling: `mean`, `cls` or `max` over the vision encoder's positions.
        initializer_range: standard deviation of the normal initialization of new weights.
        encoders: of a checkpoint that is saved without them: `text`, `vision` → how each is named, see
            `named_encoders.name_encoder`.
        adapters: of such a one, what changes its encoders: name of each weight → `[rows, rank, columns]`.
        **kwargs: passed to `PreTrainedConfig`.

    Example:
        >>> from transformers import BertConfig
        >>> config = MultiHeadConfig(text_config=BertConfig(), heads=[HeadConfig("topic", ["정치", "경제"])])
        >>> config.heads[0].labels
        ['정치', '경제']
    """

    model_type = "multi-head"
    encoders = adapters = None
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}  # noqa: RUF012
    keys_to_ignore_at_inference = ["losses", "embedding"]  # noqa: RUF012

    def __init__(
        self,
        text_config: PreTrainedConfig | dict | None = None,
        vision_config: PreTrainedConfig | dict | None = None,
        heads: list[HeadConfig | dict] | None = None,
        fusion: str | None = "tokens",
        fusion_size: int | None = None,
        fusion_layers: int = 2,
        fusion_heads: int = 8,
        fusion_dropout: float = 0.1,
        text_pooling: str = "mean",
        image_pooling: str = "mean",
        initializer_range: float = 0.02,
        encoders: dict[str, dict[str, str]] | None = None,
        adapters: dict[str, list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.text_config, self.vision_config = _sub_config(text_config), _sub_config(vision_config)
        parts = {"text_config": self.text_config, "vision_config": self.vision_config}
        both = self.text_config is not None and self.vision_config is not None
        self.heads = read_heads(heads)
        self.fusion, self.text_pooling, self.image_pooling = fusion if both else None, text_pooling, image_pooling
        self.fusion_layers, self.fusion_heads, self.fusion_dropout = fusion_layers, fusion_heads, fusion_dropout
        self.initializer_range = initializer_range
        if encoders:  # others say nothing of it
            self.encoders, self.adapters = encoders, adapters
        check_choice("fusion", self.fusion, FUSIONS if both else (None,))
        check_choice("text_pooling", text_pooling, TEXT_POOLINGS)
        check_choice("image_pooling", image_pooling, IMAGE_POOLINGS)
        check_range(self, "fusion_dropout")
        for name in TRAINING_OPTIONS:
            if name in kwargs:
                raise ValueError(f"{name} is an option of training, not of the model: model.set_training({name}=…).")
        self.fusion_size = self._width(fusion_size) if both else None
        drop_known_pipelines(kwargs)
        # The base class resets the encoders' attention to its own, None here: keep what they were built with.
        attention = {name: part._attn_implementation for name, part in parts.items() if part is not None}
        kwargs.setdefault("attn_implementation", attention)
        super().__init__(**kwargs)
        name_labels(self)

    def _width(self, fusion_size: int | None) -> int:
        """Width of two encoders' fusion, as it was asked for or by default."""
        width = encoder_hidden_size(self.text_config)
        if self.fusion == "pooled":
            width += encoder_hidden_size(self.vision_config)
            if fusion_size not in (None, width):
                raise ValueError(f"fusion_size {fusion_size} can't be had with pooled fusion, which is {width} wide.")
        elif fusion_size is not None:
            width = fusion_size
        elif self.fusion == "tokens":
            # Not the wider of the two: convolutional encoders end in thousands of channels that carry no more than
            # a transformer's hundreds, and the fusion would outweigh both encoders.
            width = math.ceil(width / self.fusion_heads) * self.fusion_heads
        if self.fusion == "tokens" and width % self.fusion_heads:
            raise ValueError(f"fusion_size {width} is not a multiple of fusion_heads {self.fusion_heads}.")
        return width

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> MultiHeadConfig:
        """Make a configuration of a checkpoint's dict, older versions' included."""
        check_sizes(config_dict, "config.json")  # `pipeline()` reads it before it looks at any other file
        values = {name: value for name, value in config_dict.items() if name not in TRAINING_OPTIONS}
        return super().from_dict(values, **kwargs)

    @property
    def embedding_size(self) -> int:
        """Width of the embedding that the heads read."""
        if self.fusion_size is not None:
            return self.fusion_size
        return encoder_hidden_size(self.text_config or self.vision_config)

    def head(self, name: str) -> HeadConfig:
        """Return the head called `name`; ValueError names the heads there are."""
        by_name = {head.name: head for head in self.heads}
        if name not in by_name:
            raise ValueError(f"no head is called {name!r}; heads: {', '.join(by_name)}")
        return by_name[name]

    def to_dict(self) -> dict[str, Any]:
        """Serialize, heads included."""
        result = super().to_dict() | written_parts(self.heads)
        for part in ("text_config", "vision_config"):  # an encoder's old labels, code and local path say nothing here
            for name in ("id2label", "label2id", "auto_map", "_name_or_path"):
                (result.get(part) or {}).pop(name, None)
        return result

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save as `PreTrainedConfig` does, with the code of those of hfk's own encoders that the model has."""
        super().save_pretrained(save_directory, **kwargs)
        keep_encoders(save_directory, [self])


def encoder_hidden_size(config: PreTrainedConfig) -> int:
    """Width of an encoder's last hidden state, whatever its family calls it; ValueError if no known field holds it."""
    for name in ("hidden_size", "d_model", "dim", "hidden_dim"):  # hidden_dim: EfficientNet; after DistilBERT's dim
        if isinstance(getattr(config, name, None), int):
            return getattr(config, name)
    for name in ("neck_hidden_sizes", "hidden_sizes", "embed_dims"):  # MobileViT has the first two
        if getattr(config, name, None):
            return getattr(config, name)[-1]
    raise ValueError(f"can't tell the hidden size of a {config.model_type!r} encoder; set `hidden_size` in its config.")


def _sub_config(config: PreTrainedConfig | dict | None) -> PreTrainedConfig | None:
    if config is None or isinstance(config, PreTrainedConfig):
        return config
    model_type = config.get("model_type")
    if model_type in ENCODERS:
        return ENCODERS[model_type].config_class.from_dict(config)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"the encoder's model_type {model_type!r} is unknown to the installed transformers.")
    return CONFIG_MAPPING[model_type].from_dict(config)


def read_heads(heads: Iterable[HeadConfig | dict] | None) -> list[HeadConfig]:
    """Make heads of configurations or dicts, and check them."""
    heads = [head if isinstance(head, HeadConfig) else HeadConfig.from_dict(head) for head in heads or ()]
    if heads:  # transformers builds a bare config to find defaults; a model made of an empty one is refused
        validate_heads(heads)
    return heads


def name_labels(config: PreTrainedConfig) -> None:
    """Say the labels of a single head where transformers looks for a model's labels."""
    if len(config.heads) == 1 and config.heads[0].labels:
        config.id2label = dict(enumerate(config.heads[0].labels))
        config.label2id = {label: index for index, label in config.id2label.items()}


def written_parts(heads: list[HeadConfig]) -> dict[str, Any]:
    """What config.json says of heads, and where the pipeline is."""
    return {"heads": [asdict(head) for head in heads], "custom_pipelines": copy.deepcopy(PIPELINES)}


def keep_encoders(folder: Any, configs: Iterable[MultiHeadConfig]) -> None:
    """Of hfk's own encoders, leave only those that are needed in a saved checkpoint."""
    parts = [part for config in configs for part in (config.text_config, config.vision_config) if part is not None]
    parts += [inner for part in parts for inner in getattr(part, "encoders", ())]
    needed = {ENCODERS[part.model_type].__module__.rpartition(".")[2] for part in parts if part.model_type in ENCODERS}
    keep_imports(Path(folder), "encoders", needed | {"encoder_base"})


def drop_known_pipelines(options: dict[str, Any]) -> None:
    """Take away where a task's code is: `pipeline()` then insists on remote code, though hfk may have registered it."""
    if "multi-head-classification" in PIPELINE_REGISTRY.supported_tasks or not options.get("custom_pipelines"):
        options.pop("custom_pipelines", None)


MultiHeadConfig.register_for_auto_class()
