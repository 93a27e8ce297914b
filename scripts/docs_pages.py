"""What mkdocs.yml hooks in: pages from outside docs/, links that lead from page to page, examples that look like code.

In the repository a link may name any file. On the site only pages exist: a link to one of them is bent to its address
there, and a link to another file becomes the file's name as plain text, or, where `repo_url` is set, a link into the
repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "README.ko.md": "index.ko.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    **{
        f"benchmarks/{path.name}": f"benchmarks/{'index.md' if path.stem == 'README' else path.name}"
        for path in (ROOT / "benchmarks").glob("*.md")
    },
}
"""Path in the repository → path on the site; what is under docs/ keeps its path there."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Bend the links of one page."""
    homes = {page: source for source, page in PAGES.items()}
    own = page.file.src_uri
    source = PurePosixPath(homes.get(own, f"docs/{own}"))

    def bend(match: re.Match[str]) -> str:
        mark, text, link, anchor = (
            match[1],
            LINK.sub(bend, match[2]),
            match[3],
            match[4] or "",
        )  # or pictures
        target = os.path.normpath(source.parent / link)
        on_site = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if on_site is not None and files.get_file_from_path(on_site):
            return f"{mark}[{text}]({os.path.relpath(on_site, PurePosixPath(own).parent)}{anchor})"
        if not (ROOT / target).exists():
            raise SystemExit(f"{source}: the link to {link} leads nowhere.")
        return f"{mark}[{text}]({config.repo_url}/blob/main/{target}{anchor})" if config.repo_url else text

    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)  # code is no place for links
    return "".join(block if number % 2 else LINK.sub(bend, block) for number, block in enumerate(blocks))


class Examples(griffe.Extension):
    """Shows what stands under `Example:` in a docstring as code; griffe knows the plural only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
