"""Aeron through pyaeron: its IPC medium, with the C media driver that pyaeron brings, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from ..polling import until_given
from ..shapes import MIB, Case
from . import not_installed

LABEL = "Aeron"
PACKAGE = "pyaeron"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-spin", "oneway", "mpmc", "fanout"))
LARGEST = 1 * MIB  # an eighth of a term
CHANNEL = "aeron:ipc?term-length=16m"
STREAMS = {"there": 10, "back": 11}
DRIVER = """
import pyaeron, sys
driver = pyaeron.MediaDriver(dir=sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
driver.close()
"""

_drivers: dict[str, subprocess.Popen[str]] = {}


def missing() -> str:
    if sys.version_info < (3, 12):
        return "pyaeron needs Python 3.12 or later"
    return not_installed("pyaeron", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc") and case.members > 1:
        return "no work queue: every subscriber gets every message"
    if case.shape in OFFERS and case.size > LARGEST:
        return f"no message above {LARGEST} bytes in terms of 16 MiB"
    return ""


def _folder(name: str) -> Path:
    return Path("/dev/shm" if Path("/dev/shm").exists() else tempfile.gettempdir()) / f"{name}-aeron"


def create(case: Case, name: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(_folder(name))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _drivers[name] = driver
    assert driver.stdout
    if not driver.stdout.readline():
        raise RuntimeError("the media driver does not start")


def remove(case: Case, name: str) -> None:
    if driver := _drivers.pop(name, None):
        try:
            driver.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()
    shutil.rmtree(_folder(name), ignore_errors=True)


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import pyaeron

        self.client = pyaeron.Aeron(dir=str(_folder(name)))
        out, back = ("there", "back") if role == "producer" else ("back", "there")
        if role == "consumer" or case.two_way:
            subscription = self.client.add_subscription(CHANNEL, STREAMS[back])
            got: deque[bytes] = deque()
            poll, take = subscription.poll, got.popleft

            def handle(buffer: pyaeron.BufferView, header: pyaeron.Header) -> None:
                got.append(buffer.tobytes())

            def ask() -> bytes | None:
                if not got:
                    poll(handle)
                return take() if got else None

            self.recv = until_given(ask, case)
            (_folder(name) / f"{back}-{number}").touch()
        if role == "producer" or case.two_way:
            while len(list(_folder(name).glob(f"{out}-*"))) < case.groups * case.members:
                time.sleep(0.001)  # they would never get what was sent before they came
            publication = self.client.add_publication(CHANNEL, STREAMS[out])
            publication.await_connected()
            offer, give_way = publication.offer, os.sched_yield if case.is_crowded else _nothing

            def send(message: bytes) -> None:
                while not offer(message):
                    give_way()

            self.send = send


def _nothing() -> None:
    """Whoever has a core to itself asks again at once."""


attach = Endpoint
