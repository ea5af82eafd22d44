"""One side of a run, as a process of its own: `python -m bench.worker ROLE CONTENDER NAME CPUS CASE`.

ROLE is producer or consumer, or pair for contenders whose object has to be inherited: that process forks the
consumer. Prints "ready", waits for a line, runs, prints one JSON line (for a pair: both sides' results in
one).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from typing import Any

from . import contenders, loops
from .shapes import Case, case_from_json


def pin(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def wait_for_start() -> None:
    print("ready", flush=True)
    if not sys.stdin.readline():
        raise SystemExit("the harness went away")


def run_forked_consumer(end: Any, case: Case, cpu: int | None, control: Connection) -> None:
    pin(cpu)

    def start() -> None:
        control.send("ready")
        control.recv()

    control.send(loops.run("consumer", end, case, start))


def run_pair(producer_end: Any, consumer_end: Any, case: Case, cpus: list[int | None]) -> dict:
    mine, theirs = multiprocessing.Pipe()
    consumer = multiprocessing.get_context("fork").Process(
        target=run_forked_consumer, args=(consumer_end, case, cpus[1], theirs), daemon=True
    )
    consumer.start()
    theirs.close()
    pin(cpus[0])

    def start() -> None:
        mine.recv()
        wait_for_start()
        mine.send("go")

    producer_result = loops.run("producer", producer_end, case, start)
    consumer_result = mine.recv()
    consumer.join()
    return {"producer": producer_result, "consumer": consumer_result}


def main(role: str, contender_name: str, name: str, cpus_json: str, case_json: str) -> None:
    case, cpus = case_from_json(case_json), json.loads(cpus_json)
    contender = contenders.load(contender_name)
    if role == "pair":
        producer_end, consumer_end = contender.pair(case)
        result = run_pair(producer_end, consumer_end, case, cpus)
    else:
        pin(cpus[0 if role == "producer" else 1])
        result = loops.run(role, contender.attach(case, name, role), case, wait_for_start)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
