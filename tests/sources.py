"""The project's files as text: comments and strings blanked out, imports, functions. No Cython needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shmring"
KERNEL = PACKAGE / "_core"
HEADERS = PACKAGE / "include" / "shmring"

_LEXEME = re.compile(
    r'"""(?:\\.|[^\\])*?"""' r"|'''(?:\\.|[^\\])*?'''" r'|"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])*'" r"|#[^\n]*", re.DOTALL
)


def code_of(text: str) -> str:
    """The same lines without comments and strings, so that a word in it is code."""
    return _LEXEME.sub(lambda lexeme: re.sub(r"[^\n]", " ", lexeme[0]), text)


def kernel_files() -> list[Path]:
    return sorted(path for path in KERNEL.glob("*.pxd") if path.name != "__init__.pxd")


def sources(*endings: str) -> list[Path]:
    """Files of the package with one of these endings; not what a build leaves there."""
    return sorted(path for ending in endings for path in PACKAGE.rglob(f"*{ending}") if "__pycache__" not in path.parts)


def module_of(path: Path) -> str:
    """The dotted name below shmring: "ring", "_core.layout", "cli.send"; "" is the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Import:
    line: int
    module: str
    names: tuple[str, ...]  # empty for `import module`
    is_cimport: bool
    is_late: bool  # inside a function: when it is called


_FROM = re.compile(r"^([ \t]*)from[ \t]+([\w.]+)[ \t]+(c?import)[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)
_PLAIN = re.compile(r"^([ \t]*)(c?import)[ \t]+([\w., \t]+)", re.MULTILINE)


def imports_of(text: str) -> list[Import]:
    code = code_of(text)
    found = []
    for match in _FROM.finditer(code):
        indent, module, kind, names = match.groups()
        listed = tuple(name.split(" as ")[0].strip() for name in names.strip("()\n \t").split(",") if name.strip())
        found.append(Import(code.count("\n", 0, match.start()) + 1, module, listed, kind == "cimport", bool(indent)))
    for match in _PLAIN.finditer(code):
        indent, kind, modules = match.groups()
        for module in modules.split(","):
            name = module.split(" as ")[0].strip()
            found.append(Import(code.count("\n", 0, match.start()) + 1, name, (), kind == "cimport", bool(indent)))
    return sorted(found, key=lambda each: each.line)


@dataclass(frozen=True)
class Function:
    """A cdef function with a body, and the comment above it."""

    name: str
    file: Path
    line: int  # of its header
    header: str  # from "cdef" to the colon, on one line
    comment: str  # the comment block that ends right above the header
    body: list[str]  # its lines, comments included


_HEADER = re.compile(r"^cdef[ \t]+(?!extern|enum|struct|class|cppclass)[^\n(=]*?(\w+)\(", re.MULTILINE)


def functions_of(path: Path) -> Iterator[Function]:
    text = path.read_text()
    code, lines = code_of(text), text.split("\n")
    for match in _HEADER.finditer(code):
        end = code.find(":\n", match.start())
        declared = re.match(r"[^\n]*(?:\n[ \t]+[^\n]*)*", code[match.start() :])[0]
        if end < 0 or end - match.start() > len(declared):
            continue  # a declaration without a body
        first, last = code.count("\n", 0, match.start()), code.count("\n", 0, end)
        top = first
        while top and lines[top - 1].startswith("#"):
            top -= 1
        stop = last + 1
        while stop < len(lines) and (not lines[stop].strip() or lines[stop][0] in " \t"):
            stop += 1
        header = " ".join(code[match.start() : end].split())
        yield Function(match[1], path, first + 1, header, "\n".join(lines[top:first]), lines[last + 1 : stop])
