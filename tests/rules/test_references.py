"""No public call keeps what it made: neither a Python object nor memory of C, whether it returns or raises."""

from __future__ import annotations

import gc
import sys

import awaited_calls  # noqa: F401  adds to CALLS
import public_object_calls  # noqa: F401  adds to CALLS
import public_queue_calls  # noqa: F401
import pytest
from cycles import lent_bytes
from public_array_calls import CALLS
from public_array_calls import ArrayStage as Stage

import shmring

TIMES = 100
SPECIAL = ("__enter__", "__exit__", "__iter__", "__next__", "__len__", "__getitem__", "__setitem__")


@pytest.fixture(scope="module")
def stage(tmp_path_factory, name_prefix):
    made = Stage(f"{name_prefix}references", tmp_path_factory.mktemp("stage"))
    for call in CALLS.values():
        for _ in range(3):  # what is loaded, opened or kept once
            call(made)
            made.settle()
    gc.collect()
    gc.freeze()     # what earlier tests left in memory is not looked through again for each call
    yield made
    gc.unfreeze()
    made.close()


def kept(call, stage) -> str | None:
    """What each call keeps, if it does so every time it is tried."""
    for _ in range(5):
        gc.collect()
        memory, blocks = lent_bytes() or 0, sys.getallocatedblocks()
        for _ in range(TIMES):
            call(stage)
            stage.settle()
        gc.collect()
        blocks, memory = sys.getallocatedblocks() - blocks, (lent_bytes() or 0) - memory
        if blocks < TIMES // 4 and memory < 8 * TIMES:
            return None
    return f"{blocks / TIMES} objects, {memory / TIMES} bytes of C for each call"


@pytest.mark.parametrize("name", {call: name for name, call in CALLS.items()}.values())  # each once, whatever its names
def test_a_call_keeps_nothing(stage, name):
    assert (answer := kept(CALLS[name], stage)) is None, answer


def test_every_public_call_is_measured():
    tables = {name.partition(":")[0] for name in CALLS}
    missing = []
    for name in shmring.__all__:
        each = getattr(shmring, name)
        if isinstance(each, type) and not issubclass(each, BaseException):
            fields = getattr(each, "__dataclass_fields__", ())
            missing += [f"{name}.{method}" for method in dir(each) if is_call(method) and method not in fields]
        elif not isinstance(each, type):
            missing.append(name)
    assert sorted(set(missing) - tables) == []


def is_call(name: str) -> bool:
    return name in SPECIAL or not name.startswith("_")


def test_a_call_that_keeps_something_is_found(stage):
    keeper = []
    assert kept(lambda stage: keeper.append(object()), stage)
