"""The model card of a finished run: a README.md with the Hub's front matter, filled from the run's own files alone.

`model_card_template.md`, beside this file so that a wheel carries it, has the words; here are the facts. Scores and
counts come from `report/metrics.json` and `report/per_class.csv`; what a run did not record is left out of the card,
never guessed. Neither network nor training data is needed, and the same files give the same card. `keep_card` sets a
card with these files apart, as in `model_cards/`, so that it can be written again without the weights.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from PIL import Image

from ..evaluation.report import COLUMNS, OVERALL, file_stems
from ..models.configuration_multihead import HeadConfig, MultiHeadConfig
from ..backbones.registry import PACKAGED
from .card_facts import HUB_IDS, METRICS, OTHER, PAPERS
from .card_run import CardRun, public_name, read_run

TEMPLATE = Path(__file__).with_name("model_card_template.md")
EVIDENCE = (
    "config.json", "processor_config.json", "recipe.yaml", "task.json", "report/metrics.json", "report/per_class.csv",
    "report/ladder.md",
)  # fmt: skip
CPU_WATTS, GPU_WATTS = 10, 300  # assumed: a busy core of a server, a busy GPU; both without cooling and memory
FEW_ROWS = 10  # a label of fewer training rows is named among the limits
LISTED = 300  # labels of all heads; beyond, their scores are left to report/per_class.csv
SPELLED_OUT = 40  # labels; longer lists are folded away
WEAKEST = 3  # labels a head


def write_card(folder: str | Path, repo_id: str | None = None) -> Path:
    """Write the model card of a run or checkpoint folder as its README.md, in place of the one that is there.

    Args:
        folder: a finished run, or any multi-head checkpoint; what it lacks is left out of the card.
        repo_id: the Hub repository it will be in, `owner/name`, for the title and the code examples.

    Returns:
        the path of README.md.

    Raises:
        ValueError: if the folder is no multi-head checkpoint, one of its files is damaged, or `repo_id` is no Hub id.

    Example:
        >>> write_card("runs/ynat", "owner/ynat-e5-small-ko")  # doctest: +SKIP
    """
    card = build_card(folder, repo_id)
    path = Path(folder) / "README.md"
    part = path.with_name(f".README.{os.getpid()}.part")
    part.write_text(str(card), encoding="utf-8")
    os.replace(part, path)
    return path


def build_card(folder: str | Path, repo_id: str | None = None) -> ModelCard:
    """Build the model card of a run or checkpoint folder, without writing it.

    Args:
        folder: as for `write_card`.
        repo_id: as for `write_card`.

    Returns:
        the card; `card.data` is its front matter.

    Raises:
        ValueError: as for `write_card`.
    """
    if repo_id is not None:
        validate_repo_id(repo_id)
    run = read_run(Path(folder))
    name = repo_id.split("/")[-1] if repo_id else str(run.extra.get("task") or run.folder.resolve().name)
    return ModelCard.from_template(_front_matter(run, name), template_path=str(TEMPLATE), **_body(run, name, repo_id))


def keep_card(run: str | Path, target: str | Path) -> Path:
    """Set a run's card apart from its weights: the files it is made from, its pictures in few colours, and README.md.

    Args:
        run: a finished run, or a folder that this function has filled before: then only the card is written anew.
        target: the folder to fill, such as `model_cards/ynat`.

    Returns:
        the path of the README.md.

    Raises:
        ValueError: as for `write_card`; if the run has no report: nothing was measured; if `target` is a checkpoint.
    """
    run, target = Path(run), Path(target)
    read = read_run(run)
    if not read.results:
        raise ValueError(f"{run.name} has no report/metrics.json: train or evaluate it first.")
    if run.resolve() != target.resolve():
        if list(target.glob("*.safetensors")):  # its report would be replaced by another run's
            raise ValueError(f"{target} holds a checkpoint; name a folder of its own for the card.")
        shutil.rmtree(target / "report", ignore_errors=True)
        (target / "report").mkdir(parents=True)
        for name in EVIDENCE:
            if (run / name).is_file() and name != "recipe.yaml":
                shutil.copyfile(run / name, target / name)
        (target / "recipe.yaml").write_text(recipe_yaml(read.recipe), encoding="utf-8")
        for picture in [picture for head in _pictures(read) for _, picture in head[1]] + _curves(read):
            with Image.open(run / picture) as image:
                few = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
                few.save(target / picture, optimize=True)
    return write_card(target)


# --- front matter ---------------------------------------------------------------------------------------------------


def _front_matter(run: CardRun, name: str) -> ModelCardData:
    text, image = run.inputs
    # The Hub has no tag for text and image in, labels out: image-text-to-text means writing text. Of the two that are
    # true, image-classification says what a reader who looks for text classifiers would not expect.
    tag = "image-classification" if image else "text-classification"
    tags = ["hfk", "multi-head-classification", "custom_code"]
    tags += ["korean"] * run.korean + ["text-classification", "multimodal"] * (text and image)
    results = _eval_results(run, tag)
    bases = [HUB_IDS.get(encoder, encoder) for encoder in run.encoders]
    return ModelCardData(
        language="ko" if run.korean else None,
        license=run.licence,
        library_name="hfk",
        pipeline_tag=tag,
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        datasets=[run.data.hub_id] if run.data.hub_id else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=tags,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _eval_results(run: CardRun, tag: str) -> list[EvalResult]:
    scores, data = run.results.get("scores", {}), run.data
    split = run.extra.get("split")
    own = data.hub_id and _divided_by_hfk(run)
    where = {
        "dataset_type": data.hub_id or run.extra.get("task") or "table",
        "dataset_name": data.title or str(run.extra.get("task") or "a table"),
        "dataset_config": data.config,
        # A split that hfk divided off is none of the Hub data set's own, and must not pass for it.
        "dataset_split": None if own else split,
        "dataset_args": {"held_out_by_hfk": split} if own else None,
    }
    return [
        EvalResult(
            task_type=tag,
            task_name="Multi-head classification",
            metric_type=metric,
            metric_name=f"{head.name} {title}",
            metric_value=round(scores[f"{head.name}_{suffix}"], 4),
            metric_args=arguments,
            **where,
        )
        for head in run.heads
        for metric, arguments, suffix, title in METRICS[head.problem]
        if f"{head.name}_{suffix}" in scores
    ]


# --- body -----------------------------------------------------------------------------------------------------------


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _body(run: CardRun, name: str, repo_id: str | None) -> dict[str, Any]:
    text, image = run.inputs
    data, extra, scores = run.data, run.extra, run.results.get("scores", {})
    curves = _curves(run)
    bases = [(HUB_IDS.get(encoder, encoder), encoder) for encoder in run.encoders]
    cited = [hub_id for hub_id, _ in bases] + [data.hub_id or ""]
    rows = extra.get("rows")
    return {
        "title": md(name),
        "data": data,
        "reads": _reads(run),
        "head_phrases": [_phrase(head, run.config) for head in run.heads],
        "bases": bases,
        "packaged": PACKAGED,
        "parameters": extra.get("parameters"),
        "tables": _score_tables(run),
        "overall": [
            (title, f"{scores[key]:.3f}") for key, title in OVERALL.items() if key in scores and len(run.heads) > 1
        ],
        "split": extra.get("split"),
        "scored_rows": run.results.get("counts", {}).get("rows"),
        "ladder": _read_text(run.folder / "report" / "ladder.md"),
        "has_intervals": bool(run.results.get("intervals")),
        "has_baseline": bool(run.results.get("baseline")),
        "repo": repo_id or "owner/name",
        "reads_text": text,
        "reads_image": image,
        "row": _row(data.example, text, image),
        "answer": "{" + ", ".join(f"{json.dumps(h.name, ensure_ascii=False)}: …" for h in run.heads[:3]) + "}",
        "labels_only": all(head.problem == "single_label" for head in run.heads),
        "heads": run.heads,
        "md": md,
        "plain": _plain,
        "tree": label_tree(run.heads),
        "folded": sum(len(head.labels) for head in run.heads) > SPELLED_OUT,
        "task": md(str(extra["task"])) if extra.get("task") else None,
        "description": md(str(extra["description"])) if extra.get("description") else None,
        "rows": [(name, rows[name]) for name in ("train", "validation", "test") if name in rows]
        if isinstance(rows, dict)
        else [],
        "division": _division(run),
        "recipe": recipe_yaml(run.recipe) if run.recipe else None,
        "fence": "`" * max(3, 1 + max(map(len, re.findall("`+", recipe_yaml(run.recipe))), default=0)),
        "curves": curves[0] if curves else None,
        "facts": _environment(run),
        "pictures": _pictures(run),
        "calibration": [
            (md(head.name), f"{scores[f'{head.name}_ece']:.3f}", f"{head.temperature:.2f}")
            for head in run.heads
            if f"{head.name}_ece" in scores
        ],
        "calibrated": any(head.temperature != 1 for head in run.heads),
        "classes": _class_lines(run),
        "limits": _limits(run),
        "version": (extra.get("environment") or {}).get("hfk"),
        "papers": [paper for start, paper in PAPERS.items() if any(name.startswith(start) for name in cited)],
        "encoders_known": run.encoders_known,
        "licence": run.licence,
    }


def md(text: str) -> str:
    """Escape a user's words for a Markdown table, list or sentence: they show as they are, and mean nothing.

    Args:
        text: such as a label.

    Example:
        >>> print(md("카약|카누 *new*"))
        카약\\|카누 \\*new\\*
    """
    text = " ".join(str(text).split()).replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])|^([-+])", lambda m: m[1] + "\\" + m[2] if m[1] else "\\" + m[3], text)


def _plain(text: str) -> str:
    """Escape a user's words for HTML, where Markdown is not read."""
    return html.escape(" ".join(str(text).split()))


