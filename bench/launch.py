"""Starts all sides of one run, tells them to go, collects their results, and outlives whatever they do.

Every started process leads a process group of its own, so that a fork of it is ended with it; only these
groups are signalled.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from . import contenders, several
from .machine import IS_SOURCE_TREE, ROOT
from .shapes import Case

_serial = itertools.count()

# Where the workers start: `-m` looks there first. Never the folder of an installed shmring, whose modules would stand
# before those of the standard library that have the same names.
FOLDER = ROOT if IS_SOURCE_TREE else Path("/")


class RunFailed(Exception):
    """A contender crashed, hung or moved wrong bytes; the text says which."""


class RunHung(RunFailed):
    """It took longer than it was given, and was ended."""


def run(contender_name: str, case: Case, cpus: list[int | None], timeout: float) -> dict[str, dict]:
    """One run of one contender.

    Returns the results of both sides, {"producer": {...}, "consumer": {...}}. Raises RunFailed.
    """
    contender = contenders.load(contender_name)
    name = f"bench-{os.getpid()}-{next(_serial)}"
    seats = several.seats(case, cpus)
    with several.tickets(case) as tickets:

        def worker(role: str, number: int = 0) -> list[str]:
            fixed = [contender_name, name, json.dumps(cpus), str(tickets), case.to_json()]
            return [sys.executable, "-m", f"{__package__}.worker", role, str(number), *fixed]

        if contender.KIND == "inherit":
            return run_processes([worker("family")], case, timeout, tickets)
        try:
            _create(contender, case, name)
            if contender.KIND == "program":
                commands = [contender.command(case, name, seat.role, seat.cpu) for seat in seats]
            elif contender.KIND == "alone" or case.alone:
                commands = [worker("alone")]
            else:
                commands = [worker(seat.role, seat.number) for seat in seats]
            return run_processes(commands, case, timeout, tickets)
        finally:
            contender.remove(case, name)


def _create(contender: ModuleType, case: Case, name: str) -> None:
    try:
        contender.create(case, name)
    except Exception as error:  # whatever it is, it is this contender's failure and not the harness's
        raise RunFailed(f"could not be set up: {error!r}") from error


def run_processes(
    commands: list[list[str]], case: Case, timeout: float, inherited: int | None = None
) -> dict[str, dict]:
    """Each command prints "ready", waits for a line, and prints its result; or, for a family, all results in one."""
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryFile("w+") as complaints:
        processes: list[subprocess.Popen[str]] = []
        try:
            for command in commands:
                processes.append(_start(command, complaints, inherited))
        except OSError as error:
            for process in processes:
                _end(process, grace=0)
            raise RunFailed(f"cannot be started: {error}") from error
        lines: queue.Queue[tuple[int, str]] = queue.Queue()
        forwarders = [
            threading.Thread(target=_forward, args=(i, process, lines), daemon=True) for i, process in enumerate(processes)
        ]
        for forwarder in forwarders:
            forwarder.start()
        try:
            _collect(len(processes), lines, deadline, complaints)  # "ready" from each
            for process in processes:
                assert process.stdin
                process.stdin.write("go\n")
                process.stdin.flush()
            results = [json.loads(line) for line in _collect(len(processes), lines, deadline, complaints)]
        except BrokenPipeError:
            raise RunFailed(f"ended before the start: {_tail(complaints)}") from None
        finally:
            for process, forwarder in zip(processes, forwarders, strict=True):
                _end(process)
                forwarder.join()  # all that could write into its pipe has been ended
                assert process.stdout
                process.stdout.close()
    sides = several.combined(case, results[0] if len(results) == 1 else results)
    if lost := sum(result.get("lost", 0) for result in _all(results)):
        raise RunFailed(f"lost {lost} of {case.warmup + case.count} messages")
    wrong = sum(side["wrong"] for side in sides.values())
    if wrong:
        raise RunFailed(
            f"content check: {wrong} wrong of {case.warmup + case.count} messages of {case.size} bytes"
        )
    return sides


def _all(results: list[Any]) -> list[dict]:
    """The results of all seats; a family has them in one."""
    return [each for result in results for each in (result if isinstance(result, list) else [result])]


def _start(command: list[str], complaints: IO[str], inherited: int | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        start_new_session=True,
        pass_fds=() if inherited is None else (inherited,),
        cwd=FOLDER,
    )


def _forward(i: int, process: subprocess.Popen[str], lines: Any) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put((i, line))
    lines.put((i, ""))


def _collect(count: int, lines: Any, deadline: float, complaints: IO[str]) -> list[str]:
    """One line from each process, in the order of the processes."""
    got: dict[int, str] = {}
    while len(got) < count:
        try:
            i, line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise RunHung(f"timed out {_tail(complaints)}".strip()) from None
        if line:
            got[i] = line
        elif i not in got:
            raise RunFailed(f"died: {_tail(complaints)}")
    return [got[i] for i in range(count)]


def _tail(complaints: IO[str]) -> str:
    complaints.seek(0)
    lines = [line for line in complaints.read().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _end(process: subprocess.Popen[str], grace: float = 0.5) -> None:
    """Lets a process leave by itself for a moment, then ends its group. Not reaped before: the group id stays
    ours.
    """
    if process.stdin:
        process.stdin.close()
    pidfd = os.pidfd_open(process.pid)
    try:
        select.select([pidfd], [], [], grace)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    process.wait()
