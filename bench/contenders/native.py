"""The native limit: our own C programs in bench/native, with the cached-index ring."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .. import machine
from ..shapes import SEVERAL_SHAPES, Case

LABEL = "native (C)"
PACKAGE = ""
KIND = "program"
RING = True
OFFERS = frozenset(("pingpong-spin", "pingpong-park", "oneway", "array", "records", "cython", "untouched", "wakeup", "idle"))
INDEX = "cached"

SOURCES = Path(__file__).parent.parent / "native"
PROGRAMS = {"pingpong-spin": "pingpong", "pingpong-park": "pingpong", "wakeup": "wakeup", "idle": "wakeup"}
PAGE = 4096


@cache
def missing() -> str:
    if not shutil.which("make") or not shutil.which(os.environ.get("CC", "cc")):
        return "no C compiler: install gcc and make"
    built = subprocess.run(["make", "-s", "-C", str(SOURCES), f"BIN={programs()}"], capture_output=True, text=True)
    return "" if built.returncode == 0 else f"does not compile: {built.stderr.strip()[-300:]}"


@cache
def programs() -> Path:
    """The folder of the compiled programs: beside the sources in a source tree, else among the user's caches."""
    if machine.IS_SOURCE_TREE and os.access(SOURCES, os.W_OK):
        return SOURCES / "bin"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))))
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "shmring-bench" / digest.hexdigest()[:16]


def refuses(case: Case) -> str:
    if case.shape in SEVERAL_SHAPES:
        return "the C ring has one producer and one consumer"
    return {
        "oneway-many": "the C ring has no batch call; compare with its single messages",
        "object": "C has no dicts",
        "object-many": "C has no dicts",
    }.get(case.shape, "")


def paths(case: Case, name: str) -> list[Path]:
    return [Path("/dev/shm") / f"{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def create(case: Case, name: str) -> None:
    for path in paths(case, name):
        with open(path, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, PAGE + case.capacity)


def remove(case: Case, name: str) -> None:
    for path in paths(case, name):
        path.unlink(missing_ok=True)


def command(case: Case, name: str, role: str, cpu: int | None, index: str = INDEX) -> list[str]:
    block = case.batch if case.shape == "records" else 1  # a block of records is one message
    options = {
        "role": role,
        "index": index,
        "cpu": "" if cpu is None else cpu,
        "capacity": case.capacity,
        "size": case.size * block,
        "count": case.count // block,
        "warmup": case.warmup // block,
        "pool": case.pool,
        "idle_ns": case.idle_ns,
        "spoil": int(case.spoil),
        "work": {"array": "array", "untouched": "untouched"}.get(case.shape, "copy"),
        "think_ns": case.think_ns,
        "wait": case.wait,
    }
    files = dict(zip(("path", "back"), paths(case, name), strict=False))
    program = programs() / PROGRAMS.get(case.shape, "oneway")
    return [str(program), *(f"{key}={value}" for key, value in (options | files).items())]
