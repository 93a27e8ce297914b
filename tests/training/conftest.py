"""What the tests of this folder share: a run that knows its task."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfk import train
from tests import tiny


@pytest.fixture(scope="package")
def text_options(encoders) -> dict:
    """A recipe's options for one epoch of a tiny text encoder."""
    options = {"text_encoder": encoders["text_encoder"], "vision_encoder": None, "num_train_epochs": 1, "use_cpu": True}
    return tiny.RECIPE | options


@pytest.fixture(scope="package")
def text_run(tmp_path_factory, text_options, places) -> Path:
    """Folder of a finished run that knows the texts of `places` well; read it, change nothing."""
    folder = tmp_path_factory.mktemp("text") / "one"
    train(str(places), folder, text_options | {"num_train_epochs": 4})
    return folder
