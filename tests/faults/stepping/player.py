"""A participant whose operation is stepped: a forked child that attaches by itself, then does one thing between two marks."""

from __future__ import annotations

import os
import signal
import time
import traceback

WATCHDOG = 200  # seconds that a child may live


def segments() -> list[tuple[int, int]]:
    """Where shmring's compiled code lies in this process, and in every child forked from it."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            words = line.split()
            if len(words) > 5 and words[1].startswith("r-x") and "/shmring/" in words[5] and words[5].endswith(".so"):
                found.append(tuple(int(word, 16) for word in words[0].split("-")))
    return found


class Player:
    """One forked participant, stopped before its operation.

    Parameters
    ----------
    prepare, operate, finish : callables
        Called in the child, one after the other: prepare() -> state, operate(state), finish(state) -> what it reports.
    on_sleep : callable or None
        Called here, once, when the operation sleeps in a futex wait.
    """

    def __init__(self, stepper, places, prepare, operate, finish, on_sleep=None):
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _live(stepper, writer, prepare, operate, finish)
        os.close(writer)
        self.is_over = self.is_free = self.is_dead = False
        self.traced = stepper.Traced(self.pid, places, on_sleep)
        try:
            self.traced.begin()
        except RuntimeError:
            self.is_over = True
            os.waitpid(self.pid, 0) if self.is_alive() else None
            raise RuntimeError(self.report()) from None

    def is_alive(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def kill(self) -> None:
        """SIGKILL; gone when this returns."""
        if not self.is_over:
            self.is_over = self.is_dead = True
            self.traced.kill()

    def stop(self) -> None:
        """SIGSTOP, and no debugger any more: a stopped process like any other."""
        self.traced.stop()
        self.is_free = True
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def complete(self) -> str:
        """Let it end its operation, and the process. Returns what it reports."""
        if not self.is_free:
            self.stop()
        self.is_over = True
        while True:
            os.kill(self.pid, signal.SIGCONT)
            _, status = os.waitpid(self.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
        report = self.report()
        if status != 0:
            raise AssertionError(f"it ended with status {status:#x} after it was stopped and went on:\n{report}")
        return report

    def report(self) -> str:
        with os.fdopen(self.reader, "r") as pipe:
            self.reader = -1
            return pipe.read()

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.traced.close()
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


def _live(stepper, writer, prepare, operate, finish):
    try:
        signal.alarm(WATCHDOG)
        stepper.trace_me()
        state = prepare()
        stepper.stop_here()
        operate(state)
        stepper.stop_here()
        os.write(writer, finish(state).encode())
        os._exit(0)
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
        os._exit(70)


def corpse(play) -> int:
    """A participant that does `play()` and is gone, as by SIGKILL. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            kept = play()
            os.kill(os.getpid(), signal.SIGKILL)
            del kept
        finally:
            os._exit(70)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "the one that was to die first failed"
    return pid


class Sleeper:
    """A participant that nobody traces: `play()` -> what it reports, begun when it sleeps in a futex wait."""

    def __init__(self, play):
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.alarm(WATCHDOG)
                os.write(writer, play().encode())
                os._exit(0)
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
                os._exit(70)
        os.close(writer)
        while not self.is_asleep():
            time.sleep(0.0001)

    def is_asleep(self) -> bool:
        with open(f"/proc/{self.pid}/syscall") as file:
            return file.read().split()[0] in ("202", "449")

    def report(self) -> str:
        """What it says at its end, which must come."""
        with os.fdopen(self.reader) as pipe:
            self.reader = -1
            text = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        if status:
            raise AssertionError(f"the one that slept ended with status {status:#x}:\n{text}")
        return text

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.reader >= 0:
            os.close(self.reader)
