"""`python -m bench.blocks_and_loops`: arrays of records, and Cython loops without the GIL, against the native program.

Two rows, measured like the others (method.md): pinned, interleaved, content checked, median of paired ratios.

    records   32-byte records in blocks of 1,000: `write` and `read` of an ArrayRing    goal >= 0.9 x native, 32,000 bytes
    cython    64-byte messages in the loops of examples/cython_consumer                 goal >= 0.7 x native, 64 bytes

The native program copies as much in and out of its ring, in the same number of messages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

from . import contenders, launch, machine, payload
from .loops import STRIDE, clock
from .shapes import MIB, Case, case_from_json
from .worker import pin, wait_for_start

EXAMPLE = machine.ROOT / "examples" / "cython_consumer"
BUILT = machine.ROOT / "build" / "cython_consumer"
RECORDS, RECORD_BYTES = 1000, 32
CASES = {
    "records": Case("oneway", RECORDS * RECORD_BYTES, capacity=16 * MIB, pool=3),
    "cython": Case("oneway", 64, capacity=16 * MIB, pool=61),
}
GOALS = {"records": 0.9, "cython": 0.7}


def record_dtype() -> Any:
    import numpy

    return numpy.dtype([("number", "<u8"), ("rest", "V24")])


def build() -> None:
    """The example's extension, outside of the tree."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for path in EXAMPLE.iterdir():
        if path.suffix in (".pyx", ".py", ".toml"):
            shutil.copy2(path, BUILT)
    environment = {**os.environ, "PYTHONPATH": str(machine.ROOT)}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=BUILT, env=environment, check=True, stdout=subprocess.DEVNULL)


# ---- one side of a run, as a process of its own ------------------------------------------------------------------------


def write_records(ring: Any, case: Case, start: Any) -> dict:
    import numpy

    blocks = [numpy.frombuffer(message, ring.dtype) for message in payload.build(case, case.spoil)]
    with ring.producer(wait=case.wait) as tx:
        write = tx.write
        for block in islice(cycle(blocks), case.warmup):
            write(block)
        start()
        began = clock()
        for _ in range(case.count // len(blocks)):
            for block in blocks:
                write(block)
        return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def read_records(ring: Any, case: Case, start: Any) -> dict:
    expected = payload.build(case)
    with ring.consumer(wait=case.wait) as rx:
        read = rx.read
        wrong = sum(read(RECORDS).tobytes() != message for message in islice(cycle(expected), case.warmup))
        kept = []
        start()
        began = clock()
        for number in range(case.count):
            block = read(RECORDS)
            if number % STRIDE == 0:
                kept.append((number, block))
            elif block[0][0] != number % len(expected):
                wrong += 1
        ended = clock()
    wrong += sum(block.tobytes() != expected[number % len(expected)] for number, block in kept)
    return {"start_ns": began, "end_ns": ended, "wrong": wrong}


def loops_send(ring: Any, case: Case, start: Any) -> dict:
    sys.path.insert(0, str(BUILT))
    import loops  # type: ignore[import-not-found]

    messages = payload.build(case, case.spoil)
    with ring.producer(wait=case.wait) as tx:
        loops.send_copies(tx, messages, case.warmup)
        start()
        began = clock()
        loops.send_copies(tx, messages, case.count)
        return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def loops_check(ring: Any, case: Case, start: Any) -> dict:
    sys.path.insert(0, str(BUILT))
    import loops

    messages = payload.build(case)
    with ring.consumer(wait=case.wait) as rx:
        wrong = loops.check_copies(rx, messages, case.warmup)
        start()
        began = clock()
        wrong += loops.check_copies(rx, messages, case.count)
        return {"start_ns": began, "end_ns": clock(), "wrong": wrong}


SIDES = {
    ("records", "producer"): write_records,
    ("records", "consumer"): read_records,
    ("cython", "producer"): loops_send,
    ("cython", "consumer"): loops_check,
}


def work(row: str, role: str, name: str, cpu: str, case_json: str) -> None:
    import shmring

    pin(int(cpu) if cpu else None)
    with shmring.open(name) as ring:
        print(json.dumps(SIDES[row, role](ring, case_from_json(case_json), wait_for_start)), flush=True)


# ---- the runs ----------------------------------------------------------------------------------------------------------


def run_shmring(row: str, case: Case, cpus: list[int], timeout: float) -> dict[str, dict]:
    import shmring

    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    options = {"dtype": record_dtype()} if row == "records" else {}
    shmring.create(name, case.capacity, producers=case.ring, **options).close()
    try:
        commands = [
            [sys.executable, "-m", "bench.blocks_and_loops", row, role, name, str(cpu), case.to_json()]
            for role, cpu in zip(("producer", "consumer"), cpus, strict=True)
        ]
        return launch.run_processes(commands, case, timeout)
    finally:
        shmring.unlink(name)


def ns_per_message(sides: dict[str, dict], case: Case) -> float:
    began = min(side["start_ns"] for side in sides.values())
    return (max(side["end_ns"] for side in sides.values()) - began) / case.count


def measure(row: str, cpus: list[int], rounds: int, seconds: float, timeout: float = 60) -> dict:
    """Medians in ns per message, and the median of the rounds' ratios of rates (shmring / native)."""
    case = replace(CASES[row], warmup=CASES[row].pool * 20)
    first = launch.run("native", case.with_count(20_000), list(cpus), timeout)
    case = case.with_count(int(seconds * 1e9 / ns_per_message(first, case.with_count(20_000))))
    native, mine = [], []
    for _ in range(rounds):
        native.append(ns_per_message(launch.run("native", case, list(cpus), timeout), case))
        mine.append(ns_per_message(run_shmring(row, case, cpus, timeout), case))
    ratios = [theirs / ours for theirs, ours in zip(native, mine, strict=True)]
    middle = rounds // 2
    return {
        "row": row,
        "count": case.count,
        "native_ns": sorted(native)[middle],
        "shmring_ns": sorted(mine)[middle],
        "ratio": sorted(ratios)[middle],
        "ratios": ratios,
        "goal": GOALS[row],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.blocks_and_loops", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one run")
    parser.add_argument("--cpus", default="0,1", metavar="A,B")
    parser.add_argument("--rows", default=",".join(CASES))
    args = parser.parse_args()
    cpus = [int(cpu) for cpu in args.cpus.split(",")]
    if missing := contenders.load("native").missing():  # which builds it
        parser.error(f"native program: {missing}")
    for row in args.rows.split(","):
        if row == "cython":
            build()
        result = measure(row, cpus, args.rounds, args.seconds)
        print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] in CASES:
        work(*sys.argv[1:])
    else:
        main()