def _reads(run: CardRun) -> str:
    text, image = run.inputs
    picture = run.data.image or "a picture"
    if text and image:
        return f"{run.data.text}, {picture}, or both,"
    return run.data.text if text else picture.replace("its", "a place's")


def _phrase(head: HeadConfig, config: MultiHeadConfig) -> str:
    name, count = f"**{md(head.name)}**", len(head.labels)
    if head.problem == "regression":
        return f"{name} (a number)"
    if head.problem == "multi_label":
        return f"{name} (any of {count:,} labels)"
    inside = f", always inside the chosen {md(config.head(head.parent).name)}" if head.parent else ""
    return f"{name} (one of {count:,} labels{inside})"


def _row(example: str, text: bool, image: bool) -> str:
    """Write one input row as the code examples show it."""
    if text and not image:
        return json.dumps(example, ensure_ascii=False)
    parts = [f'"text": {json.dumps(example, ensure_ascii=False)}'] * text + ['"image": "photo.jpg"'] * image
    return "{" + ", ".join(parts) + "}"


def _score_tables(run: CardRun) -> list[tuple[list[str], list[list[str]]]]:
    """Lay out one table a problem: (header, lines); the report's columns, with intervals."""
    scores, baseline = run.results.get("scores"), run.results.get("baseline") or {}
    if not scores:
        return []
    intervals, labelled = run.results.get("intervals", {}), run.results["counts"]["labelled"]
    tables = []
    for problem, columns in COLUMNS.items():
        heads = [head for head in run.heads if head.problem == problem]
        # One figure tells what the majority gets; its macro-F1 would only widen the table.
        columns = [column for column in columns if not column[2] or (baseline and column[1] != "macro_f1")]
        if not heads:
            continue
        lines = []
        for head in heads:
            line = [md(head.name), *([] if problem == "regression" else [f"{len(head.labels):,}"])]
            line.append(f"{labelled.get(head.name, 0):,}")
            for _, suffix, of_baseline in columns:
                key = f"{head.name}_{suffix}"
                value = (baseline if of_baseline else scores).get(key)
                cell = "–" if value is None else f"{value:.3f}"
                if key in intervals and not of_baseline and value is not None:
                    cell = f"**{cell}** ({intervals[key][0]:.3f}–{intervals[key][1]:.3f})"
                line.append(cell)
            lines.append(line)
        shape = ["head", "rows"] if problem == "regression" else ["head", "labels", "rows"]
        tables.append(([*shape, *(title for title, _, _ in columns)], lines))
    return tables


