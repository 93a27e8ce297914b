"""Speed of answers beside what one would otherwise run, on the same rows, in turns.

    python benchmarks/inference.py encoder runs/ynat titles.csv --text title --rows 500 --graphs onnx int8 openvino
    python benchmarks/inference.py ngram runs/ynat-ngram train.csv --text title --label topic_idx
    python benchmarks/inference.py heads
    python benchmarks/inference.py start runs/ynat-ngram-onnx

`encoder`: the pipeline of transformers, 32 rows a batch, against `Predictor` on the checkpoint and on its graphs, the
folders beside it whose names end as `--graphs` says; and one sentence at a time. `ngram`: scikit-learn's TF-IDF and
LinearSVC with the same n-grams, fitted on the rows that are not scored. `heads`: one model of three heads against three
of one. `start`: a new process, from its start to the first answer.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from side_by_side import compare, machine, write

ROOT = Path(__file__).resolve().parents[1]


def labels(answers: Iterable[dict[str, Any]]) -> list[str]:
    """The first head's labels alone, else the garbage collector walks through every way's answers again and again."""
    return [next(iter(answer.values()))[0]["label"] for answer in answers]


def encoder(args: argparse.Namespace) -> None:
    """A transformer: whole batches, then sentence by sentence."""
    import torch
    from transformers import pipeline

    from hfk import Predictor
    from hfk.tasks.tables import read_table

    rows = [str(text) for text in read_table(args.table)[args.text][: args.rows]]
    classify = pipeline("multi-head-classification", model=args.checkpoint)
    predictors = {
        "Predictor, float32": Predictor.from_pretrained(args.checkpoint, batch_size=32),
        "Predictor, bfloat16": Predictor.from_pretrained(args.checkpoint, dtype="bfloat16", batch_size=32),
    }
    for name in args.graphs:
        for backend, dtype in (("onnx", "auto"), ("openvino", "auto"), ("openvino", "bfloat16")):
            title = f"{name} by {backend}" + ", bfloat16" * (dtype != "auto")
            predictors[title] = Predictor.from_pretrained(
                f"{args.checkpoint}-{name}", dtype=dtype, batch_size=32, backend=backend
            )
    facts = machine() | {"checkpoint": Path(args.checkpoint).name, "rows": len(rows), "batch": 32,
                         "threads": torch.get_num_threads(), "max_length": classify.processor.max_length}  # fmt: skip
    ways: dict[str, Callable[[], list[str]]] = {
        "pipeline, 32 rows a batch": lambda: labels(classify(rows, batch_size=32))
    }
    ways |= {name: lambda own=own: labels(own(rows)) for name, own in predictors.items()}
    write(args.output / "encoder", "E5 on headlines", compare(ways, len(rows), args.rounds), facts, "rows")
    few = rows[:16]
    ways = {"pipeline": lambda: labels(classify(row) for row in few)}
    ways |= {name: lambda own=own: labels(next(iter(own([row]))) for row in few) for name, own in predictors.items()}
    results = compare(ways, len(few), args.rounds)
    write(args.output / "encoder_single", "E5, one headline at a time", results, facts | {"batch": 1}, "rows")


def ngram(args: argparse.Namespace) -> None:
    """The n-gram encoder against the same features in scikit-learn."""
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    from hfk import Predictor
    from hfk.tasks.tables import read_table

    table = read_table(args.table)
    pairs = list(zip(map(str, table[args.text]), map(str, table[args.label]), strict=True))
    random.Random(0).shuffle(pairs)
    rows, rest = [text for text, _ in pairs[: args.rows]], pairs[args.rows :]
    letters, again = (TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True) for _ in range(2))
    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    svm, alone = make_pipeline(make_union(letters, words), LinearSVC()), make_pipeline(again, LinearSVC())
    for model in (svm, alone):
        model.fit(*zip(*rest, strict=True))
    predictor = Predictor.from_pretrained(args.checkpoint)
    small = Predictor(predictor.model, predictor.processor, 32)
    names = predictor.model.config.heads[0].labels
    named = {label for _, label in pairs}

    def codes(model: Predictor) -> list[str]:
        """Labels as the table writes them: names, or places in the sorted list of names."""
        return [label if label in named else str(names.index(label)) for label in labels(model(rows))]

    ways: dict[str, Callable[[], list[str]]] = {
        "TF-IDF of letters and words + LinearSVC": lambda: svm.predict(rows).tolist(),
        "TF-IDF of letters + LinearSVC": lambda: alone.predict(rows).tolist(),
        "Predictor": lambda: codes(predictor),
        "Predictor, batches of 32": lambda: codes(small),
    }
    facts = machine() | {"rows": len(rows), "batch": predictor.batch_size, "threads": predictor.threads,
                         "torch_threads": torch.get_num_threads()}  # fmt: skip
    results = compare(ways, len(rows), args.rounds)
    write(args.output / "ngram", "n-grams on headlines", results, facts, "rows")


def heads(args: argparse.Namespace) -> None:
    """Three heads on one encoder of e5-small's size against three models of one head; weights drawn by chance."""
    import torch
    from transformers import BertConfig

    from hfk import HeadConfig, MultiHeadConfig, MultiHeadForClassification

    sizes = {"vocab_size": 16000, "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12}
    shape = BertConfig(**sizes, intermediate_size=1536)
    made = [HeadConfig(f"head{number}", [f"label{index}" for index in range(10)]) for number in range(3)]
    one = MultiHeadForClassification(MultiHeadConfig(text_config=shape, heads=made)).eval()
    three = [MultiHeadForClassification(MultiHeadConfig(text_config=shape, heads=[head])).eval() for head in made]
    batch = {"input_ids": torch.randint(5, 16000, (32, 24)), "attention_mask": torch.ones(32, 24, dtype=torch.long)}

    @torch.inference_mode()
    def run(models: list[Any]) -> list[int]:
        for model in models * 4:
            model(**batch)
        return []

    def same(models: list[Any]) -> Callable[[], list[int]]:
        return lambda: run(models) or [0]

    facts = machine() | {"rows": 128, "batch": 32, "tokens": 24, "threads": torch.get_num_threads()}
    results = compare(
        {"three models of one head": same(three), "one model of three heads": same([one])}, 128, args.rounds
    )
    write(args.output / "heads", "Three label columns", results, facts, "rows")


def start(args: argparse.Namespace) -> None:
    """From the start of a process to its first answer; the graph without torch, the pipeline with it."""
    text = "코스피 사상 최고치 경신"
    light = f"from hfk import LightPredictor; print(list(LightPredictor({args.checkpoint!r})([{text!r}])))"
    whole = f"from hfk import Predictor; print(list(Predictor.from_pretrained({args.checkpoint!r})([{text!r}])))"
    commands = {"Predictor on the graph (with torch)": whole, "LightPredictor (without)": light}

    def answer(code: str) -> list[str]:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
        return ["answered"]

    ways = {name: lambda code=code: answer(code) for name, code in commands.items()}
    results = compare(ways, 1, args.rounds)
    for name, found in results.items():
        print(f"{name}: {1 / found['per_second']:.2f} s ({1 / found['spread'][1]:.2f} at best)")
    write(args.output / "start", "First answer of a new process", results, machine(), "starts")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encoder", "ngram", "heads", "start"))
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("table", nargs="?")
    parser.add_argument("--text", default="text", help="the text column")
    parser.add_argument("--label", default="label", help="the label column")
    parser.add_argument("--rows", type=int, default=9131)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", nargs="*", default=[], metavar="NAME", help="folders CHECKPOINT-NAME")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="folder")
    args = parser.parse_args()
    began = time.perf_counter()
    {"encoder": encoder, "ngram": ngram, "heads": heads, "start": start}[args.what](args)
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
