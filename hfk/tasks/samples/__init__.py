"""The embedded samples: small Parquet files that ship with the package, pictures inside as bytes.

They are made by `scripts/make_samples.py`, from templates and drawings of our own; no row is taken from a data set.
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ..source import WHOLE, RawTable


def read_sample(name: str) -> dict[str, list[RawTable]]:
    """Read an embedded sample.

    Args:
        name: `tour_mini`, `tour_unseen` or `ynat_mini`.

    Returns:
        One table, not divided into splits.
    """
    table = pq.read_table(io.BytesIO(_data(name)))
    frame = pd.DataFrame({column: table[column].to_pylist() for column in table.column_names}, dtype=object)
    return {WHOLE: [RawTable(frame, f"{name}.parquet")]}


def sample_stamp(name: str) -> str:
    """A hash of the sample's bytes, for caches."""
    return hashlib.blake2b(_data(name), digest_size=16).hexdigest()


def unseen_places() -> list[dict[str, Any]]:
    """Two places that `tour-mini` doesn't contain, for trying a trained model.

    Returns:
        Dicts with `text` (str), `image` (a `PIL.Image.Image`) and the expected `cat1`, `cat2`, `cat3`.
    """
    from PIL import Image

    frame = read_sample("tour_unseen")[WHOLE][0].frame
    return [
        {
            "text": row["overview"],
            "image": Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"),
            **{level: row[level] for level in ("cat1", "cat2", "cat3")},
        }
        for row in frame.to_dict("records")
    ]


def _data(name: str) -> bytes:
    return resources.files(__package__).joinpath(f"{name}.parquet").read_bytes()