def label_tree(heads: list[HeadConfig]) -> list[str]:
    """Write every head's labels as a nested list: a hierarchy as a tree, another head as one line."""
    children = {head.name: [child for child in heads if child.parent == head.name] for head in heads}

    def below(head: HeadConfig, label: int, depth: int) -> list[str]:
        lines = []
        for child in children[head.name]:
            own = [i for i, parent in enumerate(child.parent_of) if parent == label]
            if not children[child.name]:
                names = " · ".join(md(child.labels[i]) for i in own)
                lines += [f"{'  ' * depth}- {names}"] if own else []
            else:
                for i in own:
                    lines += branch(child, i, depth)
        return lines

    def branch(head: HeadConfig, label: int, depth: int) -> list[str]:
        inner = below(head, label, depth + 1)
        leaves = len(children[head.name]) == 1 and not children[children[head.name][0].name]
        name = f"{'  ' * depth}- {md(head.labels[label])}"
        return [f"{name}: {inner[0].strip()[2:]}"] if leaves and len(inner) == 1 else [name, *inner]

    lines = []
    for head in heads:
        if head.parent or head.problem == "regression":
            continue
        if not children[head.name]:
            lines.append(f"- **{md(head.name)}**: {' · '.join(map(md, head.labels))}")
            continue
        lines.append(f"- **{' › '.join(md(h.name) for h in _family(head, children))}**")
        for label in range(len(head.labels)):
            lines += branch(head, label, 1)
    return lines


