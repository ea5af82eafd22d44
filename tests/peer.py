"""Unrelated processes that a test talks to line by line: it reads what they print and writes what they wait
for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from multiprocessing import context
from pathlib import Path

import shmring

ROOT = Path(shmring.__file__).parents[1]
PROGRAMS = Path(__file__).parent / "programs"

# Every inline program has these. `say` answers the test, `hear` waits for it. One that hangs ends itself
# before the watchdog of the test ends the whole run.
_PRELUDE = """
import faulthandler, os, signal, sys, threading, time
faulthandler.dump_traceback_later(200, exit=True)
import shmring
from shmring import WaitPolicy
def say(*words): print(*words, flush=True)
def hear():
    line = sys.stdin.readline()
    if not line: os._exit(99)       # the test is gone
    return line.rstrip("\\n")
"""


class Peer:
    """A process started with subprocess. `program` is source text, or the name of a file in
    tests/programs/."""

    def __init__(self, program: str, *arguments: object, **options: object) -> None:
        words = [sys.executable]
        words += (
            [str(PROGRAMS / program)]
            if program.endswith(".py")
            else ["-c", _PRELUDE + textwrap.dedent(program)]
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        self.process = subprocess.Popen(
            words + [str(each) for each in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> str:
        """The next line it prints."""
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise AssertionError(f"the peer ended with {code}:\n{self.process.stderr.read()}")
        return line.rstrip("\n")

    def say(self, line: object = "") -> None:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def expect(self, line: str) -> None:
        heard = self.hear()
        assert heard == line, f"heard {heard!r} instead of {line!r}"

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self.process.kill()
        self.process.wait()

    def finish(self, code: int = 0) -> str:
        """Wait for its end; what it still printed."""
        out, err = self.process.communicate()
        assert self.process.returncode == code, (
            f"ended with {self.process.returncode} instead of {code}:\n{err}"
        )
        return out

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


class Duplicate:
    """A descriptor on its way to a child, as multiprocessing's spawn pickles it; here the child is
    ourselves."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    def detach(self) -> int:
        return self.fd


@contextlib.contextmanager
def descriptors_travel():
    """Pickle as for the arguments of a child process that is being started."""

    class Popen:
        DupFd = Duplicate

        @staticmethod
        def duplicate_for_child(fd):
            return fd

    context.set_spawning_popen(Popen())
    try:
        yield
    finally:
        context.set_spawning_popen(None)
