"""What a report and a card tell beside the scores: the machine, memory, and facts about the rows."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import accelerate
import datasets
import numpy as np
import torch
import transformers

from .. import __version__
from ..models.configuration_multihead import HeadConfig
from ..tasks import Task, list_tasks

FEW_ROWS = 10
"""Of labels with fewer training rows than this, report and card say so."""


def environment() -> dict[str, Any]:
    """Describe the machine and the versions that a figure depends on."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    libraries = (torch, transformers, datasets, accelerate)
    return {
        "hfk": __version__,
        "python": platform.python_version(),
        **{library.__name__: str(library.__version__) for library in libraries},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else str(device or "cpu"),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
    }


def peak_memory() -> dict[str, int]:
    """Return the most memory this process has held, in MiB: `cpu`, and `gpu` where CUDA was used; {} on Windows."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = {"cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["gpu"] = torch.cuda.max_memory_allocated() >> 20
    return peak


def data_facts(
    task: Task, data: datasets.DatasetDict, heads: list[HeadConfig], train_labels: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Say about a loaded task's rows what the model card tells; `train_labels` are as in `Predictions`."""
    # A split that hfk took out of other rows still carries their split's name.
    own = [name for name in ("validation", "test") if name in data and str(data[name].split) != name]
    division = {"shares": {name: task.shares[name] for name in own}, "seed": task.seed} if own else {}
    facts: dict[str, Any] = {"rows": {name: len(rows) for name, rows in data.items()}, "division": division}
    few, facts["train_labelled"] = {}, {}
    for head in heads:
        present, target = head.rules.read(train_labels.get(head.name))
        facts["train_labelled"][head.name] = int(present.sum())
        counts = head.rules.counts(target[present]) if present.any() else ()
        rare = {label: int(n) for label, n in zip(head.labels, counts, strict=False) if n < FEW_ROWS}
        if rare:
            few[head.name] = rare
    if few:
        facts["few_training_rows"] = few
    if "text" in data["train"].column_names:
        texts = [text for text in data["train"]["text"] if text]
        korean = sum(any("가" <= letter <= "힣" for letter in text) for text in texts)
        facts["korean_share"] = round(korean / max(len(texts), 1), 3)
    if task.corrected:
        facts["corrections"] = task.corrected
    if task.fold:
        facts["fold"] = f"{task.fold[0]} of {task.fold[1]}"
    if task.description and task.name not in list_tasks():
        facts["description"] = task.description
    return facts


def _cpu_name() -> str | None:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None
