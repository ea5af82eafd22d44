"""Handles rely on the GIL, and nothing says otherwise: a free-threaded interpreter has to turn it on when it loads our modules.

Whoever makes them safe without it removes this file, after running all tests on such an interpreter.
"""

from __future__ import annotations

import re

from sources import ROOT, sources

CLAIMS = re.compile(r"freethreading_compatible|Py_mod_gil|Py_MOD_GIL|Free Threading", re.IGNORECASE)


def test_nothing_claims_to_be_safe_without_the_gil():
    for path in [*sources(".pyx", ".pxd", ".h", ".py"), ROOT / "setup.py", ROOT / "pyproject.toml"]:
        found = CLAIMS.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_the_documentation_says_so():
    text = " ".join((ROOT / "docs" / "guarantees.md").read_text().split())
    assert "Handles rely on the GIL" in text and "free-threaded interpreter turns it on" in text
