"""Look-alikes: rows whose texts or pictures are the same, or nearly so; `split.py` keeps them on one side.

Near-duplicate texts: Jaccard similarity of character 3-gram sets, of letters and digits only, at least
`TEXT_SIMILARITY`. The join is exact (prefix filtering over rarest-first grams, after Chaudhuri et al. 2006 and Bayardo
et al. 2007), so no pair above the threshold is missed by chance, as MinHash would; 36,523 news titles take 0.4 s and
15,395 overviews 6 s on two cores. Near-duplicate pictures: 16×16 RGB thumbnails that differ by at most
`IMAGE_DIFFERENCE` of their own contrast. Gradient hashes and absolute differences merge drawings on plain backgrounds,
where most of the picture says nothing; relative to contrast, pale small objects stay apart, and re-encoded or resized
copies are found. Mirrored, cropped or recolored copies are not.

Chains (a~b~c~…) could join half of a templated table: groups of more than `max_group` rows are taken apart again at
stricter similarities. Identical rows are never separated.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ..models.image_preparation import ImageError, glance, split_box
from ..models.shared import normalize_letters

# At 0.5, news titles of one template and another day begin to match ("자금 순유출", "자금 순유입").
TEXT_SIMILARITY = 0.6
IMAGE_RMS = 0.04  # largest root mean square difference of thumbnails, values in [0, 1]: brightness included
IMAGE_DIFFERENCE = 0.12  # the same with each channel's mean taken out, as a share of the thumbnails' deviation
IMAGE_FLAT = 0.004  # thumbnails of less deviation show nothing; only equal files are the same picture then
_SIDE = 16
_IDENTICAL = 2.0  # strength of a link that is never cut
_SAME_TEXT = 1.5  # same letters and digits, other spaces, case or punctuation
_BLOCK = 2048
_BLOCK_KEYS = 8192
_BLOCK_PAIRS = 4_000_000  # of pairs that may be looked at together
_COMMON = 2000  # grams of more rows than this compare only neighbors in text order
_PAIRS = 10_000_000  # pairs of texts that are looked at; 15,394 overviews of one site need 2.3 million


def duplicate_groups(
    texts: Sequence[str | None] | None,
    images: Sequence[Any] | None,
    rows: int,
    near_duplicates: bool = True,
    max_group: int | None = None,
) -> np.ndarray:
    """Number the groups of rows that show the same or nearly the same text or picture: int array `(rows,)`.

    Args:
        texts: one a row, or None; None and blank texts are like nothing.
        images: one a row, as `describe_images` takes them, or None.
        rows: how many rows there are.
        near_duplicates: whether near-duplicates are linked too.
        max_group: groups of more rows are taken apart at stricter similarities (0.7, 0.8, 0.9, then equal letters and
            digits, then identical); 2% of the rows, at least 50, by default.
    """
    links = [np.empty((0, 3))]
    if texts is not None:
        links.append(text_links(texts, TEXT_SIMILARITY if near_duplicates else 1.0))
    if images is not None:
        links.append(image_links(images, near_duplicates))
    edges = np.concatenate(links)
    limit = max_group if max_group is not None else max(50, rows // 50)
    groups = _components(rows, edges)
    for strength in (0.7, 0.8, 0.9, _SAME_TEXT, _IDENTICAL):
        large = np.bincount(groups, minlength=1)[groups] > limit if rows else np.zeros(0, dtype=bool)
        if not large.any():
            break
        inside = large[edges[:, 0].astype(int)]
        edges = edges[~inside | (edges[:, 2] >= strength)]
        groups = _components(rows, edges)
    return groups


def _components(rows: int, edges: np.ndarray) -> np.ndarray:
    one, two = edges[:, 0].astype(int), edges[:, 1].astype(int)
    graph = sparse.coo_array((np.ones(len(edges), dtype=bool), (one, two)), shape=(rows, rows))
    return connected_components(graph, directed=False)[1]


# ------------------------------------------------------------------------------------------------------------ texts


def normalize(text: str) -> str:
    """Letters and digits of a text, NFKC and case-folded; the stripped text itself if it has none.

    Example:
        >>> normalize("[속보] 코스피, 2,100 돌파!")
        '속보코스피2100돌파'
    """
    folded = normalize_letters(text, "NFKC").casefold()
    return "".join(filter(str.isalnum, folded)) or folded.strip()


def text_links(texts: Sequence[str | None], similarity: float = TEXT_SIMILARITY) -> np.ndarray:
    """Pairs of rows with the same or nearly the same text: float array `(pairs, 3)` of row, row, strength.

    The strength is the similarity, 1.5 for texts of the same letters and digits, 2 for identical texts. Of equal texts
    only a chain of pairs is listed, not each with each. `similarity` 1.0 links only equal letters and digits.
    """
    pairs, rows, keys = _equal_texts(texts)
    if similarity >= 1 or len(rows) < 2:
        return pairs
    # In text order: neighbors of a crowded gram are then likely look-alikes, and the row order can't matter.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    rows, keys = rows[order], [keys[number] for number in order]
    numbers, starts = _number_grams(keys)
    del keys, order  # a million texts are a hundred megabytes
    shape = (len(rows), max(1, int(numbers.max(initial=0)) + 1))
    matrix = sparse.csr_array((np.ones(len(numbers), dtype=np.int8), numbers, starts), shape=shape)
    near = _jaccard_join(matrix, similarity)
    return np.concatenate([pairs, np.column_stack([rows[near[0]], rows[near[1]], np.minimum(near[2], 1.0)])])


def _equal_texts(texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Link what is identical, or of the same letters and digits, to the first such row.

    Returns the pairs, as `text_links` does; the first row of each text; and its letters and digits.
    """
    verbatim, bare, keys, rows = bytearray(), bytearray(), [], []
    for row, text in enumerate(texts):
        if text is None or not text.strip():
            continue
        keys.append(normalize(text))
        verbatim += _hash(text)
        bare += _hash(keys[-1])
        rows.append(row)
    rows, numbers = np.array(rows, dtype=int), np.arange(len(rows))
    identical, same = _first(verbatim), _first(bare)
    first = np.where(identical < numbers, identical, same)
    strength = np.where(identical < numbers, _IDENTICAL, _SAME_TEXT)
    again = np.flatnonzero(first < numbers)
    pairs = np.column_stack([rows[first[again]], rows[again], strength[again]])
    once = np.flatnonzero(same == numbers)
    return pairs, rows[once], [keys[number] for number in once]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _first(hashes: bytearray) -> np.ndarray:
    """For each of some 16-byte hashes, the number of the first that equals it."""
    _, first, group = np.unique(np.frombuffer(hashes, dtype="V16"), return_index=True, return_inverse=True)
    return first[group]


