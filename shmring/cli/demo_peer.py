"""One of the two processes of `shmring demo`: python -m shmring.cli.demo_peer ROLE RING...

It prints a line of JSON when it is ready, waits for a line on standard input, does its work, and
prints what it did as a line of JSON. Only the work is timed: reading the files and computing
SHA-256 come before and after.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import os
import signal
import sys
import sysconfig
from array import array
from collections.abc import Iterable
from pathlib import Path
from time import monotonic_ns, perf_counter_ns
from typing import Any

import shmring

# Also ends a peer whose parent was killed.
LIFETIME_S = 60
CORPUS_BYTES = 64 * 1024 * 1024
# The files are sent this often: once takes a few milliseconds, too short to be a measurement.
FILE_ROUNDS = 4
ROUND_TRIPS = {"spin": 100_000, "park": 20_000}
WARM_UP = 2_000
ROUND_TRIPS_LIMIT_NS = 2_000_000_000
PAYLOAD_BYTES = 64
LATENCY_MAX_NS = 60_000_000_000


def main() -> None:
    """Play one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("rings", nargs="+")
    parser.add_argument("--core", type=int)
    parser.add_argument("--unit", choices=("line", "file"))
    parser.add_argument("--calls", choices=("single", "batch"))
    parser.add_argument("--wait", default="adaptive")
    parser.add_argument("--share", type=float, default=1.0)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the parent as well, which explains it
    signal.alarm(LIFETIME_S)
    os.sched_setaffinity(0, [args.core])
    answer(ROLES[args.role](args))


def answer(result: dict[str, Any]) -> None:
    """Tell the parent."""
    print(json.dumps(result), flush=True)


def get_ready() -> None:
    """Tell the parent that the work can start, and wait for its word."""
    answer({"is_ready": True})
    sys.stdin.readline()


# ---- one way ----


def corpus(share: float) -> list[Path]:
    """The sources of this interpreter's standard library, or a share of them, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"}
    paths = sorted(path for path in root.rglob("*.py") if installed.isdisjoint(path.relative_to(root).parts))
    chosen, limit = [], CORPUS_BYTES
    for path in paths[: max(1, int(len(paths) * share))]:
        limit -= path.stat().st_size
        if limit < 0:
            break
        chosen.append(path)
    return chosen


def read_messages(args: argparse.Namespace) -> list[bytes]:
    """The messages of this step, once."""
    contents = [path.read_bytes() for path in corpus(args.share)]
    if args.unit == "line":
        return [line for content in contents for line in io.BytesIO(content)]
    return contents


def rounds(args: argparse.Namespace) -> int:
    """How often the messages are sent."""
    return FILE_ROUNDS if args.unit == "file" else 1


def account(lengths: Iterable[int], contents: Iterable[bytes | memoryview], **times: int) -> dict[str, Any]:
    """What both sides must agree on."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    lengths = array("Q", lengths)
    return {
        "messages": len(lengths),
        "nbytes": sum(lengths),
        "sha256": digest.hexdigest(),
        "lengths_sha256": hashlib.sha256(lengths.tobytes()).hexdigest(),
        **times,
    }


def send(args: argparse.Namespace) -> dict[str, Any]:
    """Send every message, then shut the ring down."""
    messages = read_messages(args)
    times = rounds(args)
    ring = shmring.open(args.rings[0], timeout=0)
    with ring.producer() as tx:
        get_ready()
        start_ns = monotonic_ns()
        for _ in range(times):
            if args.calls == "batch":
                tx.send_many(messages)
            else:
                tx_send = tx.send
                for message in messages:
                    tx_send(message)
        ring.shutdown()
    content = b"".join(messages)
    return account(list(map(len, messages)) * times, itertools.repeat(content, times), start_ns=start_ns)


def recv(args: argparse.Namespace) -> dict[str, Any]:
    """Receive every message until the ring is shut down."""
    ring = shmring.open(args.rings[0], timeout=0)
    with ring.consumer() as rx:
        if args.unit == "file":
            return recv_files(args, rx)
        messages: list[bytes] = []
        if args.calls == "batch":
            get_ready()
            try:
                while True:
                    messages += rx.recv_many(4096)
            except shmring.ShutDown:
                end_ns = monotonic_ns()
        else:
            keep = messages.append
            get_ready()
            for message in rx:
                keep(message)
            end_ns = monotonic_ns()
    return account(map(len, messages), [b"".join(messages)], end_ns=end_ns)


def recv_files(args: argparse.Namespace, rx: shmring.Consumer) -> dict[str, Any]:
    """Receive into one large buffer, which is there before the clock starts."""
    total = sum(path.stat().st_size for path in corpus(args.share)) * rounds(args)
    # Filled, because memory that was never touched would cost a page fault per 4 KiB while the clock runs.
    buffer = memoryview(bytearray(b"\xff") * (total + 1))
    lengths = []
    offset = 0
    get_ready()
    try:
        while True:
            length = rx.recv_into(buffer[offset:])
            lengths.append(length)
            offset += length
    except shmring.ShutDown:
        end_ns = monotonic_ns()
    return account(lengths, [buffer[:offset]], end_ns=end_ns)


# ---- there and back ----


def ping(args: argparse.Namespace) -> dict[str, Any]:
    """Send 64 B, wait for them to come back, and note how long it took."""
    from hdrh.histogram import HdrHistogram

    there, back = (shmring.open(name, timeout=0) for name in args.rings)
    wanted = int(ROUND_TRIPS[args.wait] * args.share)
    durations = array("Q")
    note, clock = durations.append, perf_counter_ns
    with there.producer(wait=args.wait) as tx, back.consumer(wait=args.wait) as rx:
        send, recv = tx.send, rx.recv
        get_ready()
        limit_ns = clock() + ROUND_TRIPS_LIMIT_NS
        for index in range(WARM_UP + wanted):
            message = index.to_bytes(PAYLOAD_BYTES, "little")
            before = clock()
            send(message)
            reply = recv()
            after = clock()
            if reply != message:
                raise RuntimeError(f"round trip {index}: another message came back")
            note(after - before)
            if after > limit_ns:
                break
        there.shutdown()
    histogram = HdrHistogram(1, LATENCY_MAX_NS, 3)
    # One core for two processes may be so slow that only the warm-up was done.
    for duration in durations[WARM_UP:] or durations:
        histogram.record_value(duration)
    return {"histogram": histogram.encode().decode("ascii")}


def pong(args: argparse.Namespace) -> dict[str, Any]:
    """Send everything back."""
    there, back = (shmring.open(name, timeout=0) for name in args.rings)
    with there.consumer(wait=args.wait) as rx, back.producer(wait=args.wait) as tx:
        send = tx.send
        get_ready()
        for message in rx:
            send(message)
    return {}


ROLES = {"send": send, "recv": recv, "ping": ping, "pong": pong}

if __name__ == "__main__":
    main()