def _family(head: HeadConfig, children: dict[str, list[HeadConfig]]) -> list[HeadConfig]:
    return [head, *(h for child in children[head.name] for h in _family(child, children))]


def _divided_by_hfk(run: CardRun) -> bool:
    """Whether hfk, not the data, took the scored rows apart from the training rows."""
    division = run.extra.get("division")
    if division is not None:
        return run.extra.get("split") in division.get("shares", {})
    # A run from before divisions were recorded: a built-in task's one file, or its embedded sample, has no splits.
    return run.data is not OTHER and (run.data.sample or isinstance(run.recipe.get("data"), str))


def _division(run: CardRun) -> str | None:
    if run.extra.get("split") == "train":
        return None
    if not _divided_by_hfk(run):
        return "The splits are the data's own." if run.extra.get("division") is not None else None
    division = run.extra.get("division") or {}
    shares = [f"{share:.0%} for {name}" for name, share in division.get("shares", {}).items()]
    details = [*shares, *([f"seed {division['seed']}"] if "seed" in division else [])]
    return (
        f"hfk divided the rows{f' ({chr(44).join(details)})'.replace(',', ', ') if details else ''}: stratified on the "
        "finest head, with exact and near duplicates of text or picture kept on one side. Near duplicates are found by "
        "shared letters and small thumbnails; a rewritten text, or a mirrored or cropped picture, is not."
    )


def recipe_yaml(recipe: dict[str, Any]) -> str:
    """Write the recipe down as one that can be used again: without secrets, local paths, and what changes nothing."""
    kept = {}
    for key, value in recipe.items():
        if value is None or "token" in key or key.startswith("hub_") or key in ("output_dir", "disable_tqdm"):
            continue
        if key in ("text_encoder", "vision_encoder"):
            value = public_name(value) or "(a local folder)"
        elif isinstance(value, str) and (key in ("task", "data") or value.startswith(("/", "~", "../", "./"))):
            value = re.split(r"[\\/]", value)[-1]
        kept[key] = value
    return yaml.safe_dump(kept, allow_unicode=True, width=110)


