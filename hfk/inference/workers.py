"""Work on a few things ahead, in processes beside this one, where that is worth it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .graph import count_cores

WORTH_BYTES = 4_000_000
"""Of a table: some fifty thousand titles, a few seconds for a small model."""
MOST = 2
"""More workers wait for the process that reads and writes the table."""

_work: Callable[[Any], Any] | None = None


def choose_workers(source: Path, small: bool, cores: int | None = None) -> int:
    """How many processes to answer a table in, beside this one: 0 for a small table, and for a model that is not small.

    The threads of such a model are at work on all `cores`, by default those that `count_cores` says.
    """
    worth = small and source.is_file() and source.stat().st_size >= WORTH_BYTES
    possible = "fork" in multiprocessing.get_all_start_methods()
    return min((count_cores() if cores is None else cores) - 1, MOST) if worth and possible else 0


@contextmanager
def working(work: Callable[[Any], Any], count: int) -> Iterator[Callable[[Any], Callable[[], Any]]]:
    """Give a function that begins `work` on something in one of `count` processes and returns how to wait for it.

    With 0 it is done here, when it is waited for. The processes are forked: they share the model's memory.
    """
    if not count:
        yield lambda item: partial(work, item)
        return
    global _work
    _work = work
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _start)
    try:
        yield lambda item: pool.submit(_do, item).result
    finally:
        pool.shutdown(cancel_futures=True)
        _work = None


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends them
    torch.set_num_threads(1)  # its threads were not forked along


def _do(item: Any) -> Any:
    return _work(item)
