"""Every ordering edge has a name on both sides, and every access that orders says which edge it is.

The notation: `# sync: NAME (KIND). What it orders; pairs with (KIND) in FUNCTION [and FUNCTION].` right above the access.
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from accesses import all_edges, comments_joined, edges_in
from sources import functions_of, kernel_files, sources

PARTNER = {
    "release": "acquire",
    "acquire": "release",
    "fence, waiter": "fence, notifier",
    "fence, notifier": "fence, waiter",
    "fence, writer": "fence, reader",
    "fence, reader": "fence, writer",
    "fence, mover": "fence, scanner",
    "fence, scanner": "fence, mover",
    "fence, committer": "fence, drainer",
    "fence, drainer": "fence, committer",
    "fence, producer": "fence, observer",
    "fence, observer": "fence, producer",
}

# Edges with one side only, and why.
ONE_SIDED = dict.fromkeys(("uring-request", "uring-completion", "uring-room"), "the other side is Linux")

# Functions that order by themselves, and which kinds of edge they may stand for. The read-modify-writes are sequentially
# consistent; only where an edge rests on one of them it is named, so they may stand without.
ORDERS = {
    "load_acquire_u32": ("acquire",),
    "load_acquire_u64": ("acquire",),
    "store_release_u32": ("release",),
    "store_release_u64": ("release",),
    "fence_full": tuple(kind for kind in PARTNER if kind.startswith("fence")),
    "fence_release": ("fence, producer",),
    "fence_acquire": ("fence, observer",),
}
MAY_ORDER = {"add_u32": ("release",), **dict.fromkeys(("cas_u32", "cas_u64", "cas_pair"), ("release", "acquire"))}

_CALL = re.compile(rf"\b({'|'.join([*ORDERS, *MAY_ORDER])})\(")


def test_edges_are_named_in_the_bodies_of_kernel_functions_only():
    named = sum(path.read_text().count("# sync: ") for path in sources(".pxd", ".pyx", ".py", ".h"))
    assert named == len(all_edges())


def test_every_edge_has_both_sides():
    sides = defaultdict(set)
    for edge in all_edges():
        assert edge.kind in PARTNER or edge.name in ONE_SIDED, f"{edge.where}: {edge.name} has the unknown kind ({edge.kind})"
        sides[edge.name].add(edge.kind)
    for name, kinds in sides.items():
        if name in ONE_SIDED:
            continue
        for kind in kinds:
            assert PARTNER[kind] in kinds, f"{name} ({kind}) has no ({PARTNER[kind]}) anywhere"
    assert set(ONE_SIDED) <= set(sides), "an exception for an edge that does not exist"


def test_an_edge_names_functions_that_hold_its_other_side():
    edges = all_edges()
    for edge in edges:
        if edge.name in ONE_SIDED:
            continue
        partners = re.findall(r"airs with \(([^)]*)\) in ([a-z_]+)((?:(?:,| and) [a-z]+_[a-z_]+)*)", edge.text)
        assert partners, f"{edge.where}: {edge.name} ({edge.kind}) does not say what it pairs with"
        for kind, first, others in partners:
            assert kind == PARTNER[edge.kind], f"{edge.where}: ({edge.kind}) pairs with ({kind})"
            for function in [first, *re.findall(r"[a-z]+_[a-z_]+", others)]:
                assert any(each.name == edge.name and each.kind == kind and each.function == function for each in edges), (
                    f"{edge.where}: {edge.name} pairs with ({kind}) in {function}, which does not say so"
                )


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_every_access_that_orders_says_which_edge_it_is(path):
    if path.stem == "atomic":
        pytest.skip("the declarations")
    for function in functions_of(path):
        runs = dict(comments_joined(function.body))
        pending: set[str] = set()
        for index, line in enumerate(function.body):
            if index in runs:
                pending |= {edge.kind for edge in edges_in(runs[index], path.name, function.name)}
            if line.strip().startswith("#"):
                continue
            where = f"{path.name}:{function.line + index + 1}: {line.strip()}"
            for call in _CALL.findall(line):
                kinds = set(ORDERS.get(call) or MAY_ORDER[call])
                if call in ORDERS:
                    assert pending & kinds, f"{where}: no `# sync: NAME ({' | '.join(kinds)})` above it"
                pending -= kinds
        assert not pending, f"{path.name}: {function.name} names ({', '.join(pending)}) but makes no such access"


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_every_relaxed_access_says_why_that_is_enough(path):
    for function in functions_of(path):
        body = "\n".join(function.body)
        if re.search(r"\b(load|store)_relaxed_u", body):
            said = f"{function.comment}\n{body}"
            assert re.search(r"[Rr]elaxed:|[Rr]elaxed stores|nly we write|[Ss]tatistics", said), f"{path.name}: {function.name}"
