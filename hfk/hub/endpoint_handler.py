"""`handler.py` of a published checkpoint: what Hugging Face Inference Endpoints call.

It stands alone: `hfk push` sends this file as `handler.py`, and the server has transformers but not hfk, so the model
comes with the repository's own code. Rows come from strangers: pictures are taken as base64 only, never from an address
or path that the server would have to open; sizes are limited; a bad row costs itself only.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from transformers import pipeline

MAX_ROWS = 256
MAX_CHARACTERS = 100_000  # of a text
MAX_IMAGE_BYTES = 16 * 1024 * 1024  # of a picture, decoded from base64; its pixels are limited by the processor
BATCH_SIZE = 16
PARAMETERS = ("top_k", "threshold", "heads", "min_score", "paths")


class EndpointHandler:
    """Serve the checkpoint in a folder.

    Args:
        path: the repository's folder.

    Example:
        >>> handler = EndpointHandler("runs/tour-mini")  # doctest: +SKIP
        >>> handler({"inputs": {"text": "해 뜨는 바닷가"}, "parameters": {"top_k": 2}})  # doctest: +SKIP
    """

    def __init__(self, path: str = "") -> None:
        # The folder's own code, which came with its weights in one commit, and which checks what it loads.
        _refuse_code_from_elsewhere(Path(path or ".", "config.json"))
        self.classify = pipeline("multi-head-classification", model=path or ".", trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        """Answer one request; one that can't be answered as a whole is a ValueError.

        Args:
            data: `inputs`: a text, a dict with `text`, `image` (base64 or a data URL) or both, or a list of these;
                `parameters`: any of `top_k`, `threshold`, `heads`, as for the pipeline.

        Returns:
            for each row head name → list of `{"label", "score"}` (a number for a regression head), or
            `{"error": sentence}`; a list for a list.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError('the request needs "inputs": a text, a dict with "text" and "image", or a list of these.')
        inputs, options = data["inputs"], self._options(data.get("parameters"))
        rows = inputs if isinstance(inputs, list) else [inputs]
        if len(rows) > MAX_ROWS:
            raise ValueError(f"a request may have {MAX_ROWS} rows; this one has {len(rows)}.")
        answers: list[dict[str, Any]] = [{} for _ in rows]
        kept, prepared = [], []
        for index, row in enumerate(rows):
            try:
                prepared.append(self._prepare(row))
                kept.append(index)
            except ValueError as error:
                answers[index] = {"error": str(error)}
        if prepared:
            for index, answer in zip(kept, self.classify(prepared, batch_size=BATCH_SIZE, **options), strict=True):
                answers[index] = answer
        return answers if isinstance(inputs, list) else answers[0]

    def _options(self, parameters: Any) -> dict[str, Any]:
        options = parameters or {}
        unknown = sorted(set(options) - set(PARAMETERS)) if isinstance(options, dict) else [str(parameters)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no parameter; parameters: {', '.join(PARAMETERS)}.")
        options = {name: value for name, value in options.items() if value is not None}
        known = [head.name for head in self.classify.model.config.heads]
        for name, value in options.items():
            if name in ("top_k", "paths") and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}.")
            if name in ("threshold", "min_score") and (type(value) not in (int, float) or not 0 <= value <= 1):
                raise ValueError(f"{name} must be a number between 0 and 1, not {value!r}.")
            if name == "heads" and (not isinstance(value, list) or any(head not in known for head in value)):
                raise ValueError(f"heads must be a list of these: {', '.join(known)}.")
        return options

    def _prepare(self, row: Any) -> dict[str, Any]:
        if isinstance(row, str):
            row = {"text": row}
        elif not isinstance(row, dict):  # the server decodes a body of type image/* itself
            row = {"image": row}
        text, image = row.get("text"), row.get("image")
        if isinstance(text, str) and len(text) > MAX_CHARACTERS:
            raise ValueError(f"the text has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.")
        if isinstance(image, str) and image:
            image = _decode(image)
        elif image is not None and not (isinstance(image, bytes) or hasattr(image, "convert")):
            raise ValueError("a picture must be given as base64 or as a data URL.")
        if isinstance(image, bytes) and len(image) > MAX_IMAGE_BYTES:
            raise ValueError(f"the picture has more than {MAX_IMAGE_BYTES:,} bytes.")
        _, image = self.classify.processor.prepare_row(text, image or None)
        return {"text": text, "image": image}  # the text as it came: cleaning it twice could change it


def _refuse_code_from_elsewhere(config: Path) -> None:
    """Refuse, with a ValueError, a configuration whose code is another repository's, which no revision pins."""
    named = json.loads(config.read_text(encoding="utf-8"))
    for key in ("auto_map", "custom_pipelines"):
        if "--" in json.dumps(named.get(key)):
            raise ValueError(f"{config}: {key} would run code from another repository.")


def _decode(image: str) -> bytes:
    if image.startswith("data:"):
        image = image.partition(";base64,")[2]
    if len(image) * 3 // 4 > MAX_IMAGE_BYTES + 2:
        raise ValueError(f"the picture has more than {MAX_IMAGE_BYTES:,} bytes.")
    try:
        data = base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ValueError("a picture must be given as base64 or as a data URL: addresses and paths are not opened.")
    return data
