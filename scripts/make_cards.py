"""Write the model cards of this repository, each into a folder of its own under model_cards/.

    python scripts/make_cards.py                                # all of them again, from the files they are made of
    python scripts/make_cards.py runs/ynat                      # of a run, in place of the one there
    python scripts/make_cards.py fashion_items-both=runs/both   # under another name than the task's

Neither weights nor data are needed for the first.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from PIL import Image

from hfk.runs.card import CardRun, pictures_of, recipe_yaml, write_card

CARDS = Path(__file__).resolve().parents[1] / "model_cards"
EVIDENCE = (
    "config.json", "processor_config.json", "recipe.yaml", "task.json", "report/metrics.json", "report/per_class.csv",
    "report/ladder.md",
)  # fmt: skip


def main(words: list[str]) -> None:
    pairs = [tuple(word.split("=", 1)) if "=" in word else (task_name(Path(word)), word) for word in words]
    pairs = pairs or [(folder.name, str(folder)) for folder in sorted(CARDS.iterdir()) if folder.is_dir()]
    for name, run in pairs:
        path = keep_card(run, CARDS / name)
        pictures = sum(file.stat().st_size for file in path.parent.rglob("*.png"))
        print(f"wrote {path}: pictures {pictures / 1024:.0f} KiB")


def keep_card(run: str | Path, target: str | Path) -> Path:
    """Set a run's card apart from its weights: the files it is made from, its pictures in few colors, and README.md.

    Args:
        run: a finished run, or a folder that this function has filled before: then only the card is written anew.
        target: the folder to fill, such as `model_cards/ynat`.

    Returns:
        the path of the README.md.

    Raises:
        ValueError: as for `write_card`; if the run has no report: nothing was measured; if `target` is a checkpoint.
    """
    run, target = Path(run), Path(target)
    read = CardRun(run)
    if not read.results:
        raise ValueError(f"{run.name} has no report/metrics.json: train or evaluate it first.")
    if run.resolve() != target.resolve():
        if list(target.glob("*.safetensors")):  # its report would be replaced by another run's
            raise ValueError(f"{target} holds a checkpoint; name a folder of its own for the card.")
        shutil.rmtree(target / "report", ignore_errors=True)
        (target / "report").mkdir(parents=True)
        for name in EVIDENCE:
            if (run / name).is_file() and name != "recipe.yaml":
                shutil.copyfile(run / name, target / name)
        (target / "recipe.yaml").write_text(recipe_yaml(read.recipe), encoding="utf-8")
        for picture in [path for _, drawn in pictures_of(read) for _, path in drawn]:
            with Image.open(run / picture) as image:
                few = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
                few.save(target / picture, optimize=True)
    return write_card(target)


def task_name(run: Path) -> str:
    try:
        return json.loads((run / "report" / "metrics.json").read_text(encoding="utf-8"))["extra"]["task"]
    except (OSError, KeyError):
        sys.exit(f"{run} has no report of a training run; name the card: NAME={run}")


if __name__ == "__main__":
    main(sys.argv[1:])
