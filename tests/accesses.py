"""Every access of the kernel to a shared word: where it stands, what it says it orders, which step of a model it is.

Three notations in the comments of `shmring/_core/*.pxd`, each for the accesses that follow it, up to the next comment:

- `sync: NAME (KIND). ...` names an edge (tests/rules/test_sync_pairs.py, docs/ordering.md);
- `[STEP]` names a step of a model: the same `[STEP]` stands in a .pml file (tests/rules/test_models_cover.py);
- in the comment above a function, `[STEP]` is for all accesses in it that have no step of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sources import Function, code_of, functions_of, kernel_files

# Functions that order by themselves. The read-modify-writes are sequentially consistent; only where an edge rests on one of
# them it is named, so they may stand without.
ORDERING = ("load_acquire_u32", "load_acquire_u64", "store_release_u32", "store_release_u64", "fence_full", "fence_release",
            "fence_acquire")
EXCHANGES = ("add_u32", "add_u64", "or_u64", "and_u64", "cas_u32", "cas_u64", "cas_pair")
RELAXED = tuple(f"{verb}_relaxed_u{bits}" for verb in ("load", "store") for bits in (16, 32, 64))
HELPERS = (*ORDERING, *EXCHANGES, *RELAXED, "fence_compiler")

_CALL = re.compile(rf"\b({'|'.join(HELPERS)})\(")
_STEP = re.compile(r"(?<!\w)\[([A-Za-z][\w: -]*)\]")


@dataclass(frozen=True)
class Edge:
    name: str
    kind: str
    text: str
    where: str
    function: str


@dataclass(frozen=True)
class Access:
    file: str  # without .pxd
    function: str
    line: int  # in the file, from 1
    helper: str
    word: str  # the first argument, without the pointers on the way to it
    edges: tuple[Edge, ...]
    steps: frozenset[str]

    def __str__(self) -> str:
        return f"{self.file}.pxd:{self.line}: {self.function}: {self.helper}({self.word})"


def comments_joined(lines: list[str]) -> list[tuple[int, str]]:
    """(line index of the last line, text) of each run of comment lines."""
    runs, begun = [], []
    for index, line in enumerate([*lines, ""]):
        if line.strip().startswith("#"):
            begun.append(line.strip().lstrip("# "))
        elif begun:
            runs.append((index - 1, " ".join(begun)))
            begun = []
    return runs


def edges_in(text: str, where: str, function: str) -> list[Edge]:
    found = []
    for part in re.split(r"(?=sync: )", text)[1:]:
        match = re.match(r"sync: ([a-z-]+) \(([^)]*)\)(.*)", part, re.DOTALL)
        assert match, f"{where}: cannot read {part[:60]!r}"
        found.append(Edge(match[1], match[2], match[3], where, function))
    return found


def all_edges() -> list[Edge]:
    found = []
    for path in kernel_files():
        for function in functions_of(path):
            for last, text in comments_joined(function.body):
                found += edges_in(text, f"{path.name}:{function.line + last + 1}", function.name)
    return found


def steps_in(text: str) -> set[str]:
    return set(_STEP.findall(text))


def accesses_of(function: Function) -> list[Access]:
    header_lines = _header_lines(function)
    above = steps_in(" ".join(line.lstrip("# ") for line in function.comment.split("\n")))
    runs = dict(comments_joined(function.body))
    edges: list[Edge] = []
    steps: set[str] = set()
    found = []
    lines = code_of("\n".join(function.body)).split("\n")
    for index, line in enumerate(function.body):
        if index in runs:
            edges = edges_in(runs[index], function.file.name, function.name)
            steps = steps_in(runs[index])
        beside = steps_in(line.partition("#")[2]) if not line.strip().startswith("#") else set()
        for call in _CALL.finditer(lines[index]):
            named: list[Edge] = []
            if call[1] in ORDERING or call[1] in EXCHANGES:
                named, edges = edges, []  # they name one access
            found.append(Access(function.file.stem, function.name, function.line + header_lines + index, call[1],
                                _first_argument(lines[index][call.end():]), tuple(named), frozenset(beside or steps or above)))
    return found


def all_accesses() -> list[Access]:
    return [access for path in kernel_files() if path.stem != "atomic" for function in functions_of(path)
            for access in accesses_of(function)]


def _header_lines(function: Function) -> int:
    lines = function.file.read_text().split("\n")
    first = lines.index(function.body[0], function.line) if function.body else function.line
    return first - function.line + 1


def _first_argument(text: str) -> str:
    """`&reader.slot.claims[0].end, end)` -> "claims[].end"; `&bell.armed[participant >> 6], ...` -> "armed[]"."""
    depth, end = 0, len(text)
    for at, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth < 0 or (letter == "," and depth == 0):
            end = at
            break
    path = re.sub(r"\[[^\]]*\]", "[]", text[:end].lstrip("&"))
    path = re.sub(r"^.*\b(?:slot|each|orphan|finder|group|entry|guard|bell|producers|header|target|data_bell|room_bell|"
                  r"participants\[\]|groups\[\]|identity|<Identity\*> control\))\.", "", path)
    return path.rpartition(").")[2]
