"""Who may import and cimport whom. A new edge is added here on purpose, or not at all."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

import pytest
from sources import KERNEL, PACKAGE, code_of, functions_of, imports_of, kernel_files, module_of, sources

# Kernel file -> kernel files that it cimports. Beside them: libc and posix.
KERNEL_GRAPH = {
    "atomic": set(),
    "pages": set(),
    "futex": {"atomic"},
    "uring": {"atomic", "futex"},
    "guard": {"atomic"},
    "layout": {"atomic"},
    "record": {"atomic", "layout"},
    "boundary": {"atomic", "layout"},
    "doorbell": {"atomic", "futex", "layout"},
    "shutdown": {"atomic", "doorbell", "layout"},
    "gate": {"atomic", "doorbell", "layout", "record"},
    "reserve": {"atomic", "boundary", "layout", "record"},
    "count": {"atomic", "doorbell", "layout", "record", "reserve"},
    "produce": {"atomic", "boundary", "count", "doorbell", "gate", "layout", "record", "reserve"},
    "reader": {"atomic", "gate", "layout", "record", "reserve"},
    "claim": {"atomic", "doorbell", "gate", "layout", "reader", "record"},
    "keep": {"atomic", "claim", "layout", "reader", "record"},
    "sole": {"atomic", "claim", "layout", "reader", "record"},
    "linger": {"atomic", "gate", "layout", "record"},
    "observe": {"atomic", "boundary", "gate", "layout", "record", "reserve"},
    "membership": {"atomic", "boundary", "futex", "gate", "layout"},
    "repair": {"atomic", "claim", "gate", "keep", "layout", "membership", "reader", "record", "reserve"},
    "examine": {"atomic", "boundary", "gate", "layout", "membership", "record", "reserve"},
    "snapshot": {"atomic", "boundary", "gate", "layout", "membership", "record", "reserve"},
}

# What anybody outside the kernel may have of the atomic words: the opaque types, to point at them, pause, and a hint.
OPAQUE = {"u32", "u64", "pause", "seldom"}

# Module -> modules of the package that it imports or cimports when it is loaded. The kernel is free to every port.
GRAPH = {
    "errors": set(),
    "naming": set(),
    "evidence": set(),
    "policy": set(),
    "news": set(),
    "snapshot": set(),
    "options": {"errors"},
    "trust": {"errors"},
    "magic": {"errors"},
    "backing": {"errors", "options"},
    "hugepages": {"backing", "errors", "options"},
    "sigbus": {"_core"},
    "region": {"_core", "backing", "errors", "hugepages", "options", "sigbus"},
    "mapping": {"_core", "backing", "errors", "hugepages", "options", "region", "sigbus"},
    "table_lock": {"_core", "errors"},
    "registry": {"_core", "errors", "evidence", "mapping", "table_lock"},
    "ring": {"_core", "errors", "evidence", "mapping", "naming", "registry"},
    "waiter": {"_core", "policy", "ring", "sigbus"},
    "participant": {"_core", "errors", "evidence", "mapping", "policy", "registry", "ring", "sigbus", "table_lock", "waiter"},
    "sender": {"_core", "errors", "participant", "registry", "ring", "sigbus", "waiter"},
    "producer": {"_core", "errors", "participant", "ring", "sender", "sigbus", "view"},
    "receiver": {"_core", "errors", "participant", "registry", "ring", "sigbus", "waiter"},
    "view": {"_core", "errors", "participant", "ring", "sigbus"},
    "member": {"_core", "errors", "participant", "receiver", "registry", "ring", "sigbus", "view", "waiter"},
    "consumer": {"_core", "errors", "member", "receiver", "ring", "sigbus", "view"},
    "observer": {"_core", "errors", "participant", "policy", "receiver", "registry", "ring", "sigbus", "view", "waiter"},
    "nogil": {"_core", "consumer", "member", "producer", "ring", "sigbus"},
    "array_writer": {"_core", "errors", "producer", "ring", "sender"},
    "array_view": {"_core", "errors", "view"},
    "array_reader": {"_core", "array_view", "errors", "receiver", "ring", "sigbus"},
    "array_consumer": {"_core", "array_reader", "array_view", "consumer", "receiver", "sigbus"},
    "array_observer": {"_core", "array_reader", "array_view", "observer", "receiver", "ring", "sigbus"},
    "array_ring": {"errors", "naming"},
    "stats": {"_core", "member", "ring", "snapshot", "view"},
    "examine": {"_core", "ring", "snapshot"},
    "waitv": {"_core", "errors", "participant", "ring", "waiter"},
    "packed": set(),
    "counted": {"_core", "consumer", "errors", "packed", "producer", "receiver", "ring", "sigbus", "view"},
    "watch": {"_core", "errors", "participant", "sigbus", "waiter"},
    "sleeper": {"_core", "participant", "waiter", "watch"},
    "creation": {"errors", "naming", "ring", "trust"},
    "wait": {"errors"},
    "": {"creation", "errors", "mapping", "policy", "ring", "wait"},
}

# The same for imports inside functions: upwards, or not needed by everybody.
LATE = {
    "consumer": {"objects"},
    "member": {"objects", "stats"},
    "observer": {"news", "objects"},
    "participant": {"aio", "objects", "watch"},
    "sender": {"objects"},
    "view": {"objects"},
    "registry": {"news"},
    "ring": {"consumer", "creation", "errors", "observer", "producer", "stats"},
    "creation": {"array_ring", "backing", "magic"},
    "array_ring": {"array_consumer", "array_observer", "array_writer"},
    "wait": {"consumer", "producer", "waitv"},
    "watch": {"sleeper"},
}

# Edges of the package: they join what is below, and nobody below knows them, but for `objects` and `aio`, which the
# ports load for the methods that need a codec or a loop.
EDGES = (
    "cli", "__main__", "bridge", "codecs", "latency", "objects", "queue", "queue_ends", "queue_pickle", "queue_spill", "aio",
)


def package_modules():
    return [path for path in sources(".py", ".pyx", ".pxd") if KERNEL not in path.parents]


def is_edge(module: str) -> bool:
    return module.split(".")[0] in EDGES


def inner(each) -> set[str]:
    """Modules of the package that an import reaches, by their first part below shmring."""
    if each.module.split(".")[0] != "shmring":
        return set()
    below = each.module.split(".")[1:]
    if below:
        return {below[0]}
    names = {name for name in each.names if any((PACKAGE / f"{name}{end}").exists() for end in (".py", ".pyx", ".pxd", ""))}
    return names or {""}


@pytest.mark.parametrize("path", package_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_the_graph_allows(path):
    module = module_of(path)
    if path.name == "__init__.pxd" and module == "":
        pytest.skip("the public cimports: tests/rules/test_cimport.py")
    for each in imports_of(path.read_text()):
        reached = inner(each) - {module}
        if is_edge(module):
            assert "_core" not in reached, f"{path.name}:{each.line}: an edge reaches into the kernel"
            continue
        allowed = GRAPH[module] | LATE.get(module, set()) if each.is_late else GRAPH[module]
        assert reached <= allowed, f"{path.name}:{each.line}: {module or 'shmring'} is not allowed {reached - allowed}"


def test_the_graph_has_no_cycle():
    list(TopologicalSorter({module: below - {"_core"} for module, below in GRAPH.items()}).static_order())
    list(TopologicalSorter(KERNEL_GRAPH).static_order())


def test_the_graph_names_every_module():
    found = {module_of(path) for path in package_modules() if not is_edge(module_of(path))}
    found -= {module for module in found if module.startswith("include")}
    assert found == set(GRAPH)
    assert {path.stem for path in kernel_files()} == set(KERNEL_GRAPH)


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_the_kernel_cimports_only_the_kernel_and_libc(path):
    for each in imports_of(path.read_text()):
        where = f"{path.name}:{each.line}"
        assert each.is_cimport, f"{where}: imports {each.module} from Python"
        if each.module.startswith("shmring._core."):
            assert each.module.split(".")[2] in KERNEL_GRAPH[path.stem], f"{where}: {each.module} is not in the graph"
        else:
            assert each.module.split(".")[0] in ("libc", "posix"), f"{where}: {each.module} is not for the kernel"


# Words of Cython that need the interpreter.
PYTHON_WORDS = re.compile(
    r"\b(object|def|cpdef|class|raise|except|try|finally|lambda|yield|async|await|print|assert|import|gil|dict|tuple|list|str"
    r"|unicode|PyObject|None|isinstance)\b"
)


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_the_kernel_touches_no_python_object(path):
    for number, line in enumerate(code_of(path.read_text()).split("\n"), 1):
        assert not PYTHON_WORDS.search(line), f"{path.name}:{number}: {line.strip()}"


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_every_kernel_function_is_inline_noexcept_and_nogil(path):
    for function in functions_of(path):
        where = f"{path.name}:{function.line}: {function.name}"
        assert function.header.startswith("cdef inline "), f"{where} is not inline: each importer would need its symbol"
        assert function.header.endswith(") noexcept nogil"), f"{where} is not `noexcept nogil`"


@pytest.mark.parametrize("path", kernel_files(), ids=lambda path: path.stem)
def test_every_c_function_is_declared_nogil_and_noexcept(path):
    code = code_of(path.read_text())
    for block in re.finditer(r"^cdef extern from[^\n]*:\n((?:[ \t]+[^\n]*\n|\n)*)", code, re.MULTILINE):
        assert re.search(r"\bnogil[ \t]*:", block[0].split("\n")[0]), f"{path.name}: an extern block without nogil"
        for line in block[1].split("\n"):
            if re.search(r"\w[ \t]*\(", line):
                assert re.search(r"\)[ \t]*noexcept[ \t]*$", line), f"{path.name}: {line.strip()}"


def test_nothing_outside_the_kernel_touches_an_atomic():
    builtins = re.compile(
        r"\b(__atomic_\w+|__sync_\w+|_Atomic|atomic_\w+|stdatomic|shmring_(?:load|store|add|or|and|cas|fence)_\w+)"
    )
    for path in package_modules():
        text = path.read_text()
        assert not builtins.search(text), f"{path.name}: {builtins.search(text)[0]}"
        for each in imports_of(text):
            if each.module == "shmring._core.atomic":
                assert set(each.names) <= OPAQUE, f"{path.name}:{each.line}: cimports {set(each.names) - OPAQUE}"
            assert "atomic" not in each.names, f"{path.name}:{each.line}: cimports the whole of atomic"


def test_only_the_headers_know_the_atomic_builtins():
    users = {path.name for path in sources(".h", ".pxd", ".pyx") if "__atomic_" in path.read_text()}
    assert users == {"atomic.h"}
