"""Loading a large table: rows a second and peak memory of `Task.load`, beside a plain `datasets.load_dataset("csv")`.

Every measurement is a process of its own, so that peak memory is its own too: Python, torch and transformers included.
The table is made of words of the embedded headlines, drawn as often as they occur there, cut to a fixed length.

    python benchmarks/loading.py --rows 1000000
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FIRST, AGAIN, PLAIN = "Task.load", "Task.load again", 'load_dataset("csv")'


def write_table(path: Path, rows: int, characters: int) -> None:
    """Write columns text and label; the labels are numbers from 0 to 6."""
    from hfk import load_task

    titles = [title for part in load_task("ynat-mini").load().values() for title in part["text"]]
    words = np.array(" ".join(titles).split())
    generator = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            drawn = words[generator.integers(len(words), size=(count, characters // 2))]
            labels = generator.integers(7, size=count)
            writer.writerows([" ".join(line)[:characters], label] for line, label in zip(drawn, labels, strict=True))


def measure(kind: str, table: Path, cache: Path) -> dict[str, float]:
    """Load the table in this process and say how long it took and what it needed."""
    started = time.perf_counter()  # imports count: a user waits for them too
    if kind == PLAIN:
        import datasets

        loaded = datasets.load_dataset("csv", data_files=str(table), cache_dir=str(cache))
    else:
        from hfk import load_task

        loaded = load_task({"name": "large", "data": str(table), "text": "text", "heads": ["label"]}).load(cache)
    return {
        "rows": sum(map(len, loaded.values())),
        "seconds": time.perf_counter() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Make the table, and measure each way of loading it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--characters", type=int, default=30)
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "TABLE", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, table, cache = args.measure
        print(json.dumps(measure(kind, Path(table), Path(cache))))
        return
    print(f"{'':22}{'rows':>12}{'seconds':>10}{'rows/s':>12}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        write_table(table, args.rows, args.characters)
        for kind in (FIRST, AGAIN, PLAIN):
            command = [sys.executable, __file__, "--measure", kind, str(table), f"{folder}/{kind[0]}"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            speed = found["rows"] / found["seconds"]
            print(f"{kind:22}{found['rows']:>12,}{found['seconds']:>10.1f}{speed:>12,.0f}{found['peak']:>10,.0f}")


if __name__ == "__main__":
    main()
