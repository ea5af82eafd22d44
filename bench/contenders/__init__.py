"""One file per contender, all with the same names.

LABEL       as the report calls it.
KIND        "program": a C program per role; "attach": unrelated Python processes that find each other by
name; "inherit": one Python process that forks the others, because the object travels no other way; "alone":
one Python process, with loops of its own. RING whether warm-up must go once round a ring, so that every page
has been touched before the clock starts.
missing()   why it cannot run on this machine, or "".
refuses(case)  why it has no such case, or "".
create(case, name) / remove(case, name)   make and destroy what both sides share (before and after a run).
attach(case, name, role, number) -> endpoint   KIND "attach": role is "producer" or "consumer", number says which
of several; or "alone", for a shape that has one process.
pair(case) -> (endpoint, endpoint)        KIND "inherit": before the fork, for the producers and the consumers.
command(case, name, role, cpu) -> argv    KIND "program".
run(endpoint, case, start) -> result      KIND "alone".
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..shapes import OWN_SHAPES, Case

NAMES = ("native", "native_lamport", "shmring", "mp_queue", "mp_pipe", "mqueue", "python_alone")
OWN = "shmring"  # the one that the others are there for


def load(name: str) -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"no contender {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")


def refusal(name: str, case: Case) -> str:
    """Why that contender has no such case, or ""."""
    if case.shape in OWN_SHAPES and name != OWN:
        return "shmring beside itself"
    return load(name).refuses(case)
