"""Every edge is an instruction: the kernel's aarch64 assembly has what edges_aarch64.txt says, for both kinds of processor.

On x86 most orders cost no instruction, so no test that runs there notices when one is dropped. aarch64 has one for each. The
kernel is compiled with every function on its own, and what orders is counted in each.
"""

from __future__ import annotations

import platform
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from accesses import EXCHANGES, all_accesses, all_edges, comments_joined, edges_in
from kernel_build import WEAK, compile_c, copy_kernel, needed, translate, write_whole_kernel
from sources import functions_of, kernel_files

pytest.importorskip("Cython", reason="pip install cython")

COMPILER = "gcc" if platform.machine() == "aarch64" else "aarch64-linux-gnu-gcc"
# What the processor has: exchanges in one instruction (LSE), or pairs of exclusive accesses.
PROCESSORS = {"lse": ["-march=armv8.1-a"], "exclusives": ["-march=armv8-a", "-mno-outline-atomics"]}
COUNTED = {
    "load": r"lda(?:r|pr)[bh]?\s",
    "store": r"stlr[bh]?\s",
    "fence": r"dmb\s+ish\s*$",
    "load fence": r"dmb\s+ishld\s*$",
    "exchange": r"(?:casal|ldaddal|ldsetal|ldclral|swpal|stlxr)\s",
    "pair": r"(?:caspal|stlxp)\s",
}
# It counts in a word of its own process.
PRIVATE = {"guard_count_epoch"}


def table():
    rows = {}
    for line in (Path(__file__).parent / "edges_aarch64.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            edge, kind, function, instructions = (part.strip() for part in line.split("|"))
            assert (edge, kind, function) not in rows, line
            rows[edge, kind, function] = instructions.split(" + ")
    return rows


def places():
    """For each function, the edges that each comment in it names."""
    found = defaultdict(list)
    for path in kernel_files():
        for function in functions_of(path):
            for _, text in comments_joined(function.body):
                edges = edges_in(text, path.name, function.name)
                if edges:
                    found[function.name].append(edges)
    return found


def expected():
    """function -> instruction -> how often."""
    rows = table()
    wanted = {}
    for function, comments in places().items():
        wanted[function] = Counter()
        for edges in comments:
            kinds = {rows[edge.name, edge.kind, function][0] for edge in edges}
            assert len(kinds) == 1, f"{function}: one access cannot be {kinds}"
            wanted[function].update("exchange" if kind == "add" else kind for kind in kinds)
    for access in all_accesses():
        if access.helper in EXCHANGES and not access.edges:
            wanted.setdefault(access.function, Counter())["exchange"] += 1
    return wanted


def found_in(assembly):
    """function -> instruction -> how often. Of the pair without LSE its own barrier is not counted."""
    counts = {}
    function = re.compile(r"^__pyx_f_7shmring_5_core_\d+[a-z]+_(\w+):\n(.*?)^\s+\.size", re.DOTALL | re.MULTILINE)
    for name, body in function.findall(assembly):
        if name in PRIVATE:
            continue
        code = [line.strip() for line in body.split("\n") if re.match(r"\s+[a-z]", line)]
        text = re.sub(r"(stlxp[^\n]*\n(?:cb?nz[^\n]*\n))dmb\s+ish\n", r"\1", "\n".join(code) + "\n")
        counts[name] = Counter({kind: len(re.findall("^" + pattern, text, re.MULTILINE)) for kind, pattern in COUNTED.items()})
    return counts


def compile_all(folder, accesses=()):
    copy = copy_kernel(folder)
    for access in accesses:
        copy.weaken(access)
    source = translate(copy, write_whole_kernel(copy))
    alone = "-DCYTHON_INLINE=__attribute__((noinline,noclone,used))"
    return {name: found_in(compile_c(copy, source, f"{name}.s", COMPILER, "-S", "-O1", alone, *flags).read_text())
            for name, flags in PROCESSORS.items()}


@pytest.fixture(scope="module")
def assembly(tmp_path_factory):
    needed(f"{COMPILER}:gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    return compile_all(tmp_path_factory.mktemp("aarch64"))


def test_the_table_has_every_edge_and_no_other():
    named = Counter()
    for function, comments in places().items():
        for edges in comments:
            named.update({(edge.name, edge.kind, function) for edge in edges})
    assert {key: len(instructions) for key, instructions in table().items()} == dict(named)
    assert {edge for edge, _, _ in table()} == {edge.name for edge in all_edges()}


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_edge_has_its_instruction(assembly, processor):
    counts = assembly[processor]
    for function, wanted in expected().items():
        assert function in counts, f"{function} was not compiled"
        assert +counts[function] == +wanted, f"{function}: the assembly has {+counts[function]}, its edges need {+wanted}"


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_nothing_orders_that_names_no_edge(assembly, processor):
    wanted = expected()
    for function, found in assembly[processor].items():
        assert function in wanted or not +found, f"{function} orders without a name: {+found}"


@pytest.mark.slow
def test_a_dropped_order_is_seen(tmp_path):
    """All of them are dropped at once: every place must miss its instruction."""
    needed(f"{COMPILER}:gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    places_once = {(each.file, each.line, each.helper): each for each in all_accesses() if each.edges and each.helper in WEAK}
    for processor, counts in compile_all(tmp_path, places_once.values()).items():
        for function in places():
            left = {kind: number for kind, number in counts[function].items() if number and kind != "exchange"}
            assert not left, f"{processor}: {function} still has {left}"
            without_name = sum(each.function == function and each.helper in EXCHANGES and not each.edges
                               for each in all_accesses())
            assert counts[function]["exchange"] == without_name, f"{processor}: {function}"
