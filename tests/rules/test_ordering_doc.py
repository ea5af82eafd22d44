"""docs/ordering.md has an argument for every edge of the kernel, with the functions on both sides, and for no other."""

from __future__ import annotations

import re
import sys

import pytest
from accesses import all_edges
from sources import ROOT

TEXT = (ROOT / "docs" / "ordering.md").read_text()
SECTIONS = {name: body for name, body in re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)}
PARTS = ["Publishes", "Licenses", "Without it", "Shows on", "Caught by"]


def test_every_edge_has_its_section_and_every_section_its_edge():
    assert set(SECTIONS) == {edge.name for edge in all_edges()}
    assert len(re.findall(r"^### ", TEXT, re.MULTILINE)) == len(SECTIONS), "a section that is there twice"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_all_parts_and_the_functions_of_both_sides(name):
    heading, _, body = SECTIONS[name].partition("\n\n")
    assert re.findall(r"^- \*\*([^*]+)\*\*: \S", body, re.MULTILINE) == PARTS
    said = {}
    for names, kind in re.findall(r"((?:`\w+`[, and\n]*)+) \(([^)]*)\)", heading):
        said[kind] = set(re.findall(r"`(\w+)`", names))
    named = {}
    for edge in all_edges():
        if edge.name == name:
            named.setdefault(edge.kind, set()).add(edge.function)
    assert said == named


def test_the_mutants_and_files_that_it_names_exist():
    sys.path.insert(0, str(ROOT / "models"))
    try:
        import run
    finally:
        sys.path.remove(str(ROOT / "models"))
    flags = {flag for case in run.CASES for flag in case.flags.split()}
    for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", TEXT):
        assert name in flags, f"no model has the mutant {name}"
    for path in re.findall(r"\b(?:tests|models|docs)/[\w/]+\.\w+", TEXT):
        assert (ROOT / path).exists(), path


def test_its_mutants_under_the_sanitizer_exist():
    program = (ROOT / "tests" / "kernel" / "test_data_races.py").read_text()
    for name in re.findall(r"\(mutant `([\w-]+)`\)", TEXT):
        assert f'"{name}": (' in program, name
