"""Killed or out of disk at any write or rename, a program leaves whole files or none, and goes on from there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_utils import HubStrategy

from hfk import cli, train
from hfk.files import out_of_room, part_of, replacing, sweep, write_atomic
from hfk.hub.training_checkpoints import push_checkpoint
from hfk.runs.checkpoints import last_checkpoint
from hfk.runs.run import Run
from hfk.training.folds import train_folds
from tests import tiny
from tests.trust.attacks import DIED, at_change, die, in_child, no_room
from tests.trust.test_kills import OPTIONS, said_of, table

FEW, MANY = 2, 200
"""Changes of a run at which it is killed in `make test` and in `make trust`, evenly spread over all of them."""


# ------------------------------------------------------------------------------------------------------------ one file


def work_of(folder: Path, number: int | None, then: Callable[[], None], work: Callable[[], object]) -> int:
    """Work in a child that is struck at one of its changes below `folder`; returns its exit status."""

    def struck() -> None:
        at_change(folder, number, then)
        work()

    return in_child(struck, folder.parent / "said.txt")


def changes_of(folder: Path, work: Callable[[], object]) -> int:
    """How many changes below `folder` some work makes; it is done in a child."""
    told = folder.parent / "count.txt"

    def counted() -> None:
        count = at_change(folder, None, die)
        work()
        told.write_text(str(count()))

    assert in_child(counted) == 0
    return int(told.read_text())


@pytest.mark.parametrize("then", [die, no_room])
def test_a_file_or_a_folder_is_the_old_or_the_new_one_at_every_moment(tmp_path, then):
    place = tmp_path / "place"

    def write() -> None:
        write_atomic(place / "file", "new" * 10_000)
        with replacing(place / "folder") as part:
            part.mkdir()
            (part / "one").write_text("new")
            (part / "two").write_text("new")

    def old() -> None:
        shutil.rmtree(place, ignore_errors=True)
        (place / "folder").mkdir(parents=True)
        (place / "file").write_text("old")
        (place / "folder" / "one").write_text("old")

    old()
    count = changes_of(place, write)
    for number in range(1, count + 1):
        old()
        assert work_of(place, number, then, write) == (DIED if then is die else 99)
        assert (place / "file").read_text() in ("old", "new" * 10_000)
        if (place / "folder").is_dir():  # at one moment it is being exchanged, and has another name
            assert {path.read_text() for path in (place / "folder").iterdir()} in ({"old"}, {"new"})
        else:
            assert list(place.glob(".folder.*.part"))
        sweep(place)
        assert {path.name for path in place.iterdir()} <= {"file", "folder"}
    assert count >= 8


def test_what_the_dead_left_half_written_goes_and_what_the_living_write_stays(tmp_path):
    mine, others = part_of(tmp_path / "table.csv"), tmp_path / ".table.csv.12-abcdef-01234567.part"
    for path in (mine, others, tmp_path / ".hidden.part"):
        path.write_text("half")
    assert in_child(lambda: part_of(tmp_path / "dead.csv").write_text("half")) == 0
    assert len(list(tmp_path.iterdir())) == 4
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, others.name, ".hidden.part"}
    assert len(os.fsencode(part_of(tmp_path / ("가" * 80)).name)) < 255


# ------------------------------------------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory) -> tuple[Path, dict, int]:
    """A task, what a run on it says, and how many changes the run makes in its folder."""
    folder = tmp_path_factory.mktemp("unkilled")
    task = table(folder / "task")
    count = changes_of(folder / "run", lambda: train(str(task), folder / "run", OPTIONS))
    return task, said_of(folder / "run"), count


def check_whole(run: Path) -> None:
    """Every file under its own name can be read, and so can what would be gone on from."""
    readers = {".json": json.loads, ".yaml": yaml.safe_load}
    for path in run.rglob("*"):
        inside = path.relative_to(run).parts
        if not path.is_file() or inside[0].startswith((".", "checkpoint-", "damaged-")):
            continue
        if path.suffix in readers:
            readers[path.suffix](path.read_text(encoding="utf-8"))
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix in (".csv", ".html", ".md", ".png", ".py"):
            assert path.stat().st_size
    pick = last_checkpoint(run)
    if pick is not None:
        load_file(Path(pick) / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.load(Path(pick) / name, weights_only=name != "rng_state.pth")
        assert json.loads((Path(pick) / "trainer_state.json").read_text())["global_step"] == int(pick.split("-")[-1])


def strike(unkilled: tuple[Path, dict, int], folder: Path, numbers: list[int], then: Callable[[], None]) -> None:
    task, expected, _ = unkilled
    for place, number in enumerate(numbers):
        run = folder / str(number)
        status = work_of(run, number, then, lambda run=run: train(str(task), run, OPTIONS))
        assert status in ((DIED,) if then is die else (0, 99)), (folder.parent / "said.txt").read_text()
        check_whole(run)
        if not Run(run).finished or Run(run).started:
            if place % 8 == 0:
                assert in_child(lambda run=run: train(str(task), run, OPTIONS)) == 0
                assert said_of(run) == expected, number
                assert not list(run.rglob("*.part")) and not list(run.glob("*checkpoint-*")), number
        elif then is die:
            assert said_of(run) == expected, number
        shutil.rmtree(run, ignore_errors=True)


@pytest.mark.parametrize("then", [die, no_room])
def test_a_run_struck_at_a_change_leaves_whole_files_and_goes_on(unkilled, tmp_path, then):
    count = unkilled[-1]
    strike(unkilled, tmp_path, sorted(random.Random(then.__name__).sample(range(1, count + 1), FEW)), then)


@pytest.mark.trust
@pytest.mark.parametrize("part", range(4))
def test_a_run_killed_at_any_change_leaves_whole_files_and_goes_on(unkilled, tmp_path, part):
    """An eighth of them goes on to the end."""
    count = unkilled[-1]
    numbers = sorted({1 + place * count // MANY for place in range(MANY)})
    assert len(numbers) == MANY
    strike(unkilled, tmp_path, numbers[part::4], die)


@pytest.mark.trust
def test_a_run_out_of_room_at_any_change_leaves_whole_files_and_goes_on(unkilled, tmp_path):
    count = unkilled[-1]
    strike(unkilled, tmp_path, sorted({1 + place * count // 40 for place in range(40)}), no_room)


class Tell(TrainerCallback):
    """Says through a pipe that a save begins."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def on_step_end(self, args, state, control, **kwargs):
        os.write(self.pipe, b".")


