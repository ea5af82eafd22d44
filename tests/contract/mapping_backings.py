"""The backings of the Mapping contract as data: how each is made, and what differs between them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import shmring
from shmring import Mapping
from shmring.backing import unlink_shm

PAGE = os.sysconf("SC_PAGESIZE")
ROOT = str(Path(shmring.__file__).parents[1])


@dataclass(frozen=True)
class Backing:
    kind: str
    is_named: bool  # pickles anywhere, opens by name
    is_sealed: bool  # cannot be cut
    make: Callable  # (folder, size, **options) -> Mapping
    forget: Callable  # (folder) -> None


def shm_name(folder: Path) -> str:
    return f"shmring-test-{os.getpid()}-{folder.name}"


def _forget_shm(folder: Path) -> None:
    try:
        unlink_shm(shm_name(folder))
    except FileNotFoundError:
        pass


def _from_fd(folder: Path, size: int, *, offset: int = 0, **options) -> Mapping:
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve = options.pop("reserve", True) and not options.get("noreserve")
        if offset >= 0 and 0 < size < 1 << 40:  # the rest is for from_fd itself to refuse
            file.truncate(offset + size)
            if reserve:
                os.posix_fallocate(file.fileno(), 0, offset + size)
        return Mapping.from_fd(file.fileno(), size, offset=offset, **options)


def _nothing(folder: Path) -> None:
    pass


BACKINGS = [
    Backing(
        "file",
        True,
        False,
        lambda folder, size, **how: Mapping.file(folder / "backing", size, create=True, **how),
        _nothing,
    ),
    Backing(
        "shm",
        True,
        False,
        lambda folder, size, **how: Mapping.shm(shm_name(folder), size, create=True, **how),
        _forget_shm,
    ),
    Backing("memfd", False, True, lambda folder, size, **how: Mapping.memfd(size, **how), _nothing),
    Backing("anonymous", False, True, lambda folder, size, **how: Mapping.anonymous(size, **how), _nothing),
    Backing("fd", False, False, _from_fd, _nothing),
]


def address_of(mapping: Mapping) -> int:
    return np.frombuffer(mapping, np.uint8).ctypes.data


def smaps_entry(address: int) -> dict[str, str]:
    """The fields that the kernel shows for the area that begins at this address."""
    entry: dict[str, str] = {}
    with open("/proc/self/smaps", encoding="utf-8") as lines:
        inside = False
        for line in lines:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                inside = int(head.partition("-")[0], 16) == address
            elif inside:
                key, _, value = line.partition(":")
                entry[key] = value.strip()
    return entry


def run_elsewhere(script: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> str:
    """Run a script in a process that is no relative of ours; its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        pass_fds=pass_fds,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": ROOT},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
