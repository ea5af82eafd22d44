"""`shmring demo`: two unrelated processes, real data, checked and measured.

This process makes the rings, starts the peers (`shmring.cli.demo_peer`, two fresh interpreters that
know only the names of the rings), lets them go at the same moment, compares what they report, and
shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shmring
from shmring.cli.arguments import add_command
from shmring.cli.failure import CommandFailed

CAPACITY_BYTES = 4 * 1024 * 1024
PEER_TIMEOUT_S = 60

DESCRIPTION = """\
Start a sender and a receiver as two unrelated processes and show what a ring
does for them on this machine.

The input is the source of the Python standard library that runs this command:
first each line is a message, then each file. SHA-256, number and lengths of the
messages are compared on both sides. Then 64 bytes go there and back through two
rings, many times, once with spinning and once with sleeping (futex) processes."""

EPILOG = """\
What it needs beside shmring is the extra: pip install 'shmring[cli]'

The two processes are pinned to two cores if there are two. A virtual machine,
or a busy one, shows long tails (p99 and above) of its own.

exit status:
  0 every checksum matched, 1 one did not, or a process failed,
  2 wrong usage, 129 terminal closed, 130 Ctrl-C, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `demo` to the command line."""
    parser = add_command(commands, "demo", run, "two processes, real data, checksums and figures", DESCRIPTION, EPILOG)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look or a test")


@dataclass(frozen=True)
class Transfer:
    """One step of the demo: the same messages sent, received and compared."""

    label: str
    unit: str  # what one message is: "line" or "file"
    calls: str  # "single": one call per message; "batch"
    sent: dict[str, Any] = field(default_factory=dict)
    received: dict[str, Any] = field(default_factory=dict)

    @property
    def is_identical(self) -> bool:
        """Whether the receiver got what was sent: content, number and the border of each message."""
        return bool(self.sent) and all(
            self.sent[key] == self.received[key] for key in ("sha256", "messages", "nbytes", "lengths_sha256")
        )

    @property
    def seconds(self) -> float:
        """From the first send to the end of the last receive, by the machine's monotonic clock."""
        return max(self.received["end_ns"] - self.sent["start_ns"], 1) / 1e9


TRANSFERS = (
    Transfer("a line; send, recv", "line", "single"),
    Transfer("a line; send_many, recv_many", "line", "batch"),
    Transfer("a file; send, recv_into", "file", "single"),
)
WAITS = ("spin", "park")


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring demo`."""
    try:
        import hdrh  # noqa: F401  (looked for here, so that its absence is known before any work is done)

        from shmring.cli.demo_report import Report
    except ImportError as error:
        raise CommandFailed(f"{error.name} is missing; pip install 'shmring[cli]'") from None

    started = time.monotonic()
    cores = pick_cores()
    report = Report(cores, CAPACITY_BYTES)
    share = 0.1 if args.quick else 1.0
    done = []
    for step in TRANSFERS:
        with report.busy(step.label):
            done.append(transfer(step, cores, share))
    report.transfers(done)
    trips = []
    for wait in WAITS:
        with report.busy(f"64 B there and back, {wait}"):
            trips.append((wait, round_trips(wait, cores, share)))
    report.round_trips(trips)
    are_identical = all(step.is_identical for step in done)
    report.verdict(are_identical, time.monotonic() - started)
    return 0 if are_identical else 1


def transfer(step: Transfer, cores: list[int], share: float) -> Transfer:
    """Carry out one step; the same step with what both sides report."""
    options = ["--unit", step.unit, "--calls", step.calls, "--share", str(share)]
    with ring("lines" if step.unit == "line" else "files") as name:
        sent, received = peers(("send", [name], cores[0], options), ("recv", [name], cores[-1], options))
    return Transfer(step.label, step.unit, step.calls, sent, received)


def round_trips(wait: str, cores: list[int], share: float) -> str:
    """Measure 64 B round trips; the HdrHistogram of their durations in ns, encoded."""
    options = ["--wait", wait, "--share", str(share)]
    with ring("there") as there, ring("back") as back:
        result, _ = peers(
            ("ping", [there, back], cores[0], options),
            ("pong", [there, back], cores[-1], options),
        )
    return result["histogram"]


def pick_cores() -> list[int]:
    """Two cores for the two processes, if possible not two threads of one core; one if there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    first = allowed[0]
    others = [core for core in allowed[1:] if physical_core(core) != physical_core(first)] or allowed[1:]
    return [first, *others[:1]]


def physical_core(core: int) -> tuple[str, str] | int:
    """The core's package and physical core; just its number where the kernel does not say."""
    topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        return (topology / "physical_package_id").read_text(), (topology / "core_id").read_text()
    except OSError:
        return core


@contextmanager
def ring(purpose: str) -> Iterator[str]:
    """A ring for one step: its name. It is gone afterwards, whatever happens."""
    name = f"shmring-demo-{os.getpid()}-{purpose}"
    # A signal may arrive when the ring has its name and `create` has not returned yet.
    try:
        shmring.create(name, CAPACITY_BYTES, producers="single").close()
        yield name
    finally:
        with suppress(shmring.RingNotFound):
            shmring.unlink(name)


def peers(*roles: tuple[str, list[str], int, list[str]]) -> list[dict[str, Any]]:
    """Run the peers at the same time; what each of them reports."""
    started: list[subprocess.Popen[str]] = []
    try:
        for role, names, core, options in roles:
            command = [
                sys.executable,
                "-m",
                "shmring.cli.demo_peer",
                role,
                *names,
                "--core",
                str(core),
                *options,
            ]
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        collect(started)  # "ready": everything is imported, loaded and attached
        for peer in started:
            print("go", file=peer.stdin, flush=True)
        return collect(started)
    finally:
        for peer in started:
            peer.kill()
        for peer in started:
            peer.communicate()


def collect(started: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """One line of JSON from each peer. The first one that ends without it fails the step."""
    lines: dict[int, str] = {}
    deadline = time.monotonic() + PEER_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        for index, peer in enumerate(started):
            assert peer.stdout is not None
            selector.register(peer.stdout, selectors.EVENT_READ, (index, peer.stdout))
        while len(lines) < len(started):
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                raise CommandFailed(f"no answer from a process within {PEER_TIMEOUT_S} s")
            for key, _ in ready:
                index, output = key.data
                line = output.readline()
                if not line:
                    raise CommandFailed(f"a process ended early: {' '.join(started[index].args[3:5])}")
                lines[index] = line
                selector.unregister(key.fileobj)
    return [json.loads(lines[index]) for index in range(len(started))]
