"""`Translations`: what several ways made of some texts, beside what they should have become; its scores and report.

What `Predictions` and `report` are to classifiers. Every way is scored alike, by direction, on all rows and on those
whose sides differ: copying a text scores high wherever a dialect is near the standard language.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from ..files import replacing, write_atomic
from .modules.translation_scores import translation_scores
from .pages import render

SCORES = {
    "bleu": "BLEU", "chrf": "chrF", "exact": "exact", "wer": "word errors", "edits_right": "changed right",
    "edits_wrong": "wrongly changed", "target": "target dialect",
}  # fmt: skip
SHOWN = 20
"""Texts that a report shows, drawn at random."""


@dataclass
class Translations:
    """What became of some texts.

    Args:
        ids: one a text.
        sources: the region that each is in, or `standard`.
        to: what each should become.
        texts: the texts.
        references: what they should have become.
        made: way (`copy`, `rules`, `model`) → what they became.
        judge: says which region texts are of; for the share of outputs that are in the target dialect.
    """

    ids: Sequence[str]
    sources: Sequence[str]
    to: Sequence[str]
    texts: Sequence[str]
    references: Sequence[str]
    made: dict[str, Sequence[str]]
    judge: Callable[[Sequence[str]], Sequence[str]] | None = None
    heads: ClassVar[tuple] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def directions(self) -> list[tuple[str, str]]:
        """The pairs (source, to) that there are."""
        return sorted(set(zip(self.sources, self.to, strict=True)))

    def save(self, path: str | Path) -> None:
        """Write one Parquet file: a row a text, a column a way."""
        columns = {name: list(getattr(self, name)) for name in ("ids", "sources", "to", "texts", "references")}
        with replacing(path) as part:
            pq.write_table(pa.table(columns | {f"made_{way}": list(made) for way, made in self.made.items()}), part)

    def scores(self) -> list[dict[str, Any]]:
        """Score every way and direction, on `all` rows and on those that are `differing`."""
        lines = []
        for source, to in self.directions:
            there = [row for row in range(len(self)) if (self.sources[row], self.to[row]) == (source, to)]
            differing = [row for row in there if self.texts[row] != self.references[row]]
            parts = {"all": there} | ({"differing": differing} if 0 < len(differing) < len(there) else {})
            for part, rows in parts.items():
                texts, references = ([column[row] for row in rows] for column in (self.texts, self.references))
                for way, made in self.made.items():
                    said = [made[row] for row in rows]
                    found = translation_scores(texts, said, references)
                    if self.judge is not None:
                        found["target"] = 100 * sum(label == to for label in self.judge(said)) / len(said)
                    about = {"from": source, "to": to, "rows": len(rows), "part": part, "way": way}
                    lines.append(about | {name: round(value, 2) for name, value in found.items()})
        return lines


def fit_judge(texts: Sequence[str], labels: Sequence[str]) -> Callable[[Sequence[str]], Sequence[str]]:
    """Train a linear SVM on 1- to 4-grams of letters to say which region texts are of."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    return make_pipeline(vectorizer, LinearSVC(class_weight="balanced")).fit(list(texts), list(labels)).predict


def write_translation_report(
    folder: str | Path, said: Translations, facts: dict[str, Any], log: Sequence[dict[str, Any]] = (), **_: Any
) -> dict[str, Any]:
    """Score what was said and write the report folder; as `report.write_report` does for classifiers.

    Returns:
        What `metrics.json` holds: `scores` (`way source→to score` → number), `translations`, a line a way, direction
        and part, `counts`, and the facts as `extra`.
    """
    lines = said.scores()
    scores = {
        f"{line['way']} {line['from']}→{line['to']} {name}": line[name]
        for line in lines if line["part"] == "all" for name in SCORES if name in line
    }  # fmt: skip
    results = {"scores": scores, "translations": lines, "counts": {"rows": len(said)}, "heads": [], "extra": facts}
    results = json.loads(json.dumps(results, default=str))
    shown = random.Random(0).sample(range(len(said)), min(SHOWN, len(said)))
    examples = [
        {"text": said.texts[row], "reference": said.references[row], "to": said.to[row]}
        | {"made": {way: made[row] for way, made in said.made.items() if way != "copy"}}
        for row in shown
    ]
    page = render(
        "translation.html",
        title=str(facts.get("title", "Translation")), table=translation_table(results), examples=examples, facts=facts,
        log=[(entry["epoch"], entry["loss"]) for entry in log if "loss" in entry],
    )  # fmt: skip
    write_atomic(Path(folder) / "metrics.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
    write_atomic(Path(folder) / "report.html", page)
    return results


def translation_table(results: dict[str, Any]) -> list[list[str]]:
    """Lay the scores out as lines of cells, the header first."""
    lines = results["translations"]
    columns = {name: title for name, title in SCORES.items() if any(name in line for line in lines)}
    table = [["direction", "rows", "by", *columns.values()]]
    for line in lines:
        rows = f"{line['rows']:,}" + (" differing" if line["part"] == "differing" else "")
        numbers = [f"{line[name]:.1f}" if name in line else "–" for name in columns]
        table.append([f"{line['from']} → {line['to']}", rows, line["way"], *numbers])
    return table
