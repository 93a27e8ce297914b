"""The model card of a finished run: a README.md with the Hub's front matter, filled from the run's own files alone.

`model_card_template.md`, beside this file so that a wheel carries it, has the words; `card_facts.yaml` has what is
known of the built-in tasks' data; here the run's files become facts. What a run did not record is left out of the card,
never guessed. Neither network nor training data nor weights are needed, and the same files give the same card.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import validate_repo_id

from ..backbones.registry import FROM_SCRATCH, PACKAGED, PackagedBackbone
from ..evaluation.report import COLUMNS, OVERALL, file_stems
from ..evaluation.translation import translation_table
from ..files import write_atomic
from ..inference.loading import load_config
from ..inference.table import TASK_FILE
from ..inference.translator import is_translator
from ..models.configuration_multihead import HeadConfig
from .facts import FEW_ROWS
from .run import CONFIG, Run

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TRANSLATION_TEMPLATE = Path(__file__).with_name("translation_card_template.md")
DATA: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("card_facts.yaml").read_text("utf-8"))
# The Hub ids of the packaged weights' originals. The EfficientNet package and timm ported the same published weights.
HUB_IDS = {name: packaged.source for name, packaged in PACKAGED.items() if not packaged.source.startswith("http")} | {
    **{f"efficientnet-lite{n}": f"timm/tf_efficientnet_lite{n}.in1k" for n in range(3)}
}
# A problem's scores in the front matter: metric id on the Hub, its arguments, suffix in metrics.json, its name.
_F1 = {average: ("f1", {"average": average}, f"{average}_f1", f"{average}-F1") for average in ("micro", "macro")}
METRICS = {
    "single_label": [("accuracy", None, "accuracy", "accuracy"), _F1["macro"]],
    "multi_label": [_F1["micro"], _F1["macro"]],
    "regression": [("mae", None, "mae", "MAE"), ("r_squared", None, "r2", "R²")],
}


def write_card(folder: str | Path, repo_id: str | None = None, license: str | None = None) -> Path:
    """Write the model card of a run or checkpoint folder as its README.md, in place of the one that is there.

    Args:
        folder: a finished run, or any multi-head checkpoint; what it lacks is left out of the card.
        repo_id: the Hub repository it will be in, `owner/name`, for the title and the code examples.
        license: of the weights, by the Hub's name, such as `apache-2.0`; that of the recipe by default, and without
            one the card claims none.

    Example:
        >>> write_card("runs/ynat", "owner/ynat-e5-small-ko")  # doctest: +SKIP
    """
    path = Path(folder) / "README.md"
    write_atomic(path, str(build_card(folder, repo_id, license)))
    return path


def build_card(folder: str | Path, repo_id: str | None = None, license: str | None = None) -> ModelCard:
    """Build the card that `write_card` writes; its `data` is the front matter."""
    if repo_id is not None:
        validate_repo_id(repo_id)
    if is_translator(Run.open(folder).read(CONFIG)):
        return _translation_card(Run.open(folder), repo_id, license)
    run = CardRun(folder)
    name = repo_id.split("/")[-1] if repo_id else str(run.extra.get("task") or run.folder.resolve().name)
    front = _front_matter(run, name, license or run.recipe.get("license"))
    return ModelCard.from_template(front, template_path=str(TEMPLATE), **_body(run, name, repo_id))


def _translation_card(run: Run, repo_id: str | None, license: str | None) -> ModelCard:
    """The card of a translator; nothing in it needs the weights either."""
    recipe, facts, task = run.recipe, run.facts, run.read(TASK_FILE).get("task")
    license = license or recipe.get("license")
    name = repo_id.split("/")[-1] if repo_id else str(facts.get("task") or run.folder.resolve().name)
    base = (recipe.get("translation") or {}).get("base", "bart")
    front = ModelCardData(
        language="ko",
        license=license,
        library_name="transformers",
        pipeline_tag="translation",
        base_model=public_name(base) if "/" in base else None,
        tags=["hfk", "korean", "dialect", "custom_code"],
    )
    tables = translation_table(run.results) if run.results.get("translations") else []
    data, regions = DATA.get(task, {}), run.read(CONFIG)["dialect"]["regions"]
    words = {"title": name, "repo": repo_id or "owner/name", "table": tables, "recipe": recipe_yaml(recipe)}
    words |= {"regions": regions, "facts": facts, "data": data, "license": license, "md": md}
    return ModelCard.from_template(front, template_path=str(TRANSLATION_TEMPLATE), **words)


# --- the run's files ------------------------------------------------------------------------------------------------


class CardRun:
    """A run or checkpoint folder as its card sees it; what the folder lacks is empty here.

    `extra` is what training wrote beside the scores, `data` what is known of a built-in task's rows.
    """

    def __init__(self, folder: str | Path) -> None:
        run = Run.open(folder)
        run.read(CONFIG)  # a damaged one is named as such
        self.folder, self.config = run.folder, load_config(folder)
        self.heads: list[HeadConfig] = self.config.heads
        self.inputs = self.config.text_config is not None, self.config.vision_config is not None
        self.results, self.recipe, self.extra = run.results, run.recipe, run.facts
        self.scores: dict[str, float] = self.results.get("scores", {})
        self.processor = run.read("processor_config.json")
        self.classes = run.read("report/per_class.csv", _per_class, []) if self.results else []
        self.built_in = run.read(TASK_FILE).get("task")
        self.data = {"text": "a text", "image": "a picture", "example": "여기에 분류할 글을 씁니다."}
        self.data |= DATA.get(self.built_in, {})
        rows = self.extra.get("rows")
        self.rows: dict[str, int] = rows if isinstance(rows, dict) else {}  # an evaluated table gives their number only

    @property
    def korean(self) -> bool:
        """Whether the model is one of Korean: by its task, its training texts, or its labels."""
        labels = "".join(head.name + "".join(head.labels) for head in self.heads)
        known = self.built_in in DATA or (self.extra.get("korean_share") or 0) >= 0.5
        return known or bool(re.search("[가-힣]", labels))

    @cached_property
    def encoders(self) -> list[str | None]:
        """Packaged names and Hub ids of the encoders; None for a local folder, whose name is not given away."""
        named = self.extra.get("encoders")
        if named is None:
            named = {kind: public_name(self.recipe.get(f"{kind}_encoder")) for kind in ("text", "vision")}
        return [named.get(kind) for kind, read in zip(("text", "vision"), self.inputs, strict=True) if read]

    @property
    def bases(self) -> list[tuple[str, str]]:
        """The pretrained encoders: Hub id, and the name that a recipe gives."""
        others = {None, *chain(*FROM_SCRATCH.values()), *(part.name for part in self.parts)}
        inner = [(self.recipe.get("text_config") or {}).get("encoder")]  # of those that stand side by side
        inner += (self.recipe.get("vision_config") or {}).get("encoders") or []
        names = (*self.encoders, *map(public_name, inner))
        return [(HUB_IDS.get(name, name), name) for name in names if name not in others]

    @property
    def parts(self) -> list[PackagedBackbone]:
        """What it was made from that is on no Hub: its origin is named, and its notices lie beside the checkpoint."""
        names = (*self.encoders, self.recipe.get("embeddings"))
        return [PACKAGED[name] for name in names if name in PACKAGED and name not in HUB_IDS]

    @property
    def divided_by_hfk(self) -> bool | None:
        """Whether hfk, not the data, took the scored rows apart from the training rows; None where that is unknown."""
        division = self.extra.get("division")
        return None if division is None else self.extra.get("split") in division.get("shares", {})


def _per_class(text: str) -> list[dict[str, Any]]:
    numbers = {"precision": float, "recall": float, "f1": float, "support": int}
    return [
        line | {key: kind(line[key]) for key, kind in numbers.items()} for line in csv.DictReader(io.StringIO(text))
    ]


def public_name(encoder: str | None) -> str | None:
    """Say what may be written down of a recipe's encoder: a packaged name or a Hub id; nothing of a local folder."""
    if not encoder or encoder in PACKAGED:
        return encoder or None
    local = encoder.startswith(("/", ".", "~")) or encoder.count("/") > 1 or "\\" in encoder
    return None if local or Path(encoder).is_dir() else encoder


