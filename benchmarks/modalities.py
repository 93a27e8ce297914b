"""Text only, image only, both: one task, one split, several seeds, one table of test scores.

A checkpoint of both is also scored on the same rows with one side taken away (`both, text` has no pictures): as the
file trains it, with modality dropout in place of each side's loss alone, and with neither. A user's usual way without
hfk stands beside: TF-IDF and a linear SVM a head, on the same text and split (the ladder's baseline).

    python benchmarks/modalities.py benchmarks/fashion_items.yaml --seeds 1 2 3 --output-dir runs/fashion_items
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from transformers.utils import logging

from hfk import load_task, train
from hfk.inference.loading import load_checkpoint
from hfk.runs.recipe import MultiHeadTrainingArguments, parse_overrides
from hfk.runs.run import Run
from hfk.tools.ladder.baselines import run_baseline
from hfk.training.trainer import MultiHeadTrainer

VARIANTS = {
    "text": {"vision_encoder": None, "pictures": None},
    "image": {"text_encoder": None},
    "both": {},
    "dropout": {"modality_dropout": 0.1, "modality_loss": 0.0},
    "no dropout": {"modality_dropout": 0.0, "modality_loss": 0.0},
}
SCORES = ("accuracy", "macro_f1", "weighted_f1", "weighted_f1_independent", "micro_f1", "map")


def score_sides(folder: Path, task: str) -> dict[str, dict[str, float]]:
    """Score a checkpoint of text and pictures on the test rows without their pictures, and without their text."""
    kept = folder / "sides.json"
    if not kept.is_file():
        model, processor = load_checkpoint(folder)
        rows = load_task(task).load()["test"]
        args = MultiHeadTrainingArguments(
            str(folder), disable_tqdm=True, eval_strategy="no", save_strategy="no", load_best_model_at_end=False
        )
        trainer = MultiHeadTrainer(model, args, processor, rows={"test": rows})
        sides = {}
        for side, other in (("text", "image"), ("image", "text")):
            metrics = trainer.predict(rows.remove_columns(other), metric_key_prefix=side).metrics
            sides[side] = {name.removeprefix(f"{side}_"): value for name, value in metrics.items()}
        kept.write_text(json.dumps(sides, indent=1), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a task YAML")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("options", nargs="*", help="key=value for every run")
    arguments = parser.parse_intermixed_args()
    logging.disable_progress_bar()
    overrides = {"disable_tqdm": True} | parse_overrides(arguments.options)
    found: dict[str, list[dict[str, float]]] = {}
    heads: list[dict] = []
    for variant in arguments.variants:
        for seed in arguments.seeds:
            folder = arguments.output_dir / f"{variant.replace(' ', '-')}-{seed}"
            report = folder / "report" / "metrics.json"
            if not report.is_file():  # a finished run is not done again
                train(arguments.task, folder, overrides | VARIANTS[variant] | {"seed": seed})
            results = json.loads(report.read_text(encoding="utf-8"))
            heads, seconds = results["heads"], results["extra"]["train_seconds"]
            found.setdefault(variant, []).append(results["scores"] | {"train_seconds": seconds})
            if variant not in ("text", "image"):
                for side, scores in score_sides(folder, arguments.task).items():
                    found.setdefault(f"{variant}, {side}", []).append(scores)
    if "text" in arguments.variants:
        results = run_baseline("tfidf", {"task": arguments.task}, Run(arguments.output_dir / "tfidf"))
        found["tfidf+svm"] = [results["scores"] | {"train_seconds": results["extra"]["train_seconds"]}]
    lines = [f"| head | score | {' | '.join(found)} |", "|---|---|" + "---|" * len(found)]
    for head in heads:
        for score in SCORES:
            key = f"{head['name']}_{score}"
            if key in found[arguments.variants[0]][0]:
                lines.append(row(head["name"], score, key, found))
    lines += [row("all", key, key, found) for key in ("exact_match", "train_seconds")]
    table = "\n".join(lines)
    (arguments.output_dir / "table.md").write_text(table + "\n", encoding="utf-8")
    (arguments.output_dir / "scores.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(table)


def row(name: str, score: str, key: str, found: dict[str, list[dict[str, float]]]) -> str:
    """One line of the table."""
    return f"| {name} | {score} | {' | '.join(spread(runs, key) for runs in found.values())} |"


def spread(runs: list[dict[str, float]], key: str) -> str:
    """Mean ± standard deviation over the seeds, as text."""
    values = [run[key] for run in runs if key in run]
    if not values:
        return "–"
    form = ".0f" if key == "train_seconds" else ".3f"
    return f"{statistics.mean(values):{form}}" + (f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
