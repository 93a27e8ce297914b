"""Pictures of a data profile, as PNG: word clouds, image sizes, values of a regression head.

They share fonts, colours and helpers with `plots`, which has the pictures of an evaluation.
"""

from __future__ import annotations

import io

import numpy as np

from ...evaluation.plots import (
    BLUE,
    MUTED,
    RAMP,
    VERMILLION,
    font_path,
    new_figure,
    plain,
    titles,
    to_png,
)

CLOUD = (620, 310)  # pixels
CLOUD_WORDS = 60


def word_cloud_png(counts: dict[str, int]) -> bytes | None:
    """Draw words, the more frequent the larger and darker; the same words give the same picture.

    Args:
        counts: word → how often.

    Returns:
        a PNG; None without words.

    Raises:
        ImportError: without the extra `plots`.
    """
    try:
        from wordcloud import WordCloud
    except ImportError as error:
        raise ImportError('word clouds need wordcloud: pip install "hfk[plots]"') from error
    # By the alphabet among equals, so that the order of the rows plays no part.
    counts = dict(sorted(((word, n) for word, n in counts.items() if n > 0), key=lambda item: (-item[1], item[0])))
    if not counts:
        return None
    most = max(counts.values())
    dark, light = (np.array([int(RAMP[place][1][i : i + 2], 16) for i in (1, 3, 5)]) for place in (4, 3))

    def colour(word: str, **_: object) -> str:
        share = (counts[word] / most) ** 0.5
        return "rgb({}, {}, {})".format(*(light + (dark - light) * share).round().astype(int))

    cloud = WordCloud(
        font_path=font_path(),
        width=CLOUD[0],
        height=CLOUD[1],
        max_words=CLOUD_WORDS,
        background_color="white",
        prefer_horizontal=1.0,  # Korean standing on its side can't be read
        relative_scaling=0.4,
        max_font_size=84,
        margin=4,
        random_state=0,
        color_func=colour,
    ).generate_from_frequencies(counts)
    buffer = io.BytesIO()
    # Few shades of one colour: a palette makes the file a third as large.
    cloud.to_image().quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def image_sizes_png(sizes: np.ndarray, title: str = "Picture sizes") -> bytes:
    """Draw how wide and high pictures are: a bubble for each size, its area by the number of pictures.

    Args:
        sizes: int `(pictures, 2)`, width and height in pixels.
        title: what stands above.

    Returns:
        a PNG.
    """
    distinct, count = np.unique(sizes, axis=0, return_counts=True)
    if len(distinct) > 400:  # a cloud of single sizes: 40 steps a side show the same
        step = max(1, int(np.ceil(sizes.max() / 40)))
        distinct, count = np.unique(sizes // step * step + step // 2, axis=0, return_counts=True)
    figure, (axes,) = new_figure(4.6, 3.6)
    end = float(sizes.max()) * 1.12
    axes.plot([0, end], [0, end], color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    axes.scatter(distinct[:, 0], distinct[:, 1], s=10 + 240 * count / count.max(), color=BLUE, alpha=0.35, zorder=2)
    plain(axes, x=(0, end), y=(0, end), grid="both")
    axes.set_xlabel("width, pixels", fontsize=9, color=MUTED)
    axes.set_ylabel("height, pixels", fontsize=9, color=MUTED)
    axes.annotate(
        "square", (end, end), xytext=(-4, -14), textcoords="offset points", ha="right", fontsize=8, color=MUTED
    )
    width, height = np.median(sizes, axis=0).astype(int)
    titles(
        axes,
        title,
        f"{len(sizes):,} pictures of {len(np.unique(sizes, axis=0)):,} sizes; the median is {width}×{height}",
    )
    return to_png(figure)


def values_png(values: np.ndarray, title: str) -> bytes:
    """Draw a histogram of the values of a regression head.

    Args:
        values: one a labelled row.
        title: what stands above.

    Returns:
        a PNG.
    """
    figure, (axes,) = new_figure(6.2, 2.6)
    axes.hist(values, bins=min(50, max(5, len(np.unique(values)))), color=BLUE, alpha=0.85, zorder=2)
    axes.axvline(values.mean(), color=VERMILLION, linewidth=1.4, zorder=3)
    plain(axes, grid="y")
    axes.set_ylabel("rows", fontsize=9, color=MUTED)
    spread = f"mean {values.mean():.4g} (line), deviation {values.std():.4g}, {values.min():.4g} to {values.max():.4g}"
    titles(axes, title, f"{len(values):,} rows; {spread}")
    return to_png(figure)