def recipe_yaml(recipe: dict[str, Any]) -> str:
    """Write the recipe down as one that can be used again: without secrets, local paths, and what changes nothing."""
    kept = {}
    for key, value in recipe.items():
        if value is None or "token" in key or key.startswith("hub_") or key in ("output_dir", "disable_tqdm"):
            continue
        if key in ("text_encoder", "vision_encoder"):
            value = public_name(value) or "(a local folder)"
        elif isinstance(value, list) and key == "data":
            value = [re.split(r"[\\/]", str(file))[-1] for file in value]
        elif isinstance(value, str) and (key in ("task", "data") or value.startswith(("/", "~", "../", "./"))):
            value = re.split(r"[\\/]", value)[-1]
        kept[key] = value
    return yaml.safe_dump(kept, allow_unicode=True, width=110)


# --- front matter ---------------------------------------------------------------------------------------------------


def _front_matter(run: CardRun, name: str, license: str | None) -> ModelCardData:
    text, image = run.inputs
    # The Hub has no tag for text and image in, labels out: image-text-to-text means writing text. Of the two that are
    # true, image-classification says what a reader who looks for text classifiers would not expect.
    tag = "image-classification" if image else "text-classification"
    tags = ["hfk", "multi-head-classification", "custom_code"]
    tags += ["korean"] * run.korean + ["text-classification", "multimodal"] * (text and image)
    results = _eval_results(run, tag)
    hub_id = run.data.get("hub_id")
    return ModelCardData(
        language="ko" if run.korean else None,
        license=license,
        library_name="hfk",
        pipeline_tag=tag,
        base_model=[hub for hub, _ in run.bases] or None,
        base_model_relation="finetune" if run.bases else None,
        datasets=[hub_id] if hub_id else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=tags,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _eval_results(run: CardRun, tag: str) -> list[EvalResult]:
    hub_id, task, split = run.data.get("hub_id"), run.extra.get("task"), run.extra.get("split")
    where = {
        "dataset_type": hub_id or task or "table",
        "dataset_name": run.data.get("title") or str(task or "a table"),
        "dataset_config": run.data.get("config"),
        # A split that hfk divided off is none of the Hub data set's own, and must not pass for it.
        "dataset_split": None if hub_id and run.divided_by_hfk is not False else split,
        "dataset_args": {"held_out_by_hfk": split} if hub_id and run.divided_by_hfk else None,
        "task_type": tag,
        "task_name": "Multi-head classification",
    }
    return [
        EvalResult(
            metric_type=metric,
            metric_name=f"{head.name} {title}",
            metric_value=round(run.scores[f"{head.name}_{suffix}"], 4),
            metric_args=arguments,
            **where,
        )
        for head in run.heads
        for metric, arguments, suffix, title in head.rules.pick(METRICS)
        if f"{head.name}_{suffix}" in run.scores
    ]


def benchmark_results(folder: str | Path) -> dict[str, str]:
    """Say a run's scores in the Hub's `.eval_results/` format: path in the repository → YAML; {} where none is due.

    An entry there stands on a data set's leaderboard, so it is written of that data set's own rows alone: not of rows
    that hfk held out itself, of a competition's copy, or of a table for which the recipe names no `benchmark`.

    Args:
        folder: of a finished run.
    """
    if is_translator(Run.open(folder).read(CONFIG)):
        return {}
    run = CardRun(folder)
    split, named = run.extra.get("split"), run.recipe.get("benchmark")
    known = [run.data.get("hub_id"), run.data.get("config")]
    dataset, task = ([*named.split(":", 1), "default"] if named else known)[:2]
    copied = run.data.get("of_csv") and str(run.recipe.get("data")).lower().endswith(".csv")
    if dataset is None or split not in ("validation", "test") or run.divided_by_hfk is not False or copied:
        return {}
    told = f"rows of its {split} split" + (", on which the best epoch was chosen" if split == "validation" else "")
    measures = {"single_label": ("macro_f1", "macro-F1"), "multi_label": ("macro_f1", "macro-F1"),
                "regression": ("mae", "mean absolute error")}  # fmt: skip
    entries = [
        EvalResultEntry(dataset, task, round(run.scores[key], 4), notes=f"{name} of {head.name}, on {told}; hfk")
        for head in run.heads
        for key, name in [(f"{head.name}_{head.rules.pick(measures)[0]}", head.rules.pick(measures)[1])]
        if key in run.scores
    ]
    if not entries:
        return {}
    content = yaml.safe_dump(eval_result_entries_to_yaml(entries), allow_unicode=True, sort_keys=False)
    return {f".eval_results/hfk-{task if task != 'default' else dataset.rpartition('/')[2]}.yaml": content}


# --- body -----------------------------------------------------------------------------------------------------------


def _body(run: CardRun, name: str, repo_id: str | None) -> dict[str, Any]:
    recipe, ladder = recipe_yaml(run.recipe), run.folder / "report" / "ladder.md"
    return {
        "run": run,
        "md": md,
        "plain": lambda text: html.escape(" ".join(str(text).split())),  # for HTML, where Markdown is not read
        "quote": partial(json.dumps, ensure_ascii=False),
        "packaged": PACKAGED,
        "title": name,
        "repo": repo_id or "owner/name",
        "tables": _score_tables(run),
        "overall": [(title, f"{run.scores[key]:.3f}") for key, title in OVERALL.items() if key in run.scores],
        "ladder": ladder.read_text(encoding="utf-8").strip() if ladder.is_file() else None,
        "tree": label_tree(run.heads),
        "few_rows": FEW_ROWS,
        "pictures": pictures_of(run),
        "recipe": recipe if run.recipe else None,
        "fence": "`" * max(3, 1 + max(map(len, re.findall("`+", recipe)), default=0)),
    }


def md(text: str) -> str:
    """Escape a user's words for a Markdown table, list or sentence: they show as they are, and mean nothing.

    Example:
        >>> print(md("카약|카누 *new*"))
        카약\\|카누 \\*new\\*
    """
    text = " ".join(str(text).split()).replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])|^([-+])", lambda m: m[1] + "\\" + m[2] if m[1] else "\\" + m[3], text)


