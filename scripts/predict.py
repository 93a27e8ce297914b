"""Entry point for `accelerate launch scripts/predict.py …`; the same as `hfk predict …`."""

from __future__ import annotations

import sys

from hfk.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
