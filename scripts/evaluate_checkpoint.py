"""Entry point for `accelerate launch scripts/evaluate_checkpoint.py …`; the same as `hfk evaluate …`.

Its name is not that of the package `evaluate`, which scripts beside it import."""

from __future__ import annotations

import sys

from hfk.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
