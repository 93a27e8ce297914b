"""CutMix and MixUp: labels are mixed as pixels are, in training alone."""

from __future__ import annotations

import math

import pytest
import torch

from hfk.training.techniques import make_techniques
from hfk.training.techniques.mixing import CutMix, MixUp, mix_labels
from tests.training.small import trainer


@pytest.mark.parametrize("kind", [CutMix, MixUp])
def test_labels_are_shared_as_pixels_are(kind):
    """Pictures of one color each: what a pixel holds of another picture can be counted."""
    count, technique = 64, kind()
    technique._white = None
    pixels = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, 20, 30).clone()
    partner = torch.arange(count).roll(1)
    mixed, shares = technique.mix(pixels, partner, torch.rand(count))
    found = (mixed - pixels).mean((1, 2, 3)) / (pixels[partner] - pixels)[:, 0, 0, 0]
    torch.testing.assert_close(found, shares)
    assert shares.min() >= 0 and shares.std() > 0.1
    unmixed, none = technique.mix(pixels, partner, torch.zeros(count))
    assert torch.equal(unmixed, pixels) and not none.any()


def test_the_white_around_a_letterboxed_picture_does_not_count():
    """Upright and lying pictures: a box that covers an upright one gives nothing but what it shows."""
    technique, white = CutMix(), torch.ones(3)
    technique._white = white
    pixels = torch.ones(2, 3, 40, 40)
    pixels[0, :, :, 10:30], pixels[1, :, 15:25] = 0.25, 0.5  # 800 and 400 pixels
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, shares = technique.mix(pixels, torch.tensor([1, 0]), torch.tensor([0.5, 0.3]))
        for row, (own, other) in enumerate(((0.25, 0.5), (0.5, 0.25))):
            seen = [(mixed[row, 0] == value).sum().item() for value in (own, other)]
            assert shares[row].item() == pytest.approx(seen[1] / sum(seen))


def test_labels_of_every_problem_are_mixed():
    partner, shares = torch.tensor([1, 0, 0]), torch.tensor([0.25, 0.0, 0.5])
    single = mix_labels(torch.tensor([2, 0, -100]), partner, shares, 3)
    assert single[0].tolist() == [0.25, 0.0, 0.75] and single[1].tolist() == [1.0, 0.0, 0.0] and single[2].isnan().all()
    several = mix_labels(torch.tensor([[1.0, 0.0], [1.0, 1.0], [math.nan] * 2]), partner, shares, 2)
    assert several[0].tolist() == [1.0, 0.25] and several[2].isnan().all()
    assert mix_labels(torch.tensor([4.0, 8.0, 0.0]), partner, shares, 0).tolist() == [5.0, 8.0, 2.0]


@pytest.mark.parametrize("key", ["cutmix", "mixup"])
def test_training_learns_from_mixed_pictures_and_evaluation_sees_none(tmp_path, key):
    made = trainer(tmp_path, {key: {"share": 1.0}}, vision="resnet")
    batch = made.data_collator([made.eval_dataset[row] for row in range(4)])
    losses = {
        made.compute_loss(made.model.train(learning), dict(batch)).item() for learning in (True, True, False, False)
    }
    assert len(losses) == 3  # drawn anew in training, the same in evaluation
    made.train()


def test_copies_are_mixed_and_the_rows_themselves_are_not(tmp_path):
    plain = trainer(tmp_path / "plain", {}, vision="resnet")
    made = trainer(tmp_path / "copies", {"cutmix": {"copies": 4}}, vision="resnet")
    assert len(made.train_dataset) == 5 * len(plain.train_dataset)
    batch = next(iter(made.get_train_dataloader()))
    marks, pixels = batch["mixed"], batch["pixel_values"]
    changed = (made.techniques[0].batch(dict(batch))["pixel_values"] != pixels).flatten(1).any(1)
    assert not changed[~marks].any() and changed[marks].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutmix": 0.0}, "cutmix.alpha must be above 0"),
        ({"mixup": {"share": 2}}, "mixup.share must be in"),
        ({"cutmix": {"copies": -1}}, "cutmix.copies must be 0 or more"),
    ],
)
def test_wrong_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        make_techniques(options)


def test_a_model_that_reads_texts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not read pictures alone"):
        trainer(tmp_path, {"cutmix": True})
