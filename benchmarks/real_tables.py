"""Real tables and folders, as they come, through `hfk init`, `train`, `predict`, `evaluate`; nobody edits the YAML.

`hfk init` looks at the whole set and its heads are held against what a person would choose (`SETS`, which is our own
judgment). Training takes 300 rows and one epoch; predicted and evaluated are 150 rows (or ten pictures a class) that
keep their order. It shows that the pieces fit, not how good such a model is. Prints the table of `real_tables.md`.

    python benchmarks/real_tables.py --output-dir runs/real
    python benchmarks/real_tables.py trash dialect --output-dir runs/real
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import yaml

from hfk import cli
from hfk.tasks.table_writer import TableWriter
from hfk.tasks.tables import read_table


class Set(NamedTuple):
    """A table or folder, and what a person would say of it: inputs, and heads with what they are under."""

    path: str
    inputs: str
    heads: str


SETS = {
    "ynat": Set("ynat/train.csv", "title", "topic_idx"),
    "intent_3i4k": Set("intent_3i4k/train.csv", "text", "label"),
    "korean_hate_speech": Set(
        "korean_hate_speech/train.csv", "comments news_title", "contain_gender_bias bias<contain_gender_bias hate"
    ),
    "fashion_items": Set(
        "fashion_items/items.csv", "form material color image", "slot_name category_name<slot_name emotion"
    ),
    "fashion_products": Set(
        "fashion_products/products.csv",
        "product_name image",
        "gender master_category sub_category<master_category article_type<sub_category base_colour season usage",
    ),
    "tour": Set(
        "tour/places.csv.gz",
        "place overview",
        "content_type weak_cat1 weak_cat2<weak_cat1 weak_cat3<weak_cat2 tags",
    ),
    "dialect": Set("dialect/aihub_utterances.tsv", "dialect standard", "region"),
    "dialect, offensive": Set("dialect/gs_kold_gyeongsang_synthetic_sentences.tsv", "dialect standard", "target"),
    "dialect, Jeju": Set("dialect/jit_jeju_sentences.tsv", "dialect standard", ""),
    "fashion_how, 1": Set(
        "fashion_how/info_etri20_emotion_test_sample.csv", "image_name", "Daily Gender Embellishment"
    ),
    "fashion_how, 2": Set("fashion_how/Fashion-How24_sub2_train.csv", "image_name", "Color"),
    "clothing": Set("clothing", "image", "label"),
    "trash": Set("trash", "image", "label"),
}
TRAINING = [
    *(
        "text_encoder=ngram",
        "text_pooling=cls",
        "vision_encoder=efficientnet-lite0",
        "image_size=64",
        "standardize_rows=0",
    ),
    *("num_train_epochs=1", "max_train_rows=300", "bf16=false", "disable_tqdm=true"),
]


def run(*command: str | Path) -> tuple[int, str]:
    """Run a command of hfk; its exit code and what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main([*map(str, command)])
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def decided(task: dict) -> tuple[str, str, list[str]]:
    """The inputs, the id and the heads of a task's YAML, as `SETS` writes them."""
    text = task.get("text") or []
    inputs = [text] if isinstance(text, str) else list(text)
    inputs += [task.get("image") or ("image" if not inputs else None)]
    heads = [head["name"] + (f"<{head['parent']}" if head.get("parent") else "") for head in task["heads"]]
    return " ".join(filter(None, inputs)), task.get("id", ""), heads


def sample_of(path: Path, folder: Path) -> tuple[Path, int]:
    """Some rows of a set, in order, and how many."""
    if path.is_dir():
        classes = sorted(child for child in (path / "validation" if (path / "validation").is_dir() else path).iterdir())
        number = 0
        for one in filter(Path.is_dir, classes):
            (folder / one.name).mkdir(parents=True)
            for picture in sorted(one.iterdir())[:10]:
                (folder / one.name / picture.name).symlink_to(picture.resolve())
                number += 1
        return folder, number
    table = read_table(path)
    rows = table.iloc[:: max(1, len(table) // 150)][:150]
    folder.mkdir(parents=True)
    with TableWriter(folder / "sample.csv") as writer:
        writer.write(rows)
    return folder / "sample.csv", len(rows)


def sample_has_pictures(path: Path) -> bool:
    """Whether a table's pictures lie beside it."""
    return path.is_file() and (path.parent / "images").is_dir()


def whole_way(name: str, data: Path, folder: Path) -> str:
    """Take a set the whole way; a line of the table."""
    wanted, path = SETS[name], data / SETS[name].path
    folder.mkdir(parents=True, exist_ok=True)
    code, said = run("init", path, "--output", folder / "task.yaml", "--force")
    (folder / "said.txt").write_text(said, encoding="utf-8")
    if code:
        return f"| {name} | {path.name} | – | {said.strip().splitlines()[-1]} | {'no' if wanted.heads else '–'} | – |"
    text = (folder / "task.yaml").read_text(encoding="utf-8")
    task = yaml.safe_load(text)
    inputs, identity, heads = decided(task)
    agreed = sorted(inputs.split()) == sorted(wanted.inputs.split()) and sorted(heads) == sorted(wanted.heads.split())
    rows = text.partition("(")[2].partition(" ")[0]
    told, image = [], ["--image-dir", path.parent] if sample_has_pictures(path) else []
    sample, number = sample_of(path, folder / "sample")
    for command in (
        ("train", folder / "task.yaml", "--output-dir", folder / "run", "--fresh", *TRAINING),
        ("predict", folder / "run", sample, folder / "out.csv", *image),
        ("evaluate", folder / "run", "--data", sample, "--output-dir", folder / "report", *image),
    ):
        code, said = run(*command)
        with (folder / "said.txt").open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n{said}")
        if code:
            told.append(f"{command[0]}: {said.strip().splitlines()[-1][:120]}…")
            break
    if not told:
        out = read_table(folder / "out.csv")
        told.append(f"{len(out)} of {number} rows")
        if sample.is_file():
            before = read_table(sample)
            column = before.columns[0]
            told += ["in order" if out[column].tolist() == before[column].tolist() else "IN ANOTHER ORDER"]
    shown = f"{inputs}{'; id ' + identity if identity and identity != 'file' else ''} | {', '.join(heads)}"
    return f"| {name} | {rows} | {shown} | {'yes' if agreed else 'no'} | {', '.join(told)} |"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=[*SETS], help=f"of {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output-dir", type=Path, default=Path("runs/real"))
    arguments = parser.parse_args()
    os.environ.setdefault("HF_DATASETS_CACHE", str(arguments.output_dir / "cache"))
    warnings.simplefilter("always")
    print("| set | rows | input | heads | as a person would | predicted |\n|---|---|---|---|---|---|")
    numbers = itertools.count(1)
    for name in arguments.sets:
        if not (arguments.data / SETS[name].path).exists():
            print(f"| {name} | skipped: there is no {SETS[name].path} below {arguments.data} | | | | |", flush=True)
            continue
        print(whole_way(name, arguments.data, arguments.output_dir / f"{next(numbers):02}"), flush=True)


if __name__ == "__main__":
    main()
