"""Pictures a second of a training step, and how much of the time it waits for pictures, way by way on the same rows.

Each way makes the batches of a recipe as training would, workers included, and takes its steps: forward, backward,
optimizer. The first way is what PyTorch does unless told otherwise. The ways take turns, several rounds; a line is the
median round.

    python benchmarks/picture_training.py benchmarks/clothing.yaml --steps 12 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext

import torch

from hfk.runs.recipe import parse_overrides
from hfk.training.train import prepare

WARM_UP = 3
WAYS = {  # workers, bfloat16, channels last
    "float32, 1 worker": (1, False, False),
    "float32, channels last, 1 worker": (1, False, True),
    "bfloat16, channels last, 1 worker": (1, True, True),
    "bfloat16, channels last, 2 workers": (2, True, True),
    "bfloat16, channels last, no worker": (0, True, True),
}


def build(recipe: str, task: str, options: dict, workers: int, half: bool, last: bool) -> tuple:
    """A trainer that is ready for its first step, and its optimizer."""
    options = options | {"task": task, "dataloader_num_workers": workers, "bf16": half, "standardize_rows": 0}
    with tempfile.TemporaryDirectory() as folder:
        ready = prepare(recipe, folder, options)
        ready.run.release()
    encoder = ready.trainer.model.vision_encoder
    if not last and hasattr(encoder, "stem"):  # EfficientNet-Lite lays out its input itself
        encoder.stem.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
    elif last:
        encoder.to(memory_format=torch.channels_last)
    return ready.trainer, ready.trainer.create_optimizer()


def measure(trainer, optimizer, half: bool, steps: int) -> tuple[float, float]:
    """Pictures a second, and the share of the time that is spent on waiting for the next batch."""
    model, batches = trainer.model.train(), iter(trainer.get_train_dataloader())
    waited, count, started = 0.0, 0, time.perf_counter()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            waited, count, started = 0.0, 0, time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            loss = trainer.compute_loss(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        count += len(batch["pixel_values"])
    seconds = time.perf_counter() - started
    return count / seconds, waited / seconds


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a task YAML, or a built-in task")
    parser.add_argument("--recipe", default="pictures-augmented")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("options", nargs="*", help="key=value for every way")
    arguments = parser.parse_intermixed_args()
    options = parse_overrides(arguments.options)
    made = {name: build(arguments.recipe, arguments.task, options, *way) for name, way in WAYS.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(arguments.rounds):
        for name, (trainer, optimizer) in made.items():
            found[name].append(measure(trainer, optimizer, WAYS[name][1], arguments.steps))
    base = statistics.median(speed for speed, _ in found["float32, 1 worker"])
    print(
        f"\n{torch.get_num_threads()} threads\n\n| way | pictures/s | ratio | waiting for data |\n|---|---:|---:|---:|"
    )
    for name, rounds in found.items():
        speed, waited = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"| {name} | {speed:.1f} | {speed / base:.2f} | {waited:.1%} |")


if __name__ == "__main__":
    main()
