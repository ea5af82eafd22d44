"""The native ring as Lamport wrote it: each operation reads the other side's index. For comparison with the
cached one.
"""

from __future__ import annotations

from ..shapes import Case
from . import native

LABEL = "native (C), Lamport"
PACKAGE = native.PACKAGE
KIND = native.KIND
RING = native.RING
OFFERS = frozenset(("oneway", "untouched", "array", "records", "cython"))

missing = native.missing
create = native.create
remove = native.remove


def refuses(case: Case) -> str:
    if case.shape not in OFFERS:
        return "differs from native in one-way shapes only"
    return ""


def command(case: Case, name: str, role: str, cpu: int | None) -> list[str]:
    return native.command(case, name, role, cpu, index="lamport")
