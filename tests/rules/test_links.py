"""Links between the documents lead somewhere, anchors included; links to the outside look like addresses."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from sources import ROOT

PAGES = [ROOT / "README.md", ROOT / "models" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def anchor_of(heading: str) -> str:
    """As GitHub and Python-Markdown make them of plain titles."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme in ("https", "http", "mailto") and (parts.netloc or parts.scheme == "mailto"), target
            continue
        path = (page.parent / parts.path).resolve() if parts.path else page
        assert path.exists(), f"{target}: there is no {path}"
        assert path.is_relative_to(ROOT), f"{target} leads out of the source tree"
        if parts.fragment:
            headings = HEADING.findall(FENCE.sub("", path.read_text()))
            assert parts.fragment in map(anchor_of, headings), f"{target}: {path.name} has no such title"
