"""Entry point for `accelerate launch scripts/evaluate.py …`; the same as `hfk evaluate …`."""

from __future__ import annotations

import sys

from hfk.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
