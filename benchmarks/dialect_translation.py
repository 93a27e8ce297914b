"""Translation of dialect on real rows: the parts of benchmarks/dialect.md, and translators scored on them.

python benchmarks/dialect_translation.py split ../shared/data/dialect runs/translation-rows
python benchmarks/dialect_translation.py rules runs/translation-rows/choose --on validation
python benchmarks/dialect_translation.py rules runs/translation-rows/final
hfk train dialect-translation data=runs/translation-rows/choose --output-dir runs/dialect-translation
python benchmarks/dialect_translation.py score runs/translation-rows/final runs/dialect-translation --samples 20

`choose` has a tenth for validation and none for the test; `final` has the test's tenth, and trains on all others. `few`
is the regions with few sentences, and word lists to learn from. Needs sacrebleu.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections import defaultdict
from pathlib import Path

from datasets import Dataset, DatasetDict
from dialect import TALK, WORDS

from hfk.evaluation.report import aligned
from hfk.evaluation.translation import Translations, fit_judge, translation_table
from hfk.inference.translator import load_translator
from hfk.models.dialect_translator import WAYS, DialectTranslator
from hfk.tasks import load_task
from hfk.tasks.dialect import STANDARD, Pair, read_pairs

CHUNGCHEONG, MIXED, JIT = (
    "blessingdev_chungcheong_sentences.tsv",
    "jipyeong_mixed_sentences.tsv",
    "jit_jeju_sentences.tsv",
)


def part_of(pair: Pair) -> str:
    """Which part a pair is in, by a hash of both sides: a tenth is the test, another one may choose."""
    digit = hashlib.blake2b(f"{pair.dialect}\t{pair.standard}".encode(), digest_size=4).digest()[0] % 10
    return {0: "test", 1: "validation"}.get(digit, "train")


def split(data: Path, folder: Path) -> None:
    """Divide the pairs and write them as three sets of tables."""
    parts: dict[str, list[Pair]] = defaultdict(list)
    for file in (CHUNGCHEONG, MIXED):
        for pair in read_pairs(data / file):
            parts[part_of(pair)].append(pair)
    _save(folder / "choose", {name: parts[name] for name in ("train", "validation")})
    _save(folder / "final", {"train": parts["train"] + parts["validation"], "test": parts["test"]})
    few: dict[str, list[Pair]] = defaultdict(list)
    for pair in read_pairs(data / JIT):
        few[part_of(pair).replace("validation", "train")].append(pair)
    talks: dict[str, list[Pair]] = defaultdict(list)
    for pair in read_pairs(data / TALK):
        talks[pair.conversation].append(pair)
    for pairs in talks.values():  # the last 30 % of each conversation, as for detection
        few["train"] += pairs[: int(0.7 * len(pairs))]
        few["test"] += pairs[int(0.7 * len(pairs)) :]
    _save(folder / "few-alone", few)
    for file in WORDS:
        few["train"] += list(read_pairs(data / file))
    _save(folder / "few", few)


def _save(folder: Path, parts: dict[str, list[Pair]]) -> None:
    names = ("region", "dialect", "standard", "id", "conversation")
    tables = {
        part: Dataset.from_dict({name: [getattr(pair, name) for pair in pairs] for name in names})
        for part, pairs in parts.items()
    }
    print(folder.name, {part: len(table) for part, table in tables.items()})
    DatasetDict(tables).save_to_disk(folder)


def score(folder: Path, part: str, samples: int, run: Path | None = None) -> None:
    """Score rules that are learned from the train part, or all that a trained run has."""
    rows = load_task("dialect-translation", data=folder).load()
    learned, scored = rows["train"], rows[part]
    start = time.process_time()
    if run is None:
        into = learned.filter(lambda row: row["to"] == STANDARD)
        translator = DialectTranslator.learn(zip(into["source"], into["text"], into["target"], strict=True))
        print(f"learned from {len(into)} pairs in {time.process_time() - start:.0f} s", flush=True)
    else:
        translator = load_translator(run)
    columns = [scored[name][:] for name in ("id", "source", "to", "text", "target")]
    made = {"copy": columns[3]}
    for way in WAYS if run else WAYS[:1]:
        start = time.process_time()
        made[way] = translator.rewrite(columns[3], columns[1], columns[2], way)
        print(f"by {way}: {len(scored) / (time.process_time() - start):,.0f} sentences/s, the source known", flush=True)
    sentences = learned.filter(lambda row: " " in row["text"])
    judge = fit_judge([*sentences["text"], *sentences["target"]], [*sentences["source"], *sentences["to"]])
    said = Translations(*columns, made, judge)
    print(aligned(translation_table({"translations": said.scores()})))
    for row in random.Random(0).sample(range(len(said)), samples):
        answer, reference = made[translator.way][row], said.references[row]
        print(f"- {said.texts[row]} → {answer} ({'the same' if answer == reference else reference})")
    differing = [row for row in range(len(said)) if said.texts[row] != said.references[row]]
    sources = [said.sources[row] for row in differing]
    found = [translator.detect(said.texts[row]) for row in differing]
    print(f"source found: {sum(map(str.__eq__, sources, found)) / len(found):.3f} of {len(found)} differing texts")
    speed(translator, scored)
    size = len(translator.to_json().encode())
    print(f"{size / 1e6:.1f} MB of JSON")


def speed(translator: DialectTranslator, rows: Dataset) -> None:
    """Print how fast texts are translated whose source is to be found out, in seconds of this process."""
    for to in translator.regions:
        texts = [row["text"] for row in rows if row["to"] == to]
        start = time.process_time()
        list(translator(texts, to))
        print(f"to {to}, source found out: {len(texts) / (time.process_time() - start):,.0f} sentences/s")
    start = time.process_time()
    next(translator([texts[0]], STANDARD))
    print(f"one sentence: {1000 * (time.process_time() - start):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["split", "rules", "score"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--on", default="test", help="the part that is scored")
    parser.add_argument("--samples", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "split":
        split(*arguments.folders)
    else:
        run = arguments.folders[1] if arguments.what == "score" else None
        score(arguments.folders[0], arguments.on, arguments.samples, run)


if __name__ == "__main__":
    main()
