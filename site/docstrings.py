"""Joins what the API pages need: signatures and types from the stubs (.pyi), texts from the modules that were built.

The fields of data classes have theirs from the comments behind them.

Inspection alone would give no types. Where a docstring begins with a line that Cython made of the signature, it is left out.
"""

from __future__ import annotations

import importlib
import inspect
import re

import griffe

SECTION_ENDS = re.compile(r"\n\n(?=\S[^\n]*[ (])(?!\S+ : )(?![^\n]*\n-{3,})")  # prose, behind a numpydoc section
SECTION = re.compile(r"^(Parameters|Returns|Raises|Attributes|Presets)\n-{3,}\n", re.MULTILINE)


def tidied(text: str) -> str:
    """The paragraph behind the last section, which would be taken for a part of it, under a title of its own."""
    if not SECTION.search(text):
        return text
    begin = list(SECTION.finditer(text))[-1].end()
    end = SECTION_ENDS.search(text, begin)
    return text if end is None else f"{text[: end.start()]}\n\nNotes\n-----\n{text[end.end() :]}"


class Docstrings(griffe.Extension):
    """Gives each object that comes from a stub the docstring of the real one."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        if pkg.name == "shmring":
            self._visit(pkg)

    def _visit(self, module: griffe.Module) -> None:
        real = importlib.import_module(module.path) if module.filepath.suffix == ".pyi" else None
        for member in list(module.members.values()):
            if member.is_alias or member.name.startswith("_"):
                continue
            if member.is_module:
                if member.filepath.suffix in (".py", ".pyi") and "cli" not in member.path:
                    self._visit(member)
            else:
                self._fill(member, real and getattr(real, member.name, None))

    def _fill(self, node: griffe.Object, real: object) -> None:
        text = inspect.getdoc(real) if real is not None else node.docstring and node.docstring.value
        if text:
            first, _, rest = text.partition("\n")
            if first.startswith((f"{node.name}(", f"{node.parent and node.parent.name}.{node.name}(")):
                text = rest.strip()
            if text:
                node.docstring = griffe.Docstring(tidied(text), parent=node, parser="numpy")
        if not node.is_class:
            return
        for name, overloads in node.overloads.items():
            if overloads and name not in node.members:      # a stub has no implementation to hang them on
                whole = griffe.Function(name, parameters=overloads[-1].parameters, returns=overloads[-1].returns)
                whole.overloads = overloads
                node.set_member(name, whole)
        for member in node.members.values():
            if not member.is_alias:
                self._fill(member, real and getattr(real, member.name, None))
                if member.is_attribute and not member.has_docstring and "dataclass" in node.labels:
                    _, mark, comment = member.lines[0].partition("  # ")
                    if mark:
                        member.docstring = griffe.Docstring(comment[:1].upper() + comment[1:], parent=member, parser="numpy")
