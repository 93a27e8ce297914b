"""`hfk push` as a script."""

from __future__ import annotations

import sys

from hfk.cli import main

if __name__ == "__main__":
    main(["push", *sys.argv[1:]])
