"""shmring from Cython: the loops of examples/cython_consumer, which work without the GIL. Built when first asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

from .. import machine
from ..shapes import Case
from . import shmring as ring

LABEL = "shmring from Cython"
PACKAGE = ring.PACKAGE
KIND = ring.KIND
RING = True
OFFERS = frozenset(("cython",))

EXAMPLE = machine.ROOT / "examples" / "cython_consumer"
BUILT = machine.ROOT / "build" / "cython_consumer"

create = ring.create
remove = ring.remove


@cache
def missing() -> str:
    if reason := ring.missing():
        return reason
    if not machine.IS_SOURCE_TREE:
        return "its loops are an example in the source tree"
    if not find_spec("Cython") or not shutil.which(os.environ.get("CC", "cc")):
        return "needs Cython and a C compiler"
    BUILT.mkdir(parents=True, exist_ok=True)
    for path in EXAMPLE.iterdir():
        if path.suffix in (".pyx", ".py", ".toml"):
            shutil.copy2(path, BUILT)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "PYTHONPATH": str(machine.ROOT)}
    built = subprocess.run(command, cwd=BUILT, env=environment, capture_output=True, text=True)
    return "" if built.returncode == 0 else f"does not compile: {built.stderr.strip()[-300:]}"


def refuses(case: Case) -> str:
    return "" if case.shape in OFFERS else "as shmring: it is the same ring"


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import shmring

        sys.path.insert(0, str(BUILT))
        import loops  # type: ignore[import-not-found]

        self.ring = shmring.open(f"{name}-there")
        self.loops: Any = loops
        self.handle = (self.ring.producer if role == "producer" else self.ring.consumer)(wait=case.wait)

    def send_copies(self, messages: list[bytes], count: int) -> None:
        self.loops.send_copies(self.handle, messages, count)

    def check_copies(self, messages: list[bytes], count: int) -> int:
        """How many were wrong."""
        wrong: int = self.loops.check_copies(self.handle, messages, count)
        return wrong


attach = Endpoint
