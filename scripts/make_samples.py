"""Make the embedded samples, hfk/tasks/samples/*.parquet.

Texts come from the templates in `sample_texts.py`, `sample_dialects.py` and `sample_reviews.py`, pictures from the
drawings in `sample_drawings.py`; nothing is taken from a data set. Every row has its own random generator, seeded by
its id, so a row can be made again alone.

In `tour_mini`, 사찰 and 성, and 요트 and 카약/카누, share their texts and differ in the picture only; 박물관 and
미술관/화랑, and 한식 and 일식, share their pictures and differ in the text only. The other categories differ in both.

Run: python scripts/make_samples.py [folder]
"""

from __future__ import annotations

import io
import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sample_dialects import FRAMES, REGIONS, pair
from sample_drawings import draw_scene
from sample_outfits import GARMENTS, HUES, draw_outfits
from sample_reviews import review
from sample_texts import HEADLINES, PLACES, headline, overview

ROWS_PER_CATEGORY = 23
HEADLINES_PER_TOPIC = 30
PAIRS_PER_FRAME = 3
REVIEWS = 600
PIXELS = 112
FOLDER = Path(__file__).parent.parent / "hfk" / "tasks" / "samples"
UNSEEN = (
    (
        "해수욕장",
        "동해의 해 뜨는 모습이 아름다운 바닷가다. 고운 모래밭이 1.2km쯤 이어지고 물이 얕아 아이와 물놀이하기 좋다.",
    ),
    (
        "한옥스테이",
        "백 년 된 기와집의 사랑채에서 묵는다. 온돌방에서 자고 일어나 대청마루에 앉으면 마당의 감나무가 보인다.",
    ),
)


def tour_texts() -> Iterator[dict[str, Any]]:
    """The rows of `tour_mini` without pictures; texts that resemble an earlier one are made again."""
    seen: list[set[str]] = []
    number = 0
    for count in range(ROWS_PER_CATEGORY):
        for cat3, place in PLACES.items():
            rng = random.Random(f"tour text {cat3} {count}")
            text = _fresh(lambda rng=rng, place=place: overview(rng, place), seen)
            yield {"id": f"MINI_{number:03d}", "overview": text, "cat1": place.cat1, "cat2": place.cat2, "cat3": cat3}
            number += 1


def picture(scene: str, key: str) -> dict[str, Any]:
    """A drawn picture of a scene, encoded as JPEG, PNG or WebP.

    Args:
        scene: what to draw, a key of `sample_drawings.SCENES`.
        key: seeds the drawing.
    """
    rng = random.Random(f"picture {key}")
    image, kind = draw_scene(scene, rng, PIXELS), rng.choice(["jpeg", "jpeg", "webp", "png"])
    buffer = io.BytesIO()
    if kind == "png":
        image.quantize(96, method=2).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, kind.upper(), quality=rng.randint(78, 92))
    return {"bytes": buffer.getvalue(), "path": f"{key}.{'jpg' if kind == 'jpeg' else kind}"}


def ynat_rows() -> Iterator[dict[str, Any]]:
    """The rows of `ynat_mini`."""
    seen: list[set[str]] = []
    number = 0
    for count in range(HEADLINES_PER_TOPIC):
        for topic in HEADLINES:
            rng = random.Random(f"ynat {topic} {count}")
            title = _fresh(lambda rng=rng, topic=topic: headline(rng, topic), seen)
            yield {"id": f"ynat-mini-{number:03d}", "title": title, "topic": topic}
            number += 1


def fashion_rows() -> Iterator[dict[str, Any]]:
    """The rows of `fashion_mini`; labels are as uneven as the contest's."""
    number = 0
    for pattern, garment, hue in itertools.product(range(3), range(len(GARMENTS)), range(len(HUES))):
        for _ in range((4, 2, 1)[pattern] if garment < 4 else 1):
            key = f"fashion-mini-{number:03d}"
            image, box = draw_outfits(garment, hue, pattern, random.Random(key))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85)
            picture = {"bytes": buffer.getvalue(), "path": f"{key}.jpg#xyxy={','.join(map(str, box))}"}
            yield {"id": key, "image": picture, "Daily": garment, "Gender": hue, "Embellishment": pattern}
            number += 1


def dialect_rows() -> Iterator[dict[str, Any]]:
    """The rows of `dialect_mini`: a frame's sentences in all regions count as one conversation."""
    for (place, region), frame in itertools.product(enumerate(REGIONS), range(len(FRAMES))):
        rng, made = random.Random(f"dialect {region} {frame}"), set()
        while len(made) < PAIRS_PER_FRAME:
            dialect, standard = pair(rng, frame, place)
            if dialect not in made:
                row = {"region": region, "dialect": dialect, "standard": standard}
                yield row | {"id": f"{region}-{frame}.{len(made)}", "conversation": f"frame {frame}"}
            made.add(dialect)


def review_rows() -> Iterator[dict[str, Any]]:
    """The rows of `reviews_mini`; reviews that resemble an earlier one are made again."""
    seen: list[set[str]] = []
    for number in range(REVIEWS):
        rng, good = random.Random(f"review {number}"), number % 2 == 0
        text = _fresh(lambda rng=rng, good=good: review(rng, good), seen, 0.6)
        yield {"id": f"reviews-mini-{number:03d}", "text": text, "label": "긍정" if good else "부정"}


def _fresh(make: Any, seen: list[set[str]], similarity: float = 0.45) -> str:
    for _ in range(400):
        text = make()
        bare = "".join(filter(str.isalnum, text))
        grams = {bare[i : i + 3] for i in range(len(bare) - 2)}
        if all(len(grams & other) <= similarity * len(grams | other) for other in seen):
            seen.append(grams)
            return text
    raise RuntimeError("the templates are exhausted: add some, or make fewer rows.")


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tour = [{**row, "image": picture(PLACES[row["cat3"]].scene, row["id"])} for row in tour_texts()]
    unseen = [
        {
            "id": f"UNSEEN_{number}",
            "overview": text,
            "cat1": PLACES[cat3].cat1,
            "cat2": PLACES[cat3].cat2,
            "cat3": cat3,
            "image": picture(PLACES[cat3].scene, f"UNSEEN_{number}"),
        }
        for number, (cat3, text) in enumerate(UNSEEN)
    ]
    made = {"tour_mini": tour, "tour_unseen": unseen, "ynat_mini": ynat_rows(), "fashion_mini": fashion_rows()}
    made |= {"dialect_mini": dialect_rows(), "reviews_mini": review_rows()}
    for name, rows in ((name, list(rows)) for name, rows in made.items()):
        path = folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
        print(f"{path.name}: {len(rows)} rows, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
