"""The embedded samples: small Parquet files that ship with the package, pictures inside as bytes.

They are made by `scripts/make_samples.py`, from templates and drawings of our own; no row is taken from a data set.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import partial
from importlib import resources
from typing import Any

import pyarrow.parquet as pq

from ..source import RawTable
from ..tables import Chunk


def read_sample(name: str) -> list[RawTable]:
    """Read an embedded sample.

    Args:
        name: `tour_mini`, `tour_unseen`, `ynat_mini`, `fashion_mini`, `dialect_mini` or `reviews_mini`.

    Returns:
        One table, not divided into splits.
    """
    return [RawTable(f"{name}.parquet", partial(_chunks, name))]


def _chunks(name: str) -> Iterator[Chunk]:
    for batch in pq.ParquetFile(io.BytesIO(_data(name))).iter_batches():
        yield batch.to_pydict()


def sample_stamp(name: str) -> str:
    """A hash of the sample's bytes, for caches."""
    return hashlib.blake2b(_data(name), digest_size=16).hexdigest()


def unseen_places() -> list[dict[str, Any]]:
    """Two places that `tour-mini` doesn't contain, for trying a trained model.

    Returns:
        Dicts with `text` (str), `image` (a `PIL.Image.Image`) and the expected `cat1`, `cat2`, `cat3`.
    """
    from PIL import Image

    return [
        {
            "text": row["overview"],
            "image": Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"),
            **{level: row[level] for level in ("cat1", "cat2", "cat3")},
        }
        for row in pq.read_table(io.BytesIO(_data("tour_unseen"))).to_pylist()
    ]


def _data(name: str) -> bytes:
    return resources.files(__package__).joinpath(f"{name}.parquet").read_bytes()
