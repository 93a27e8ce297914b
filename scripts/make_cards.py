"""Write the model cards of this repository, each into a folder of its own under model_cards/.

    python scripts/make_cards.py                                # all of them again, from the files they are made of
    python scripts/make_cards.py runs/ynat                      # of a run, in place of the one there
    python scripts/make_cards.py fashion_items-both=runs/both   # under another name than the task's

Neither weights nor data are needed for the first; see `hfk.runs.card.keep_card`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hfk.runs.card import keep_card

CARDS = Path(__file__).resolve().parents[1] / "model_cards"


def main(words: list[str]) -> None:
    pairs = [tuple(word.split("=", 1)) if "=" in word else (task_name(Path(word)), word) for word in words]
    pairs = pairs or [(folder.name, str(folder)) for folder in sorted(CARDS.iterdir()) if folder.is_dir()]
    for name, run in pairs:
        path = keep_card(run, CARDS / name)
        pictures = sum(file.stat().st_size for file in path.parent.rglob("*.png"))
        print(f"wrote {path}: pictures {pictures / 1024:.0f} KiB")


def task_name(run: Path) -> str:
    try:
        return json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))["extra"]["task"]
    except (OSError, KeyError):
        sys.exit(f"{run} has no report of a training run; name the card: NAME={run}")


if __name__ == "__main__":
    main(sys.argv[1:])
