"""What the tests of this folder share: one run that knows its task, and reports whose pictures are not drawn."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from hfk import train
from hfk.evaluation import plots
from tests import tiny


@pytest.fixture(scope="package", autouse=True)
def _blank_pictures():
    """Matplotlib takes longer than these runs do; tests/evaluation looks at what it draws."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in vars(plots) if name.endswith("_png")]:
            patch.setattr(plots, name, lambda *args, **options: buffer.getvalue())
        yield


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
