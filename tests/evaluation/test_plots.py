from __future__ import annotations

import io
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib")

from hfk.evaluation import plots

KOREAN = "야영장,오토캠핑장 농.산.어촌 체험 헹글라이딩 이색찜질방 바/까페 웹툰 뷁 漢字"


@pytest.fixture(autouse=True)
def drawn_and_any_warning_an_error(draw, monkeypatch):
    """matplotlib warns of every glyph that a font lacks."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", draw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image


def labeled(size: int, rows: int = 600) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(size)
    target = np.concatenate([np.arange(size), generator.integers(size, size=rows)])
    chosen = np.where(generator.random(len(target)) < 0.7, target, (target + 1) % size)
    words = KOREAN.split()
    return target, chosen, [f"{words[i % len(words)]}{i}" for i in range(size)]


def test_the_font_has_the_glyphs():
    from matplotlib import font_manager

    path = font_manager.findfont(font_manager.FontProperties(family=plots.font_families()[0]))
    glyphs = font_manager.get_font(path).get_charmap()
    assert not [character for character in KOREAN + "가힣→–%" if ord(character) not in glyphs]


@pytest.mark.parametrize("size", [2, 18, 62])
def test_a_confusion_matrix_of_any_size_is_a_readable_png(size):
    target, chosen, names = labeled(size)
    image = opened(plots.confusion_png(target, chosen, names, "분류 확인"))
    if size > plots.MATRIX_UP_TO:
        opened(plots.confusion_png(target, target, names))  # no mistakes to draw as bars
    assert max(image.size) < 2000
    assert np.asarray(image.convert("L")).std() > 10  # not an empty sheet


def test_the_axes_of_a_confusion_matrix_are_true_and_predicted(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "to_png", figures.append)
    plots.confusion_png(np.array([0, 1, 1]), np.array([0, 0, 1]), ["가", "나"])
    axes = figures[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [text.get_text() for text in axes.texts[:3]] == ["1", "1", "1"]


def test_labels_that_do_not_occur_are_not_drawn():
    names = [f"라벨{index}" for index in range(128)]
    target = np.array([3, 3, 90])
    few, all_three = (opened(plots.confusion_png(target, np.array([3, 90, 90]), names[:count])) for count in (91, 128))
    assert few.size[1] == all_three.size[1] < 700


def test_labels_are_text_not_formulas():
    awkward = ["$100$", "a_$b", "<b>", "50% 할인", "줄\n바꿈", "☕ 카페"]
    target = np.arange(6)
    opened(plots.confusion_png(target, target[::-1].copy(), awkward, "$x^{"))


@pytest.mark.parametrize("rows", [1, 500])
def test_reliability_and_rejection(rows):
    confidence = np.random.default_rng(0).random(rows)
    opened(plots.reliability_png(confidence, confidence > 0.5, "신뢰도"))
    opened(plots.reliability_png(confidence, confidence > 0.5, "보정", confidence**2))
    opened(plots.rejection_png(confidence, confidence > 0.5))


def test_training_curves_from_a_trainers_log():
    log = [
        {"loss": 2.0, "learning_rate": 1e-4, "epoch": 0.5, "step": 10},
        {"loss": float("nan"), "learning_rate": 5e-5, "epoch": 1.0, "step": 20},
        {"eval_loss": 1.5, "eval_대분류_macro_f1": 0.4, "eval_mean_macro_f1": 0.4, "epoch": 1.0, "step": 20},
        {"train_runtime": 3.0, "train_loss": 1.7, "epoch": 1.0, "step": 20},
    ]
    opened(plots.training_curves_png(log, "학습"))
    assert plots.training_curves_png([]) is None
    assert plots.training_curves_png([{"train_runtime": 3.0, "step": 20}]) is None


@pytest.mark.parametrize("lengths", [[5], [1, 2, 3, 100_000]])
def test_a_length_histogram(lengths):
    opened(plots.lengths_png(np.array(lengths), "길이", unit="글자", limit=48))


def test_the_same_numbers_give_the_same_bytes():
    assert plots.confusion_png(*labeled(2)) == plots.confusion_png(*labeled(2))


def test_the_users_settings_and_figures_stay_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it is an error, and would set a backend
    before = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
    plots.font_families.cache_clear()
    plots.confusion_png(np.array([0, 1]), np.array([0, 0]), ["가", "나"])
    assert {name: matplotlib.rcParams[name] for name in before} == before


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "hfk\[plots\]"'):
        plots.confusion_png(np.array([0]), np.array([0]), ["가", "나"])
