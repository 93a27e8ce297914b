"""What a process takes: memory at its highest, and the processor's time of one thread."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def memory_mb(pid: int | str = "self", highest: bool = False) -> float:
    """What a process has in memory, now or at its highest since `begin_anew`."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("memory is measured on Linux only")
    return int(re.search(rf"Vm{'HWM' if highest else 'RSS'}:\s+(\d+)", status.read_text())[1]) / 1024


def begin_anew(pid: int | str = "self") -> None:
    """Forget how high a process has been."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Taken:
    """What a block took."""

    seconds = 0.0  # of the processor, this thread's
    mb = 0.0  # the highest above what there was before


@contextmanager
def taking() -> Iterator[Taken]:
    """Measure a block."""
    taken, before = Taken(), memory_mb()
    begin_anew()
    started = time.thread_time()
    yield taken
    taken.seconds, taken.mb = time.thread_time() - started, memory_mb(highest=True) - before


def least(work: Callable[[], object], seconds: float = 0.05, tries: int = 5) -> Taken:
    """Measure some work; what took longer than that is done again, and the least time counts.

    Whoever else uses the core or its caches can only add to a time.
    """
    best = float("inf")
    for _ in range(tries):
        with taking() as taken:
            work()
        best = min(best, taken.seconds)
        if best <= seconds:
            break
    taken.seconds = best
    return taken