def _environment(run: CardRun) -> list[tuple[str, str]]:
    """List what it was made of, hardware, time, energy and versions, as far as the run recorded them."""
    extra, facts = run.extra, []
    made, lesson = extra.get("ensemble") or {}, extra.get("distillation") or {}
    if made:
        facts.append(("made of", md(f"{made['kind']} of {len(made['runs'])} runs")))
    if lesson:
        note = f"; {lesson['note']}" if lesson.get("note") else ""
        words = f"{lesson['teacher']}, temperature {lesson['temperature']:g}, weight {lesson['alpha']:g}{note}"
        facts.append(("learned from a teacher", md(words)))
    around = extra.get("environment") or {}
    processes, cores = around.get("world_size", 1), around.get("cpu_cores")
    gpu = around["device"] if around.get("device") not in (None, "cpu") else None
    threads = around.get("threads")
    busy = min(cores, threads * processes) if threads and cores else cores
    if around:
        parts = [f"{processes} × {gpu}"] if gpu else []
        parts += [f"{around.get('cpu') or 'CPU'}, {cores} cores"] if cores else []
        parts += (
            [f"{processes} process{'es'[: 2 * (processes > 1)]} of {threads} thread{'s'[: threads > 1]}"]
            if threads
            else []
        )
        facts.append(("hardware", md("; ".join(parts))))
    memory = extra.get("peak_memory_mib") or {}
    if memory:
        named = (("cpu", "main memory"), ("gpu", "GPU memory"))
        facts.append(("peak memory", ", ".join(f"{memory[k]:,} MiB of {v}" for k, v in named if memory.get(k))))
    seconds = extra.get("train_seconds")
    if seconds:
        speed = extra.get("train_rows_per_second")
        words = f"{seconds:,.0f} s" + (f" ({seconds / 60:,.0f} min)" if seconds >= 120 else "")
        words += f", {speed} rows/s" if speed else ""
        words += ", in several parts" if extra.get("resumed") else ""
        facts.append(("time", words))
        watts, sum_ = (processes * GPU_WATTS, f"{processes} × {GPU_WATTS} W a GPU") if gpu else (0, "")
        if not gpu and busy:
            watts, sum_ = busy * CPU_WATTS, f"{busy} × {CPU_WATTS} W a busy core"
        if watts:
            energy = seconds * watts / 3600
        if watts and energy >= 0.05:
            amount = f"{energy / 1000:,.1f} kWh" if energy >= 1000 else f"{energy:,.1f} Wh"
            facts.append(("energy, estimated", f"{amount}: the time × {sum_}, which is assumed, not measured"))
    names = ("hfk", "python", "torch", "transformers", "datasets", "accelerate", "peft")
    versions = [f"{name} {around[name]}" for name in names if around.get(name)]
    if versions:
        facts.append(("software", md(", ".join(versions))))
    return facts


def _curves(run: CardRun) -> list[str]:
    path = "report/training_curves.png"
    return [path] if (run.folder / path).is_file() else []


