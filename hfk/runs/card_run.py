"""A run folder as its model card sees it: the run's own files, read and checked, and what follows from them."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..backbones.registry import FROM_SCRATCH, PACKAGED
from ..models.configuration_ensemble import MultiHeadEnsembleConfig
from ..models.configuration_multihead import HeadConfig, MultiHeadConfig
from .card_facts import DATA, OTHER, DataFacts

_HANGUL = re.compile("[가-힣]")


@dataclass
class CardRun:
    """A run folder's files, read; empty for what is not there.

    Args:
        folder: the folder.
        config: the checkpoint's configuration.
        results: of report/metrics.json.
        recipe: of recipe.yaml.
        columns: of task.json.
        processor: of processor_config.json.
        classes: lines of report/per_class.csv.
    """

    folder: Path
    config: MultiHeadConfig | MultiHeadEnsembleConfig
    results: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def heads(self) -> list[HeadConfig]:
        """The checkpoint's heads."""
        return self.config.heads

    @property
    def extra(self) -> dict[str, Any]:
        """What training wrote beside the scores: task, rows, seconds, environment."""
        return self.results.get("extra", {})

    @property
    def data(self) -> DataFacts:
        """Facts about the data; only a built-in task's name in task.json, which users' tables lack, gives any."""
        return DATA.get(self.columns.get("task", ""), OTHER)

    @property
    def inputs(self) -> tuple[bool, bool]:
        """Whether the model reads texts, and whether it reads pictures."""
        return self.config.text_config is not None, self.config.vision_config is not None

    @property
    def korean(self) -> bool:
        """Whether the model is one of Korean: by its task, its training texts, or its labels."""
        labels = "".join(head.name + "".join(head.labels) for head in self.heads)
        share = self.extra.get("korean_share") or 0
        return self.data is not OTHER or share >= 0.5 or bool(_HANGUL.search(labels))

    @property
    def _named(self) -> list[str]:
        named = self.extra.get("encoders")
        if named is None:
            named = {kind: public_name(self.recipe.get(f"{kind}_encoder")) for kind in ("text", "vision")}
        return [named[k] for k, read in zip(("text", "vision"), self.inputs, strict=True) if read and named.get(k)]

    @property
    def encoders(self) -> list[str]:
        """Packaged names and Hub ids of the pretrained encoders; a local folder's is not given away."""
        return [name for name in self._named if name not in FROM_SCRATCH]

    @property
    def encoders_known(self) -> bool:
        """Whether every encoder has a name that may be written down."""
        return len(self._named) == sum(self.inputs)

    @property
    def licence(self) -> str | None:
        """Of the weights; as they descend from the encoders', it is stated only where theirs are known to allow it."""
        packaged = all(encoder in PACKAGED for encoder in self.encoders)
        return "apache-2.0" if self.encoders_known and packaged else None


def read_run(folder: Path) -> CardRun:
    """Read a run or checkpoint folder.

    Args:
        folder: the folder.

    Raises:
        ValueError: if it is no multi-head checkpoint, or one of its files is damaged.
    """
    config = _read_json(folder / "config.json")
    if config is None:
        raise ValueError(f"the folder {folder} has no config.json, so it is not a checkpoint.")
    kinds = {kind.model_type: kind for kind in (MultiHeadConfig, MultiHeadEnsembleConfig)}
    if config.get("model_type") not in kinds or not config.get("heads"):
        raise ValueError(f"{folder} is not a multi-head checkpoint: its config.json has no heads of hfk.")
    run = CardRun(folder, kinds[config["model_type"]].from_pretrained(folder))
    run.results = _read_json(folder / "report" / "metrics.json") or {}
    run.columns = _read_json(folder / "task.json") or {}
    run.processor = _read_json(folder / "processor_config.json") or {}
    try:
        text = (folder / "recipe.yaml").read_text(encoding="utf-8")
        run.recipe = yaml.safe_load(text) or {}
        if not isinstance(run.recipe, dict):
            raise ValueError("a recipe is a mapping")
    except FileNotFoundError:
        pass
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{folder / 'recipe.yaml'} is damaged: it is no YAML of options; copy it again.") from None
    if run.results and (folder / "report" / "per_class.csv").is_file():
        lines = csv.DictReader(io.StringIO((folder / "report" / "per_class.csv").read_text(encoding="utf-8-sig")))
        try:
            numbers = {"precision": float, "recall": float, "f1": float, "support": int}
            run.classes = [line | {key: kind(line[key]) for key, kind in numbers.items()} for line in lines]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{folder / 'report' / 'per_class.csv'} is damaged; evaluate again.") from None
    return run


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    raise ValueError(f"{path} is damaged: it holds no JSON object; copy it again.")


def public_name(encoder: str | None) -> str | None:
    """Say what may be written down of an encoder: a packaged name or a Hub id; nothing of a local folder.

    Args:
        encoder: as in a recipe.

    Example:
        >>> public_name("klue/roberta-large"), public_name("/data/roberta")
        ('klue/roberta-large', None)
    """
    if not encoder or encoder in PACKAGED:
        return encoder or None
    local = encoder.startswith(("/", ".", "~")) or encoder.count("/") > 1 or "\\" in encoder
    return None if local or Path(encoder).is_dir() else encoder