def _number_grams(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each key's different character 3-grams as numbers, from the rarest gram to the commonest, as in a sparse matrix.

    One pass over blocks of keys collects the grams and a second one numbers them, so that memory holds four bytes a
    gram of a text. Returns the numbers, ascending within a key, and where each key's begin, and the last one's end.
    """
    known, total = np.empty(0, dtype=np.uint64), 0
    for _, grams in _gram_blocks(keys):
        found = np.unique(grams)
        place = np.searchsorted(known, found)
        new = np.append(known, ~np.uint64(0))[place] != found  # no gram is this number
        known = np.insert(known, place[new], found[new])
        total += len(grams)
    numbers, starts, used = np.empty(total, dtype=np.int32), np.zeros(len(keys) + 1, dtype=np.int64), 0
    counts = np.zeros(len(known), dtype=np.int64)
    for block, (owner, grams) in enumerate(_gram_blocks(keys)):
        found, place = np.unique(grams, return_inverse=True)
        cells = np.unique(owner << 32 | np.searchsorted(known, found)[place])  # keys above, grams below
        first = block * _BLOCK_KEYS + 1
        sizes = np.bincount(cells >> 32, minlength=len(starts[first : first + _BLOCK_KEYS]))
        starts[first : first + _BLOCK_KEYS] = used + np.cumsum(sizes)
        own = cells & 0xFFFFFFFF
        counts += np.bincount(own, minlength=len(known))
        numbers[used : used + len(cells)] = own
        used += len(cells)
    rank = np.empty(len(known), dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(known))
    for start in range(0, len(keys), _BLOCK_KEYS):
        ends = starts[start : start + _BLOCK_KEYS + 1]
        owner = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        numbers[ends[0] : ends[-1]] = np.sort(owner << 32 | rank[numbers[ends[0] : ends[-1]]]) & 0xFFFFFFFF
    return numbers[:used], starts.astype(np.int32)


def _gram_blocks(keys: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All grams of some keys at a time, and which of these keys each is of."""
    for start in range(0, len(keys), _BLOCK_KEYS):
        block = keys[start : start + _BLOCK_KEYS]
        owner = np.repeat(np.arange(len(block)), [len(key) for key in block])
        points = np.frombuffer("".join(block).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
        # Three code points of 21 bits each fit one 64-bit number: no hashing, so no collisions.
        grams = (points[:-2] << np.uint64(42)) | (points[1:-1] << np.uint64(21)) | points[2:]
        whole = owner[:-2] == owner[2:]
        yield owner[:-2][whole], grams[whole]


def _jaccard_join(matrix: sparse.csr_array, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of rows whose sets of columns have at least this Jaccard similarity.

    If two sets do, then their rarest |x| − ⌈t·|x|⌉ + 1 elements have one in common: only rows that share such an
    element are compared. Elements in more than `_COMMON` of those prefixes (a template repeated thousands of times)
    compare each row with its next few neighbors only, which bounds the work and finds the chain that grouping needs.
    In tables so large that even so more than `_PAIRS` pairs had to be compared, less common elements do so too.
    """
    sizes = np.diff(matrix.indptr)
    keep = sizes - np.ceil(threshold * sizes - 1e-9).astype(sizes.dtype) + 1
    prefix = _prefixes(matrix, np.minimum(keep, sizes))
    crowd = np.bincount(prefix.indices, minlength=matrix.shape[1])
    common, steps = crowd > _COMMON, 8
    if (crowd[~common].astype(float) ** 2).sum() / 2 > _PAIRS:
        ordered = np.sort(crowd)
        common = crowd >= ordered[np.searchsorted(np.cumsum(ordered.astype(float) ** 2) / 2, _PAIRS)]
        steps = int(np.clip(_PAIRS // crowd[common].sum(), 1, 8))
        partly = np.count_nonzero(_row_sums(prefix, common))
        warnings.warn(
            f"{matrix.shape[0]:,} different texts are too many to compare all that share a part: where many share it, "
            f"{partly:,} of them were compared with their next {steps} in alphabetical order only, so near-duplicates "
            "may be missed. Equal texts are always found.",
            stacklevel=2,
        )
    found = []
    for grams in _in_portions(np.flatnonzero(common), crowd):
        of_row = np.flatnonzero(np.isin(prefix.indices, grams, kind="table"))
        of_row = of_row[np.argsort(prefix.indices[of_row], kind="stable")]
        gram, owner = prefix.indices[of_row], np.searchsorted(prefix.indptr, of_row, "right") - 1
        for step in range(1, min(steps, len(gram) - 1) + 1):
            together = gram[:-step] == gram[step:]
            pairs = np.unique(owner[:-step][together] << 32 | owner[step:][together])
            found.append(_similar(matrix, sizes, pairs >> 32, pairs & 0xFFFFFFFF, threshold))
    if common.any():
        prefix.data[common[prefix.indices]] = False
        prefix.eliminate_zeros()
    transposed = prefix.T.tocsc()
    cost = np.concatenate([[0], np.cumsum(_row_sums(prefix, crowd))])
    start = 0
    while start < len(sizes):
        end = min(start + _BLOCK, max(start + 1, int(np.searchsorted(cost, cost[start] + _BLOCK_PAIRS, "right")) - 1))
        shared = (prefix[start:end] @ transposed).tocoo()
        one, two = shared.row + start, shared.col
        ahead = one < two
        one, two = one[ahead], two[ahead]
        alike = np.minimum(sizes[one], sizes[two]) >= threshold * np.maximum(sizes[one], sizes[two])
        found.append(_similar(matrix, sizes, one[alike], two[alike], threshold))
        start = end
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _row_sums(matrix: sparse.csr_array, weights: np.ndarray) -> np.ndarray:
    """The sum of the weights of each row's columns."""
    sums = []
    for start in range(0, matrix.shape[0], 65536):
        ends = matrix.indptr[start : start + 65537]
        total = np.concatenate([[0], np.cumsum(weights[matrix.indices[ends[0] : ends[-1]]], dtype=np.int64)])
        sums.append(np.diff(total[ends - ends[0]]))
    return np.concatenate(sums)


def _in_portions(grams: np.ndarray, crowd: np.ndarray) -> list[np.ndarray]:
    """Some grams in portions of about a million rows."""
    portion = np.cumsum(crowd[grams]) // 1_000_000
    return np.split(grams, np.flatnonzero(np.diff(portion)) + 1) if len(grams) else []


def _prefixes(matrix: sparse.csr_array, keep: np.ndarray) -> sparse.csr_array:
    """The first columns of each row, as many as `keep` says."""
    parts = []
    for start in range(0, len(keep), 65536):
        ends = matrix.indptr[start : start + 65537]
        position = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], np.diff(ends))
        parts.append(
            matrix.indices[ends[0] : ends[-1]][position < np.repeat(keep[start : start + 65536], np.diff(ends))]
        )
    columns = np.concatenate(parts)
    starts = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)
    return sparse.csr_array((np.ones(len(columns), dtype=bool), columns, starts), shape=matrix.shape)


