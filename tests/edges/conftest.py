"""Fixtures of the tests at the edges of the package."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shmring_command import command_line, environment

names_given = 0


@pytest.fixture
def ring_name() -> Iterator[str]:
    """The name of a ring in shared memory that the test makes; the test fails if it leaves anything there."""
    global names_given
    names_given += 1
    name = f"shmring-test-cli-{os.getpid()}-{names_given}"
    yield name
    left = sorted(Path("/dev/shm").glob(f"*{name}*"))
    for path in left:
        path.unlink()
    assert not left


def heed_signals() -> None:
    """In the child: as in a terminal, also where the tests run under nohup or as a background job."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A function that starts `shmring WORDS` in the background; what still runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def start_one(*words: object, **how: object) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        how = {**pipes, "env": environment(), "bufsize": 0, "preexec_fn": heed_signals, **how}
        process = subprocess.Popen(command_line(*words), **how)
        running.append(process)
        return process

    yield start_one
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()
