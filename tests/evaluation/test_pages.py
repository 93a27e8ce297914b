"""A page says what it was given and nothing runs; every template stands on the same base."""

from __future__ import annotations

import io
import re

import pytest
from jinja2 import UndefinedError
from PIL import Image

from hfk.evaluation import pages

from .. import tiny


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        '{% extends "base.html" %}{% import "macros.html" as m %}{% block body %}{% block part %}<i>{{ label }}</i>'
        '{% endblock %}{% call(part) m.folded(["a", label], rows, 1, 2) %}{{ m.lines(part) }}{% endcall %}'
        '{{ m.facts({"x": {"y": [1, label]}, "none": none}) }}{{ m.figure(picture, label) }}{% endblock %}',
        encoding="utf-8",
    )
    return path


def test_a_tools_template_extends_the_base_and_everything_is_escaped(template):
    evil = "</script><script>alert('x')</script>\""
    rows = [(evil, number) for number in range(5)]
    page = tiny.without_script(pages.render(template, title=evil, label=evil, rows=rows, picture=b"\xff\xd8jpeg"))
    assert page.count("<script") == 0 and "&lt;script&gt;" in page
    assert re.search(r"<summary>3 .*more.*</summary>", page) and page.count("<table") == page.count("</table>") == 2
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg|#)', page) and "<dt>none" not in page
    assert pages.PALETTE["ink"] in page and 'name="viewport"' in page
    assert pages.render(template, "part", label="<") == "<i>&lt;</i>"


def test_a_fact_that_is_missing_is_an_error(template):
    with pytest.raises(UndefinedError, match="label"):
        pages.render(template, title="x", rows=[], picture=b"")


def test_a_thumbnail_is_a_small_jpeg_or_nothing(tmp_path):
    whole, broken = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGBA", (400, 300)).save(whole)
    broken.write_text("no picture")
    assert Image.open(io.BytesIO(pages.thumbnail({"bytes": None, "path": str(whole)}, 80))).size == (80, 60)
    assert pages.thumbnail({"bytes": None, "path": str(broken)}, 80) is None is pages.thumbnail(None, 80)