def _score_tables(run: CardRun) -> list[list[list[str]]]:
    """Lay out one table for the heads of a kind, as lines of cells: the report's columns, with intervals."""
    baseline, intervals = run.results.get("baseline") or {}, run.results.get("intervals", {})
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for head in run.heads if run.scores else []:
        # One figure tells what the majority gets; its macro-F1 would only widen the table.
        columns = [c for c in head.rules.pick(COLUMNS) if not c[2] or (baseline and c[1] != "macro_f1")]
        shape = ["head", *["labels"] * head.rules.has_labels, "rows"]
        line = [md(head.name), *[f"{len(head.labels):,}"] * head.rules.has_labels]
        line.append(f"{run.results['counts']['labelled'].get(head.name, 0):,}")
        for _, suffix, of_baseline in columns:
            key = f"{head.name}_{suffix}"
            value = (baseline if of_baseline else run.scores).get(key)
            cell = "–" if value is None else f"{value:.3f}"
            if key in intervals and not of_baseline and value is not None:
                cell = f"**{cell}** ({intervals[key][0]:.3f}–{intervals[key][1]:.3f})"
            line.append(cell)
        tables.setdefault((*shape, *(title for title, _, _ in columns)), []).append(line)
    return [[list(header), *lines] for header, lines in tables.items()]


