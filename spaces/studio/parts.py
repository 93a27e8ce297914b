"""Boxes of the page that take uploads, and only uploads.

gradio opens a picture on its own before a function sees it, takes `data:` and `http(s)://` addresses in place of an
upload, and answers a wrong picture with "Error". Here a box hands on the uploaded file's path and nothing else, and the
functions say what is wrong with it. Single components are changed, not classes: gradio writes a stub file into the
source folder of every subclass.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_client import utils as client_utils
from text import i18n


def only_uploads(box: Any) -> Any:
    """Make an image or file component hand on the uploaded file's path, unopened, and refuse addresses.

    Args:
        box: the component. Events may change its value, not its settings: gradio would then make it anew.
    """
    move = box.async_move_resource_to_block_cache

    async def move_upload(path: Any) -> str | None:
        if path is not None and client_utils.is_http_url_like(str(path)):
            raise gr.Error("Upload a file; addresses are not fetched.", print_exception=False)
        return await move(path)

    box.async_move_resource_to_block_cache = move_upload
    box.preprocess = lambda payload: payload.path if payload is not None else None
    return box


def photo_box(**options: Any) -> gr.Image:
    """The page's box for one photo.

    Args:
        **options: further options of `gr.Image`.
    """
    shown = {"sources": ["upload", "clipboard"], "buttons": [], "label": i18n("photo"), "height": 200}
    return only_uploads(gr.Image(type="filepath", image_mode=None, **(shown | options)))
