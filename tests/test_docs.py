"""The documentation site: it builds without a broken link, and its reference names all that hfk exports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import hfk

ROOT = Path(__file__).parents[1]


def test_the_site_builds_without_a_broken_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "models.html").read_text(encoding="utf-8")
    assert "parent_of" in page
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css))"', page)
    assert not loaded, "a reader's browser fetches nothing from elsewhere"


def test_the_reference_names_all_that_hfk_exports():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    named = {line.rsplit(".", 1)[1] for line in re.findall(r"^::: (\S+)$", pages, re.M)}
    homes = {"resolve_backbone": "resolve"}
    assert {homes.get(name, name) for name in hfk.__all__} <= named
