"""Scoring a finished checkpoint on labelled rows: what `hfk evaluate` calls."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from datasets import concatenate_datasets

from ..evaluation.predictions import Predictions
from ..evaluation.report import format_table, write_report
from ..inference.predictor import load_checkpoint
from ..inference.table import read_task_file
from ..tasks import load_task
from ..training.train import environment
from ..training.trainer import MultiHeadTrainer
from .recipe import MultiHeadTrainingArguments


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    output_dir: str | Path,
    image_dir: str | Path | None = None,
    batch_size: int = 64,
    revision: str | None = None,
) -> str:
    """Score a checkpoint on a labelled table and write a report folder.

    Args:
        checkpoint: folder or Hub id.
        data: table with the columns of the training table.
        output_dir: folder of the report; see `hfk.evaluation.report.write_report`.
        image_dir: what picture paths are relative to; the table's folder by default.
        batch_size: rows a forward pass.
        revision: commit, tag or branch of a Hub checkpoint.

    Returns:
        the per-head table of scores, as text; empty on processes other than the main one.

    Raises:
        FileNotFoundError: if the table is missing.
        ValueError: if a column is missing, or a label is none of the checkpoint's; the sentence names the row.
    """
    model, processor = load_checkpoint(checkpoint, revision=revision)
    columns = read_task_file(checkpoint, revision)
    heads = model.config.heads
    fallback = {
        "text": "text" if processor.tokenizer is not None else None,
        "image": "image" if processor.image_processor is not None else None,
        "heads": [{"name": head.name, "problem": head.problem} for head in heads],
    }
    task = columns.pop("task", None) or fallback | columns
    folder = {} if image_dir is None else {"image_dir": image_dir}
    with tempfile.TemporaryDirectory() as scratch:
        args = MultiHeadTrainingArguments(
            output_dir=scratch,
            per_device_eval_batch_size=batch_size,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            disable_tqdm=not sys.stderr.isatty(),
        )
        with args.main_process_first(desc="preparing data"):
            loaded = load_task(task, data=str(data), split=None, heads=heads, **folder).load()
        rows = concatenate_datasets(list(loaded.values()))
        output = MultiHeadTrainer(model, args, processor, rows={"test": rows}).predict(rows)
    if not args.should_save:
        return ""
    results = write_report(
        output_dir,
        Predictions.of(rows, heads, output.predictions),
        {
            "title": f"{Path(checkpoint).name} on {Path(data).name}",
            "rows": len(rows),
            "rows_per_second": round(len(rows) / output.metrics["test_runtime"], 1),
            "environment": environment(),
        },
    )
    return format_table(results)
