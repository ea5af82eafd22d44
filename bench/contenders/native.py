"""The native limit: our own C programs in bench/native, with the cached-index ring."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ..shapes import SEVERAL_SHAPES, Case

LABEL = "native (C)"
KIND = "program"
RING = True
INDEX = "cached"

SOURCES = Path(__file__).parent.parent / "native"
PROGRAMS = {"pingpong-spin": "pingpong", "pingpong-park": "pingpong", "wakeup": "wakeup", "idle": "wakeup"}
PAGE = 4096


@cache
def missing() -> str:
    if not shutil.which("make") or not shutil.which(os.environ.get("CC", "cc")):
        return "no C compiler: install gcc and make"
    built = subprocess.run(["make", "-s", "-C", str(SOURCES)], capture_output=True, text=True)
    return "" if built.returncode == 0 else f"does not compile: {built.stderr.strip()[-300:]}"


def refuses(case: Case) -> str:
    if case.shape in SEVERAL_SHAPES:
        return "the C ring has one producer and one consumer"
    return (
        "the C ring has no batch call; compare with its single messages"
        if case.shape == "oneway-many"
        else ""
    )


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
    options = {
        "role": role,
        "index": index,
        "cpu": "" if cpu is None else cpu,
        "capacity": case.capacity,
        "size": case.size,
        "count": case.count,
        "warmup": case.warmup,
        "pool": case.pool,
        "idle_ns": case.idle_ns,
        "spoil": int(case.spoil),
        "work": {"array": "array", "untouched": "untouched"}.get(case.shape, "copy"),
        "think_ns": case.think_ns,
        "wait": case.wait,
    }
    files = dict(zip(("path", "back"), paths(case, name), strict=False))
    program = SOURCES / "bin" / PROGRAMS.get(case.shape, "oneway")
    return [str(program), *(f"{key}={value}" for key, value in (options | files).items())]
