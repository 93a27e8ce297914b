"""Changing training pictures: what may change, what must not, and that evaluation never sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hfk import MultiHeadTrainer
from hfk.training.techniques.pictures import ImageAugmentation
from tests import tiny
from tests.training.test_trainer import arguments, picture


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 1), st.integers(0, 2**31))
def test_what_is_kept_is_a_part_of_the_picture_and_large_enough(width, height, crop, seed):
    torch.manual_seed(seed)
    picture = noise(width, height)
    changed = ImageAugmentation(flip=0.0, crop=crop, light=0.1)(picture)
    assert changed.mode == "RGB"
    wide, high = changed.size
    assert 1 <= wide <= width and 1 <= high <= height
    assert wide * high >= crop * width * height * 0.9 - wide - high  # sides are whole pixels


def test_mirrored_cropped_and_relit():
    image = noise()
    always = ImageAugmentation(flip=1.0, crop=1, light=0)(image)
    assert (pixels(always) == pixels(image)[:, ::-1]).all()
    torch.manual_seed(3)
    part = ImageAugmentation(flip=0.0, crop=0.3, light=0)(image)
    windows = np.lib.stride_tricks.sliding_window_view(pixels(image), pixels(part).shape)
    assert part.size < image.size
    assert (windows == pixels(part)).all(axis=(-3, -2, -1)).sum() == 1
    relit = ImageAugmentation(flip=0.0, crop=1, light=0.3)(image)
    assert relit.size == image.size
    assert 0 < abs(pixels(relit).astype(float) - pixels(image)).mean() < 80


def test_draws_follow_the_seed():
    change = ImageAugmentation()
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(pixels(change(noise())).tobytes())
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("eda", "`basic` or a mapping of flip, crop, light"),
        ({"rotate": 3}, "no option 'rotate'"),
        ({"crop": 0}, "crop must be a number from 0.01 to 1, not 0"),
        ({"flip": True}, "flip must be a number"),
        ({"flip": 0, "crop": 1, "light": 0}, "no picture would change"),
    ],
)
def test_wrong_options_are_refused(tmp_path, option, words):
    with pytest.raises(ValueError, match=words):
        arguments(tmp_path, image_augmentation=option)


def trainer(folder, rows, model, processor):
    args = arguments(folder, image_augmentation={"flip": 1.0, "crop": 1, "light": 0}, per_device_train_batch_size=1)
    return MultiHeadTrainer(model, args, processor, rows, rows)


def test_training_sees_changed_pictures_and_evaluation_does_not(tmp_path):
    side = np.zeros((32, 32, 3), dtype=np.uint8)
    side[:, :16] = 255  # bright on the left
    rows = Dataset.from_dict({"id": ["one"], "image": [picture(side)], "cat1": [0]})
    made = trainer(tmp_path, rows, tiny.model(None, "resnet"), tiny.processor(None, "resnet"))
    (training,), (evaluation,) = made.get_train_dataloader(), made.get_eval_dataloader()
    left, right = (batch["pixel_values"][..., :16].mean() for batch in (training, evaluation))
    assert left < right
    torch.testing.assert_close(training["pixel_values"].flip(-1), evaluation["pixel_values"])


def test_a_damaged_picture_is_named(tmp_path):
    rows = Dataset.from_dict({"id": ["사진 7"], "image": [{"bytes": b"no picture", "path": None}], "cat1": [0]})
    made = trainer(tmp_path, rows, tiny.model(None, "resnet"), tiny.processor(None, "resnet"))
    with pytest.raises(ValueError, match=r"row with id '사진 7': .*not a picture"):
        next(iter(made.get_train_dataloader()))


def test_text_alone_is_refused(tmp_path):
    rows = Dataset.from_dict({"id": ["one"], "text": ["바다"], "cat1": [0]})
    with pytest.raises(ValueError, match="this model reads none"):
        trainer(tmp_path, rows, tiny.model("bert"), tiny.processor("bert"))
