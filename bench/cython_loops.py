"""`python -m bench.cython_loops`: the loops of examples/cython_consumer, without the GIL, against the native program.

One row, measured like the others (method.md): pinned, interleaved, content checked, median of paired ratios. It builds the
example first, which `make bench` does not.
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
from typing import Any

from . import contenders, launch, machine, payload
from .loops import clock
from .shapes import MIB, Case, case_from_json
from .worker import pin, wait_for_start

EXAMPLE = machine.ROOT / "examples" / "cython_consumer"
BUILT = machine.ROOT / "build" / "cython_consumer"
CASE = Case("oneway", 64, capacity=16 * MIB, pool=61)
GOAL = 0.7


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


SIDES = {"producer": loops_send, "consumer": loops_check}


def work(role: str, name: str, cpu: str, case_json: str) -> None:
    import shmring

    pin(int(cpu) if cpu else None)
    with shmring.open(name) as ring:
        print(json.dumps(SIDES[role](ring, case_from_json(case_json), wait_for_start)), flush=True)


# ---- the runs ----------------------------------------------------------------------------------------------------------


def run_shmring(case: Case, cpus: list[int], timeout: float) -> dict[str, dict]:
    import shmring

    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    shmring.create(name, case.capacity, producers=case.ring).close()
    try:
        commands = [
            [sys.executable, "-m", "bench.cython_loops", role, name, str(cpu), case.to_json()]
            for role, cpu in zip(("producer", "consumer"), cpus, strict=True)
        ]
        return launch.run_processes(commands, case, timeout)
    finally:
        shmring.unlink(name)


def ns_per_message(sides: dict[str, dict], case: Case) -> float:
    began = min(side["start_ns"] for side in sides.values())
    return (max(side["end_ns"] for side in sides.values()) - began) / case.count


def measure(cpus: list[int], rounds: int, seconds: float, timeout: float = 60) -> dict:
    """Medians in ns per message, and the median of the rounds' ratios of rates (shmring / native)."""
    case = replace(CASE, warmup=CASE.pool * 20)
    first = launch.run("native", case.with_count(20_000), list(cpus), timeout)
    case = case.with_count(int(seconds * 1e9 / ns_per_message(first, case.with_count(20_000))))
    native, mine = [], []
    for _ in range(rounds):
        native.append(ns_per_message(launch.run("native", case, list(cpus), timeout), case))
        mine.append(ns_per_message(run_shmring(case, cpus, timeout), case))
    ratios = [theirs / ours for theirs, ours in zip(native, mine, strict=True)]
    middle = rounds // 2
    return {
        "count": case.count,
        "native_ns": sorted(native)[middle],
        "shmring_ns": sorted(mine)[middle],
        "ratio": sorted(ratios)[middle],
        "ratios": ratios,
        "goal": GOAL,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cython_loops", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one run")
    parser.add_argument("--cpus", default="0,1", metavar="A,B")
    args = parser.parse_args()
    cpus = [int(cpu) for cpu in args.cpus.split(",")]
    if missing := contenders.load("native").missing():  # which builds it
        parser.error(f"native program: {missing}")
    build()
    print(json.dumps(measure(cpus, args.rounds, args.seconds)))


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] in SIDES:
        work(*sys.argv[1:])
    else:
        main()
