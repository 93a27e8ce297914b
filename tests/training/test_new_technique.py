"""A technique is added from outside: one class, and every recipe may name it; CONTRIBUTING shows this one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hfk.training.techniques import TECHNIQUES, Technique
from hfk.training.train import prepare
from tests.training.small import trainer


class InputDropout(Technique, key="input_dropout"):
    """Replace tokens of the training texts by the unknown one, drawn anew each time.

    Args:
        share: each token's chance.
    """

    share: float = 0.1

    def batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Draw them."""
        lost = torch.rand(batch["input_ids"].shape) < self.share
        unknown = self.setting.processor.tokenizer.unk_token_id
        return batch | {"input_ids": batch["input_ids"].masked_fill(lost, unknown)}


@pytest.fixture(scope="module", autouse=True)
def _leave_no_trace():
    yield
    TECHNIQUES.pop("input_dropout")


def test_a_recipe_may_name_it(text_options, places, tmp_path):
    ready = prepare(str(places), tmp_path / "run", text_options | {"input_dropout": 0.9})
    assert "InputDropout(share=0.9)" in map(repr, ready.trainer.techniques)
    with pytest.raises(ValueError, match="'input_dropout' needs a number"):
        prepare(str(places), tmp_path / "wrong", text_options | {"input_dropout": "much"})


def test_training_alone_is_changed(tmp_path):
    made = trainer(tmp_path, {"input_dropout": 1.0})
    batch = made.data_collator([made.eval_dataset[0]])
    losses = [made.compute_loss(made.model.train(learning), batch).item() for learning in (True, False)]
    assert losses[0] != losses[1]
