"""The figures that are measured here, one line each, in `HFK_FIGURES` if that names a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the Space: its ten thousand calls keep one core busy for minutes, others fill the rest."""
    items.sort(key=lambda item: "test_space_load" not in item.nodeid)


@pytest.fixture
def record_figures() -> Callable[..., None]:
    """Note processor time and the highest memory a row."""

    def record(what: str, seconds: Sequence[float] = (), mb: float | None = None) -> None:
        said = [what]
        if len(seconds):
            mean, most = np.mean(seconds) * 1000, np.max(seconds) * 1000
            said.append(f"{len(seconds):,} rows: {mean:.2f} ms on average, {np.quantile(seconds, 0.99) * 1000:.1f} ms")
            said[-1] += f" for 99 of 100, {most:.1f} ms at most"
        if mb is not None:
            said.append(f"{mb:.0f} MB at most")
        line = "; ".join(said)
        print(line)
        if os.environ.get("HFK_FIGURES"):
            with open(os.environ["HFK_FIGURES"], "a", encoding="utf-8") as file:
                file.write(line + "\n")

    return record
