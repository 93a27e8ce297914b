"""Processes that answer a table beside the one that reads and writes change no byte of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hfk import Predictor
from hfk.inference.predictor import count_multiplications
from hfk.inference.table import predict_table
from hfk.inference.workers import MOST, WORTH_BYTES, choose_workers
from tests import tiny


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(tiny.model("ngram"), tiny.processor("bert", None), window=16)


def table(folder: Path) -> Path:
    lines = [f"{number},{tiny.SENTENCES[number % 6]} {number}" if number % 7 else f"{number}," for number in range(150)]
    (folder / "in.csv").write_text("\n".join(["id,text", *lines]) + "\n", encoding="utf-8")
    return folder / "in.csv"


def test_workers_write_the_same_bytes_in_order(predictor, tmp_path):
    source = table(tmp_path)
    for workers in (0, 1, 2):
        counts = predict_table(predictor, source, tmp_path / f"{workers}.csv", resume=True, workers=workers)
        assert counts == {"rows": 150, "errors": 22}
    written = [(tmp_path / f"{workers}.csv").read_bytes() for workers in (0, 1, 2)]
    assert written[0] == written[1] == written[2] and written[0].count(b"\n") == 151


def test_an_interrupt_with_workers_leaves_what_a_run_without_goes_on_from(predictor, tmp_path):
    source, done = table(tmp_path), []

    def stop(rows: int) -> None:
        done.append(rows)
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="64 rows of out.csv are answered and kept"):
        predict_table(predictor, source, tmp_path / "out.csv", resume=True, workers=2, on_rows=stop)
    with pytest.warns(UserWarning, match="goes on after 64 rows"):
        predict_table(predictor, source, tmp_path / "out.csv", resume=True, workers=0)
    predict_table(predictor, source, tmp_path / "whole.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_goes_wrong_in_a_worker_is_said_here(predictor, tmp_path, monkeypatch):
    def broken(**inputs: torch.Tensor) -> None:
        raise ValueError("this batch can't be run.")

    monkeypatch.setattr(predictor.model, "forward", broken)
    with pytest.raises(ValueError, match="this batch can't be run"):
        predict_table(predictor, table(tmp_path), tmp_path / "out.csv", workers=1)
    assert not (tmp_path / "out.csv").exists()


def test_workers_are_for_large_tables_and_small_models(predictor, tmp_path):
    assert predictor.small and predictor.batch_size == 512 and predictor.threads == 1
    large = Predictor(tiny.model("bert"), tiny.processor("bert", None), batch_size=3)
    assert count_multiplications(large.model) > count_multiplications(predictor.model)
    path = tmp_path / "rows.csv"
    path.write_bytes(b"x" * WORTH_BYTES)
    assert [choose_workers(path, True, cores) for cores in (1, 2, 3, 64)] == [0, 1, 2, MOST]
    assert choose_workers(path, False, 64) == 0
    path.write_bytes(b"x" * (WORTH_BYTES - 1))
    assert choose_workers(path, True, 64) == 0