def _pictures(run: CardRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """For every head with pictures: its name, and (what it shows, path in the repository) of each."""
    stems, found = file_stems(run.heads), []
    for head in run.heads:
        kinds = (("confusion", "confusion matrix"), ("reliability", "reliability diagram"))
        there = [(what, f"report/{kind}_{stems[head.name]}.png") for kind, what in kinds]
        there = [(what, path) for what, path in there if (run.folder / path).is_file()]
        if there:
            found.append((head.name, there))
    return found


def _limits(run: CardRun) -> list[str]:
    """Say what the model can't do and what the scores don't show, each from a fact of the run."""
    extra, results, data = run.extra, run.results, run.data
    text, image = run.inputs
    limits = [data.limits] if data.limits else []
    if data.of_csv and str(run.recipe.get("data")).lower().endswith(".csv"):
        limits.append(data.of_csv)
    limits.append(
        "Every input gets an answer: there is no “none of these”, and scores on other kinds of input are unknown."
    )
    rows, split = results.get("counts", {}).get("rows", 0), extra.get("split")
    if split == "train":
        limits.append("It was scored on the rows that it was trained on: nothing is known about new rows.")
    elif split == "validation" and run.recipe.get("load_best_model_at_end", True):
        limits.append("The scored rows also chose the best epoch, so the scores are a little flattering.")
    if 0 < rows < 500:
        perfect = any(low == 1 for low, _ in results.get("intervals", {}).values())
        note = ", and an interval of 1.000–1.000 says only that these few held no mistake" if perfect else ""
        limits.append(f"Only {rows:,} rows were scored: the intervals are wide{note}.")
    limits += _weak_labels(run)
    for head, count in results.get("counts", {}).get("labelled", {}).items():
        if count < rows:
            limits.append(f"{md(head)}: {rows - count:,} of the {rows:,} scored rows have no label and don't count.")
    trained = (extra.get("rows") or {}).get("train") if isinstance(extra.get("rows"), dict) else None
    for head, count in (extra.get("train_labelled") or {}).items():
        if trained and count < trained:
            limits.append(f"{md(head)}: {trained - count:,} of the {trained:,} training rows have no label.")
    if text and run.processor.get("max_length"):
        limits.append(f"Texts are cut after {run.processor['max_length']} tokens.")
    if "e5-small-ko" in run.encoders:
        limits.append("The vocabulary is Korean, Latin, digits and common Hanja; other scripts are not read.")
    size = (run.processor.get("image_processor") or {}).get("size") or {}
    if image and size.get("height") and size.get("width"):
        limits.append(
            f"Pictures are resized to {size['width']}×{size['height']} pixels: small details and writing are lost."
        )
    if text and image:
        dropped = 1.0 if run.recipe.get("modality_loss") else float(run.recipe.get("modality_dropout") or 0)
        limits.append(
            f"Text or picture may be missing; this was practised on {dropped:.0%} of the rows that have both."
            if dropped
            else "A row without text or without picture gets an answer, but training left none out on purpose."
        )
    return limits


def _class_lines(run: CardRun) -> list[list[str]]:
    """Lay out the scores of every label that occurs among the scored rows."""
    if len(run.classes) > LISTED:
        return []
    return [
        [
            md(c["head"]),
            md(c["label"]),
            *(f"{c[key]:.3f}" for key in ("precision", "recall", "f1")),
            f"{c['support']:,}",
        ]
        for c in run.classes
        if c["support"]
    ]


def _weak_labels(run: CardRun) -> list[str]:
    limits = []
    few = run.extra.get("few_training_rows") or {}
    for head in run.heads:
        own = [line for line in run.classes if line["head"] == head.name]
        seen = sorted((line for line in own if line["support"]), key=lambda line: line["f1"])
        weak = [f"{md(c['label'])} (F1 {c['f1']:.3f}, {c['support']:,} rows)" for c in seen[:WEAKEST] if c["f1"] < 1]
        if weak:
            limits.append(f"Weakest labels of {md(head.name)}: {', '.join(weak)}.")
        if own and len(seen) < len(own):
            limits.append(
                f"{md(head.name)}: {len(own) - len(seen)} of {len(own)} labels do not occur among the scored rows."
            )
        rare = few.get(head.name) or {}
        if rare:
            named = ", ".join(f"{md(label)} ({count})" for label, count in sorted(rare.items(), key=lambda i: i[1])[:5])
            more = f", and {len(rare) - 5} more" if len(rare) > 5 else ""
            limits.append(f"{md(head.name)}: labels with fewer than {FEW_ROWS} training rows: {named}{more}.")
    return limits
