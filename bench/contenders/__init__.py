"""One file per contender, all with the same names.

LABEL       as the report calls it.
KIND        "program": a C program per role; "attach": unrelated Python processes that find each other by
name; "inherit": one Python process that forks the other, because the object travels no other way. RING
whether warm-up must go once round a ring, so that every page has been touched before the clock starts.
missing()   why it cannot run on this machine, or "".
refuses(case)  why it has no such case, or "".
create(case, name) / remove(case, name)   make and destroy what both sides share (before and after a run).
attach(case, name, role) -> endpoint      KIND "attach": role is "producer" or "consumer".
pair(case) -> (endpoint, endpoint)        KIND "inherit": before the fork, for the producer and the consumer.
command(case, name, role, cpu) -> argv    KIND "program".
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = ("native", "native_lamport", "shmring", "mp_queue", "mp_pipe", "mqueue")


def load(name: str) -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"no contender {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")