@pytest.mark.trust
def test_a_run_killed_from_outside_in_the_middle_of_a_write_goes_on(unkilled, tmp_path):
    """Writers in other languages tell no audit hook: SIGKILL comes some thousandths of a second after a step."""
    task, expected, _ = unkilled
    draw, deaths = random.Random(0), 0
    for number in range(40):
        run = tmp_path / str(number)
        ear, mouth = os.pipe()
        child = os.fork()
        if not child:
            with suppress(BaseException):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, 1), os.dup2(devnull, 2)
                train(str(task), run, OPTIONS, callbacks=[Tell(mouth)])
            os._exit(0)
        os.close(mouth)
        for _ in range(draw.randint(1, 6)):
            os.read(ear, 1)
        time.sleep(draw.random() * 0.06)
        os.kill(child, signal.SIGKILL)
        deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        os.close(ear)
        check_whole(run)
        if number % 3 == 0:
            assert in_child(lambda run=run: train(str(task), run, OPTIONS)) == 0
            assert said_of(run) == expected
        shutil.rmtree(run)
    assert deaths > 30


# ---------------------------------------------------------------------------------------------------------- full disks

NO_ROOM = "hfk: there is no room left on the disk: make some, and give the same command again.\n"


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many kilobytes; it may be made anew, larger, with what is on it."""
    folder, mounted = tmp_path / "disk", []

    def resize(kilobytes: int) -> Path:
        options = f"size={kilobytes}k" + ",remount" * bool(mounted)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        folder.mkdir(exist_ok=True)
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("nobody but root may mount a small disk")
        mounted.append(folder)
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def command(*words: object) -> Callable[[], None]:
    return lambda: cli.main([str(word) for word in words])


def full(disk: Callable[[int], Path], sizes: list[int], words: Callable[[Path], list[object]], said: Path) -> int:
    """Give a command on disks that are too small, then on one that is not; returns how many were too small."""
    too_small = 0
    folder = disk(64_000)
    for size in sizes:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        disk(size)
        status = in_child(command(*words(folder)), said)
        disk(64_000)
        errors = [line for line in said.read_text(encoding="utf-8").splitlines(True) if line.startswith("hfk: ")]
        assert "Traceback" not in said.read_text(encoding="utf-8"), size
        assert (status, errors[-1:]) in ((2, [NO_ROOM]), (0, [])), (size, said.read_text(encoding="utf-8"))
        assert not [path for path in folder.rglob("*.part")], size
        too_small += status == 2
        if status == 2:
            assert in_child(command(*words(folder)), said) == 0, (size, said.read_text(encoding="utf-8"))
    return too_small


SIZES = [16, 48, 120, 240, 420, 700, 1200]


def test_training_on_a_full_disk_is_one_sentence_and_goes_on_with_room(unkilled, disk, tmp_path):
    task, expected, _ = unkilled
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(OPTIONS | {"task": str(task)}), encoding="utf-8")

    def words(folder: Path) -> list[object]:
        return ["train", recipe, "--output-dir", folder / "run"]

    assert full(disk, SIZES[3:4], words, tmp_path / "said.txt") == 1
    assert said_of(disk(64_000) / "run") == expected


@pytest.fixture
def commands(unkilled, finished_run, encoders, places, tmp_path) -> dict[str, Callable[[Path], list[object]]]:
    """Command → its words, given the folder that it writes to."""
    task, recipe, table = unkilled[0], tmp_path / "recipe.yaml", places.with_name("places.csv")
    recipe.write_text(yaml.safe_dump(OPTIONS | {"task": str(task)}), encoding="utf-8")
    stock = ["--head", "cat2", "--as", "sequence-classification"]

    def text_run() -> Path:
        text = {"text_encoder": encoders["text_encoder"], "text_config": None, "text_pooling": "cls"}
        if not (tmp_path / "text").exists():
            train(str(task), tmp_path / "text", OPTIONS | text)
        return tmp_path / "text"

    def folds() -> Path:
        if not (tmp_path / "folds").exists():
            train_folds(str(task), tmp_path / "folds", 2, overrides=OPTIONS)
        return tmp_path / "folds"

    def twin() -> Path:
        return Path(shutil.copytree(finished_run, tmp_path / "twin", dirs_exist_ok=True))

    return {
        "train": lambda folder: ["train", recipe, "--output-dir", folder / "run"],
        "predict": lambda folder: ["predict", finished_run, table, folder / "out.parquet"],
        "evaluate": lambda folder: ["evaluate", finished_run, "--data", table, "--output-dir", folder / "report"],
        "export": lambda folder: ["export", text_run(), folder / "stock", *stock],
        "ensemble": lambda folder: ["ensemble", finished_run, twin(), "--output-dir", folder / "both"],
        "audit": lambda folder: ["audit", folds(), "--output-dir", folder / "audit"],
        "explain": lambda folder: ["explain", finished_run, "--text", "바다", "--output", folder / "why.html"],
        "hashtags": lambda folder: ["hashtags", finished_run, table, folder / "tags.csv", "--keywords", "0"],
        "profile": lambda folder: ["data", "profile", task, "--output", folder / "profile.html"],
        "ladder": lambda folder: ["ladder", task, "--recipes", f"tfidf,{recipe}", "--output-dir", folder / "ladder"],
        "search": lambda folder: ["search", recipe, "--trials", "1", "--output-dir", folder / "search"],
        "distill": lambda folder: [
            "distill", finished_run, "--student", recipe, "--output-dir", folder / "student", "use_cpu=true"],
        "tokenizer": lambda folder: ["tokenizer", task, "--vocab-size", "300", "--output-dir", folder / "tokenizer"],
    }  # fmt: skip


@pytest.mark.trust
@pytest.mark.parametrize("name", [
    "train", "predict", "evaluate", "export", "ensemble", "audit", "explain", "hashtags", "profile", "ladder", "search",
    "distill", "tokenizer",
])  # fmt: skip
def test_every_command_on_a_full_disk_is_one_sentence(name, commands, unkilled, disk, tmp_path):
    small = name in ("predict", "evaluate", "audit", "explain", "hashtags", "profile", "tokenizer")
    sizes = [4, 8, 16, 48, 120] if small else SIZES if name == "train" else [16, 120, 420]
    assert full(disk, sizes, commands[name], tmp_path / "said.txt") >= 1
    if name == "train":
        assert said_of(disk(64_000) / "run") == unkilled[1]


def test_a_full_disk_ends_no_training_for_a_push(tmp_path, monkeypatch, caplog):
    """What is to be pushed is linked into a folder first; where that can't be, a warning says so."""
    (tmp_path / "run" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-2" / "config.json").write_text("{}")
    args = SimpleNamespace(output_dir=str(tmp_path / "run"), hub_strategy=HubStrategy.CHECKPOINT, hub_always_push=False)
    handler = SimpleNamespace(on_push_begin=lambda *_: None)
    trainer = SimpleNamespace(args=args, state=None, control=None, push_in_progress=None, callback_handler=handler,
                              is_world_process_zero=lambda: True, hub_model_id="me/run")  # fmt: skip
    monkeypatch.setattr("hfk.hub.training_checkpoints._link", lambda *_: no_room())
    with caplog.at_level("WARNING", logger="transformers"):
        push_checkpoint(trainer, tmp_path / "run" / "checkpoint-2")
    assert not (tmp_path / "run" / "_push").exists()


def test_every_writer_says_that_the_disk_is_full_in_its_own_way(disk, tmp_path):
    """And each is understood: Python, PyTorch, safetensors, tokenizers, Arrow."""
    folder = disk(16)
    tokenizer = tiny.tokenizer()
    (folder / "filler").write_bytes(b"x" * 8192)
    large = torch.zeros(100_000)
    writers = {
        "python": lambda: (folder / "a").write_bytes(b"x" * 100_000),
        "torch": lambda: torch.save(large, folder / "b"),
        "safetensors": lambda: save_file({"x": large}, folder / "c"),
        "tokenizers": lambda: tokenizer.backend_tokenizer.save(str(folder / "d")),
        "arrow": lambda: pq.write_table(pa.table({"x": torch.rand(100_000).numpy()}), folder / "e"),
    }
    for name, write in writers.items():
        with pytest.raises(Exception) as caught:  # noqa: PT011  (each library has its own)
            write()
        assert out_of_room(caught.value), (name, caught.value)
