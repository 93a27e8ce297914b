"""Rows a second of `Predictor` next to the pipeline that a user would otherwise call, on the same rows in one process.

The ways take turns, several rounds, and each row reports its median round and the ratio to the first way.

    python benchmarks/throughput.py runs/ynat titles.csv --text title --rows 1000
    python benchmarks/throughput.py runs/ynat-ngram titles.csv --text title --rows 9131 --batch-size 512
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from transformers import pipeline
from transformers.utils import logging

from hfk import Predictor
from hfk.tasks.tables import read_table


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("table")
    parser.add_argument("--text", default="text", help="the text column")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32, help="of all ways but the first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    rows = [str(text) for text in read_table(arguments.table)[arguments.text][: arguments.rows]]
    classify = pipeline("multi-head-classification", model=arguments.checkpoint)
    size = arguments.batch_size
    predictor = Predictor.from_pretrained(arguments.checkpoint, batch_size=size)
    half = Predictor.from_pretrained(arguments.checkpoint, dtype=torch.bfloat16, batch_size=size)
    ways = {
        "pipeline, batch_size=1": lambda: classify(rows),
        f"pipeline, batch_size={size}": lambda: classify(rows, batch_size=size),
        "Predictor, float32": lambda: predictor(rows),
        "Predictor, bfloat16": lambda: half(rows),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    head = predictor.model.config.heads[0].name
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            # Labels alone are kept: the garbage collector would walk through every way's answers again and again.
            answers[name] = [answer[head][0]["label"] for answer in way()]
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["pipeline, batch_size=1"])
    results = {}
    print(f"| way | rows/s | ratio | same `{head}` as the first |\n|---|---|---|---|")
    for name, times in seconds.items():
        pairs = zip(answers[name], answers["pipeline, batch_size=1"], strict=True)
        same = statistics.mean(one == other for one, other in pairs)
        median = statistics.median(times)
        results[name] = {"rows_per_second": len(rows) / median, "ratio": base / median, "same": same}
        print(f"| {name} | {len(rows) / median:.0f} | {base / median:.2f} | {same:.1%} |")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
