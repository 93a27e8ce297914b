"""Names to encoder folders: packaged weights become ordinary checkpoint folders."""

from __future__ import annotations
