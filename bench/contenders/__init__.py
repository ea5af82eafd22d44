"""One file per contender, all with the same names.

LABEL       as the report calls it.
PACKAGE     the distribution it comes in, as pip knows it; "" for what is always there.
KIND        "program": a C program per role; "attach": unrelated Python processes that find each other by
name; "inherit": one Python process that forks the others, because the object travels no other way; "alone":
one Python process, with loops of its own.
RING        whether warm-up must go once round a ring of the case's capacity, so that every page has been touched before
the clock starts.
OFFERS      the shapes it takes part in (`shapes.SHAPES`); why not in the others: `WHY_NOT` below, or `refuses`.
missing()   why it cannot run on this machine, or "".
refuses(case)  why it has no such case of a shape that it offers, or of one whose absence needs more words, or "".
create(case, name) / remove(case, name)   make and destroy what both sides share (before and after a run).
attach(case, name, role, number) -> endpoint   KIND "attach": role is "producer" or "consumer", number says which
of several; or "alone", for a shape that has one process.
pair(case) -> (endpoint, endpoint)        KIND "inherit": before the fork, for the producers and the consumers.
command(case, name, role, cpu) -> argv    KIND "program".
run(endpoint, case, start) -> result      KIND "alone".

An endpoint has the calls that the loops of its shapes use: send, recv (bytes, or objects in the object shapes),
send_many, recv_many, send_array, recv_array, reserve_each, peek_each, write, read, connect, send_copies,
check_copies. One whose transport can lose
messages also says `lost`, how many it knows of.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from ..shapes import OWN_SHAPES, Case

NAMES = (
    "native",
    "native_lamport",
    "shmring",
    "shmring_objects",
    "shmring_queue",
    "shmring_records",
    "shmring_cython",
    "mp_queue",
    "mp_simplequeue",
    "mp_pipe",
    "mqueue",
    "pyzmq",
    "faster_fifo",
    "iceoryx2",
    "msgq",
    "membridge",
    "kickmsg",
    "zenoh",
    "aeron",
    "asyncio_streams",
    "python_alone",
)
OWN = "shmring"  # the one that the others are there for
OURS = ("shmring", "shmring_objects", "shmring_queue", "shmring_records", "shmring_cython")  # its ways
NATIVE = ("native", "native_lamport")

WHY_NOT = {
    "pingpong-spin": "cannot spin: who receives waits in the kernel",
    "pingpong-park": "cannot sleep until a message comes: it has to be asked again and again",
    "wakeup": "cannot sleep until a message comes: it has to be asked again and again",
    "idle": "cannot sleep until a message comes: it has to be asked again and again",
    "oneway-many": "no batch call",
    "object": "moves bytes; what a user would do is pickle them by hand",
    "object-many": "no batch call",
    "array": "no call for arrays",
    "records": "no typed records",
    "cython": "nothing to call from Cython",
    "aio": "nothing to await",
    "untouched": "no zero-copy calls",
    "mpmc": "no work queue: one process writes and one reads",
    "mpmc-many": "no batch call on a work queue",
    "fanout": "no groups: each message goes to one reader",
}


def load(name: str) -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"no contender {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")


def refusal(name: str, case: Case) -> str:
    """Why that contender has no such case, or ""."""
    if case.shape in OWN_SHAPES and name != OWN:
        return "shmring beside itself"
    contender = load(name)
    return contender.refuses(case) or ("" if case.shape in contender.OFFERS else WHY_NOT.get(case.shape, "not offered"))


def not_installed(module: str, package: str) -> str:
    """The reason of a contender whose module cannot be imported, or ""."""
    return "" if find_spec(module) else f"needs pip install {package}"
