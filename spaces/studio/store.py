"""Where feedback goes: one CSV in a local folder, whose first columns are those of a task's `corrections.csv`.

With `HFK_FEEDBACK_DATASET` and `HF_TOKEN` set, the folder is also sent to that Hub dataset every few minutes, by
`huggingface_hub.CommitScheduler`. Without the sender's consent a row keeps a hash of the input instead of the input.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import threading
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from text import Trouble

from hfk.models.image_preparation import ImageError, open_image
from hfk.tasks.table_writer import guard

COLUMNS = ("id", "head", "from", "to", "reason", "checkpoint", "time", "text", "image")
MAX_REASON = 500
MAX_TEXT = 5_000
MAX_FOLDER_MB = 200
PICTURE_PIXELS = 512
EVERY_MINUTES = 5
MOST_AN_HOUR = 60
"""Corrections of one visitor."""
MOST_VISITORS = 1024
"""Whose corrections are counted: of more, those who came first are forgotten."""


class Corrections:
    """Write corrections.

    Args:
        folder: where the CSV and the pictures go; made when the first row comes.
        dataset: Hub dataset to send the folder to, such as `owner/name`; None keeps it local.
        token: of an account that may write there.
    """

    def __init__(self, folder: Path, dataset: str | None = None, token: str | None = None) -> None:
        self.folder = folder
        self.lock: Any = threading.Lock()
        self.file = folder / "corrections.csv"
        self.scheduler = None
        self.times: dict[str, deque[float]] = {}  # visitor → when the last corrections came
        if dataset and token:
            from huggingface_hub import CommitScheduler

            folder.mkdir(parents=True, exist_ok=True)
            try:
                self.scheduler = CommitScheduler(
                    repo_id=dataset,
                    repo_type="dataset",
                    folder_path=folder,
                    every=EVERY_MINUTES,
                    private=True,
                    token=token,
                )
            except Exception as error:  # feedback is kept here all the same
                print(f"feedback stays local: {dataset} can't be written ({type(error).__name__}).", flush=True)
            else:
                self.lock = self.scheduler.lock
                # Several processes may write to one dataset, each to a file of its own.
                self.file = folder / f"corrections-{uuid.uuid4().hex[:8]}.csv"

    @classmethod
    def from_environment(cls) -> Corrections:
        """By `HFK_FEEDBACK_DIR` (default `runs/feedback`), `HFK_FEEDBACK_DATASET` and `HF_TOKEN`."""
        folder = Path(os.environ.get("HFK_FEEDBACK_DIR") or "runs/feedback")
        made = cls(folder, os.environ.get("HFK_FEEDBACK_DATASET"), os.environ.get("HF_TOKEN"))
        if os.environ.get("SPACE_ID") and made.scheduler is None and not folder.resolve().is_relative_to("/data"):
            print(
                "feedback is lost when this Space restarts: set HFK_FEEDBACK_DATASET, or HFK_FEEDBACK_DIR below /data"
            )
        return made

    def count(self, visitor: str) -> None:
        """Count a correction of a visitor; Trouble if these are too many."""
        now = time.monotonic()
        with self.lock:
            times = self.times.pop(visitor, deque(maxlen=MOST_AN_HOUR))
            self.times[visitor] = times  # the last one now
            if len(self.times) > MOST_VISITORS:
                self.times.pop(next(iter(self.times)))
            if len(times) == MOST_AN_HOUR and now - times[0] < 3600:
                raise Trouble("too_many")
            times.append(now)

    def add(
        self,
        changes: list[tuple[str, str, str]],
        text: str | None,
        photo: str | None,
        reason: str,
        checkpoint: str,
        keep: bool,
    ) -> str:
        """Write one row a change.

        Args:
            changes: (head, label given, right label).
            text: the text that was classified.
            photo: file of the picture that was classified.
            reason: what the sender says.
            checkpoint: who gave the answer.
            keep: whether text and picture may be kept.

        Returns:
            the id of the input: the same input has the same one.

        Raises:
            Trouble: if the folder is full.
        """
        data = Path(photo).read_bytes() if photo and Path(photo).is_file() else b""
        identity = hashlib.sha256((text or "").encode() + b"\x00" + data).hexdigest()[:16]
        with self.lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (
                sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
                > MAX_FOLDER_MB * 1_000_000
            ):
                raise Trouble("full")
            kept = (guard((text or "")[:MAX_TEXT]), self._save_picture(identity, data)) if keep else ("", "")
            new = not self.file.exists()
            with open(self.file, "a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(COLUMNS)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                said = guard(" ".join(reason[:MAX_REASON].split()))
                writer.writerows([[identity, *change, said, checkpoint, now, *kept] for change in changes])
        return identity

    def _save_picture(self, identity: str, data: bytes) -> str:
        """Save a picture anew, small and without what a camera writes into it; returns its path in the folder."""
        if not data:
            return ""
        with contextlib.suppress(ImageError):
            picture = open_image(data)
            picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.LANCZOS)
            (self.folder / "images").mkdir(exist_ok=True)
            picture.save(self.folder / "images" / f"{identity}.jpg", quality=88)
            return f"images/{identity}.jpg"
        return ""
