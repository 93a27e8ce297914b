"""`make demo`: the main job in a few minutes, on a CPU, without network: train, score, reload, classify, explain.

It trains the tourism task on the embedded sample from the packaged backbones; the steps are those a user would write.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import datasets
from transformers import pipeline
from transformers.utils import logging

from hfk import train
from hfk.tasks import unseen_places

BAR = 20


def wide(text: str, width: int) -> str:
    """Pad text to a width in terminal columns, of which a Korean letter takes two."""
    columns = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return text + " " * max(0, width - columns)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/tour-mini"))
    options = parser.parse_args()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    shutil.rmtree(options.output_dir, ignore_errors=True)

    print("1. Training: overview + photo → cat1 > cat2 > cat3, embedded sample, e5-small-ko + efficientnet-lite0")
    started = time.perf_counter()
    results = train(
        "tour-mini", options.output_dir, {"disable_tqdm": not sys.stderr.isatty(), "logging_strategy": "no"}
    )
    extra = results["extra"]
    print(f"\n   {extra['rows']['train']} rows to train on, {extra['rows']['test']} to test on,", end=" ")
    print(f"{extra['parameters'] / 1e6:.1f} M weights, {time.perf_counter() - started:.0f} s in all.")
    print("   The sample is drawn and written by a script: its scores show that the machinery works, nothing more.")

    print(f"\n2. Reloading {options.output_dir} and classifying two places that it has never seen")
    classify = pipeline("multi-head-classification", model=str(options.output_dir))
    for place in unseen_places():
        answer = classify({"text": place["text"], "image": place["image"]}, top_k=3)
        print(f"\n   {place['text']}")
        for head, labels in answer.items():
            for rank, item in enumerate(labels):
                bar = "█" * round(BAR * item["score"])
                print(f"   {head if not rank else '':6}{wide(item['label'], 24)}{item['score']:6.1%}  {bar}")
        print(f"   in truth: {' > '.join(place[head] for head in answer)}")

    print(f"""
3. Next
   look at the report         {options.output_dir / "report" / "report.html"}
   classify a whole table     .venv/bin/hfk predict {options.output_dir} places.csv places_classified.csv
   train on your own table    .venv/bin/hfk init my.csv && .venv/bin/hfk train my.yaml --output-dir runs/my
   see what else there is     .venv/bin/hfk --help, README.md""")


if __name__ == "__main__":
    main()
