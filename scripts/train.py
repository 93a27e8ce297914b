"""Entry point for `accelerate launch scripts/train.py …`; the same as `hfk train …`."""

from __future__ import annotations

import sys

from hfk.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
