"""How well heads that learned from written overviews carry over: to sentences they have not seen, and to real places.

`scripts/tour_phrases.txt` has several sentences a category. Heads that learned from every other one of them are scored
on overviews made of the others, and by that the penalty and the weights of the levels are chosen; real places, whose
labels are guessed from their names, are answered by what was chosen, and by what was not, to show the tries.

Run: python benchmarks/tourism.py choose
     python benchmarks/tourism.py places ../shared/data/tour/places.csv.gz
"""

from __future__ import annotations

import csv
import gzip
import random
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from make_space_checkpoints import OVERVIEWS, PRIOR  # noqa: E402
from sample_overviews import read_phrases, write_overview, write_overviews  # noqa: E402

from hfk import HeadConfig, MultiHeadForClassification, MultiHeadProcessor, Predictor  # noqa: E402
from hfk.backbones.registry import resolve  # noqa: E402
from hfk.models.problems import HeadLoss  # noqa: E402
from hfk.tasks.tour import LEVELS, tour_tree  # noqa: E402
from hfk.training.techniques.fitted_heads import fit_head  # noqa: E402

PENALTIES, WEIGHTS, PRIORS = (0.03, 0.1, 0.3, 1.0), (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0)
PLACES = 2500
TREE = tour_tree()
NAMES = {level: sorted({row[place] for row in TREE}) for place, level in enumerate(LEVELS)}
LEAVES = NAMES["cat3"]
ABOVE = {row[2]: dict(zip(LEVELS, row[:3], strict=True)) for row in TREE}


def embed(texts: list[str]) -> torch.Tensor:
    """What the packaged E5 makes of texts, 256 pieces of each."""
    folder = resolve("e5-small-ko")
    model = MultiHeadForClassification.from_encoders(folder, heads=[HeadConfig("none", ["a", "b"])])
    processor = MultiHeadProcessor.from_encoders(folder, max_length=256, text_prefix="query: ")
    predictor = Predictor(model, processor, autocast=torch.bfloat16)
    return torch.from_numpy(np.stack([o.embedding for o in predictor.outputs([{"text": t} for t in texts], True)]))


def half(place: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Overviews of every other sentence."""
    phrases = {
        name: replace(own, sentences=own.sentences[place::2], what=own.what[place::2] or own.what)
        for name, own in read_phrases().items()
    }
    draw = random.Random(seed)
    return [
        (write_overview(draw, own, [other for name, other in phrases.items() if name != cat3]), cat3)
        for _ in range(count)
        for cat3, own in phrases.items()
    ]


def levels(features: torch.Tensor, cats: list[str], asked: torch.Tensor, penalty: float) -> dict[str, torch.Tensor]:
    """Log-probabilities of each level for `asked`, by heads fitted to `features` and their categories."""
    said = {}
    for level, names in NAMES.items():
        labels = torch.tensor([names.index(ABOVE[cat][level]) for cat in cats])
        loss = partial(HeadConfig(level, names).rules.loss, options=HeadLoss())
        weight, bias, _ = fit_head(features, labels, len(names), loss, penalty=penalty)
        said[level] = (asked @ weight.T + bias).log_softmax(-1)
    return said


def answers(said: dict[str, torch.Tensor], weight: float, prior: float = 0.0) -> list[str]:
    """The likeliest paths' last labels; `weight` is that of the levels above, `prior` the power of the frequencies."""
    counts = {row[2]: row[3] for row in TREE}
    shares = torch.tensor([counts[leaf] for leaf in LEAVES]).float()
    total = (said["cat3"] + prior * (shares / shares.sum()).log()).log_softmax(-1)
    for level in LEVELS[:2]:
        total = total + weight * said[level][:, [NAMES[level].index(ABOVE[leaf][level]) for leaf in LEAVES]]
    return [LEAVES[place] for place in total.argmax(1).tolist()]


def right(made: list[str], true: list[dict[str, str]]) -> str:
    """Accuracy by level."""
    return "  ".join(
        f"{level} {np.mean([ABOVE[one][level] == row[level] for one, row in zip(made, true, strict=True)]):.3f}"
        for level in LEVELS
    )


def main() -> None:
    if sys.argv[1] == "choose":
        learned, asked = half(0, 12, 1), half(1, 5, 2)
        one, other = embed([text for text, _ in learned]), embed([text for text, _ in asked])
        for penalty in PENALTIES:
            said = levels(one, [cat for _, cat in learned], other, penalty)
            for weight in WEIGHTS:
                made = answers(said, weight)
                print(f"penalty {penalty:<5} weight {weight}: {right(made, [ABOVE[cat] for _, cat in asked])}")
        return
    with gzip.open(sys.argv[2], "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["weak_cat3"]]
    rows = random.Random(42).sample(rows, PLACES)
    true = [{level: row[f"weak_{level}"] for level in LEVELS} for row in rows]
    learned = list(write_overviews(OVERVIEWS, 3))
    one, other = embed([text for text, _ in learned]), embed([row["overview"] for row in rows])
    said = levels(one, [cat for _, cat in learned], other, 0.1)
    for prior in PRIORS:
        chosen = "  (chosen)" if prior == PRIOR else ""
        print(f"prior {prior:<4}: {right(answers(said, 0.5, prior), true)}{chosen}")


if __name__ == "__main__":
    main()