def _similar(
    matrix: sparse.csr_array, sizes: np.ndarray, one: np.ndarray, two: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    results = [(np.empty(0, int), np.empty(0, int), np.empty(0))]
    for start in range(0, len(one), 65536):
        a, b = one[start : start + 65536], two[start : start + 65536]
        both = np.asarray(matrix[a].multiply(matrix[b]).sum(axis=1)).ravel()
        jaccard = both / np.maximum(1, sizes[a] + sizes[b] - both)
        near = (jaccard >= threshold - 1e-9) & (both > 0)
        results.append((a[near], b[near], jaccard[near]))
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


# --------------------------------------------------------------------------------------------------------- pictures


class Picture(NamedTuple):
    """What tells pictures apart: a hash of the file, and the thumbnail (None if it wasn't wanted or can't be made)."""

    digest: bytes
    thumbnail: np.ndarray | None


def look(image: Any) -> Picture:
    """Open a picture once, as training will, for what `describe_images` tells of it; an `ImageError` says why not."""
    data, picture = glance(image, 4 * _SIDE)
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return Picture(_digest(data), np.asarray(small, dtype=np.uint8).reshape(-1))


def image_bytes(image: Any) -> bytes | None:
    """A picture's file contents, from a path, bytes, or a dict with either; None without one that can be read."""
    if isinstance(image, Mapping):
        image = image.get("bytes") if image.get("bytes") is not None else image.get("path")
    if image is None or isinstance(image, (bytes, bytearray)):
        return image
    try:
        with open(split_box(image)[0], "rb") as file:  # two boxes of one picture are alike: one may show the other
            return file.read()
    except (OSError, ImageError):
        return None


def describe_images(images: Sequence[Any], near_duplicates: bool = True) -> list[Picture | None]:
    """Read each picture once: its hash and, for near-duplicates, its thumbnail, 16×16 RGB values as uint8 `(768,)`.

    What is described already is passed through; None without a readable file. No whole picture has no thumbnail.
    """
    described: list[Picture | None] = []
    for image in images:
        if image is None or isinstance(image, Picture):
            described.append(image)
            continue
        data = image_bytes(image)
        found = Picture(_digest(data), None) if data else None
        if found is not None and near_duplicates:
            with suppress(ImageError):
                found = look(bytes(data))
        described.append(found)
    return described


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def image_links(images: Sequence[Any], near_duplicates: bool = True) -> np.ndarray:
    """Pairs of rows with the same or nearly the same picture: float array `(pairs, 3)` of row, row, strength.

    The strength is 2 for identical bytes, else (re-encoded, resized, slightly retouched) 0.7 to 1 for no difference.
    """
    links: list[tuple[float, float, float]] = []
    first: dict[bytes, int] = {}
    rows, vectors = [], []
    for row, picture in enumerate(describe_images(images, near_duplicates)):
        if picture is None:
            continue
        if picture.digest in first:
            links.append((first[picture.digest], row, _IDENTICAL))
            continue
        first[picture.digest] = row
        if near_duplicates and picture.thumbnail is not None:
            rows.append(row)
            vectors.append(picture.thumbnail)
    if len(vectors) > 1:
        links.extend(_near_vectors(np.array(rows), np.stack(vectors).astype(np.float32) / 255))
    return np.array(links, dtype=float).reshape(-1, 3)


def _near_vectors(rows: np.ndarray, vectors: np.ndarray) -> list[tuple[float, float, float]]:
    # 4×4 block means are a contraction: pictures that are near at 16×16 are at least as near there, so none is lost.
    coarse = vectors.reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(len(vectors), -1)
    square = (coarse**2).sum(axis=1)
    centered = vectors.reshape(len(vectors), -1, 3)
    centered = (centered - centered.mean(axis=1, keepdims=True)).reshape(len(vectors), -1)
    contrast = np.sqrt((centered**2).mean(axis=1)) + 1e-9
    limit = IMAGE_RMS**2 * coarse.shape[1]
    links = []
    for start in range(0, len(vectors), 512):
        block = coarse[start : start + 512]
        distance = square[start : start + 512, None] + square[None] - 2 * block @ coarse.T
        one, two = np.nonzero(distance <= limit + 1e-4)
        one += start
        ahead = one < two
        for first in range(0, int(ahead.sum()), 8192):
            a, b = one[ahead][first : first + 8192], two[ahead][first : first + 8192]
            rms = np.sqrt(((vectors[a] - vectors[b]) ** 2).mean(axis=1))
            relative = np.sqrt(((centered[a] - centered[b]) ** 2).mean(axis=1)) / np.minimum(contrast[a], contrast[b])
            near = (rms <= IMAGE_RMS) & (relative <= IMAGE_DIFFERENCE) & (contrast[b] > IMAGE_FLAT)
            strength = 1 - 0.3 * relative[near] / IMAGE_DIFFERENCE
            links.extend(zip(rows[a[near]], rows[b[near]], strength, strict=True))
    return links