def label_tree(heads: list[HeadConfig]) -> list[str]:
    """Write every head's labels as a nested list: a hierarchy as a tree, another head as one line."""
    children = {head.name: [child for child in heads if child.parent == head.name] for head in heads}

    def family(head: HeadConfig) -> list[str]:
        return [md(head.name), *(name for child in children[head.name] for name in family(child))]

    def branch(head: HeadConfig, label: int, indent: str) -> list[str]:
        lines = [f"{indent}- {md(head.labels[label])}"]
        for child in children[head.name]:
            own = [i for i, parent in enumerate(child.parent_of) if parent == label]
            leaves = " · ".join(md(child.labels[i]) for i in own)
            if children[child.name]:
                lines += [line for i in own for line in branch(child, i, f"{indent}  ")]
            elif own and len(children[head.name]) == 1:
                lines[0] += f": {leaves}"
            elif own:
                lines.append(f"{indent}  - {leaves}")
        return lines

    lines = []
    for head in heads:
        if head.parent or not head.labels:
            continue
        if children[head.name]:
            lines.append(f"- **{' › '.join(family(head))}**")
            lines += [line for label in range(len(head.labels)) for line in branch(head, label, "  ")]
        else:
            lines.append(f"- **{md(head.name)}**: {' · '.join(map(md, head.labels))}")
    return lines


def pictures_of(run: CardRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """For every head with pictures: its name, and (what it shows, path in the repository) of each."""
    found = []
    for name, stem in file_stems(run.heads).items():
        paths = {"confusion matrix": f"report/confusion_{stem}.png"}
        paths["reliability diagram"] = f"report/reliability_{stem}.png"
        there = [(what, path) for what, path in paths.items() if (run.folder / path).is_file()]
        found += [(name, there)] if there else []
    return found
