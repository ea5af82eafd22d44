"""One seat of a run, as a process of its own:
`python -m bench.worker ROLE NUMBER CONTENDER NAME CPUS TICKETS CASE`.

ROLE is producer or consumer, and NUMBER says which of several; or alone, where one process does it all; or family
for contenders whose object has to be inherited: that process is the first producer, and forks all others. TICKETS is
the descriptor of several.py. Prints "ready", waits for a line, runs, prints one JSON line (a family: the results of
all seats, in their order).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from . import contenders, crowd, loops, several
from .several import Seat
from .shapes import SEVERAL_SHAPES, Case, case_from_json
from .span import Span

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def pin(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def wait_for_start() -> Span:
    print("ready", flush=True)
    if not sys.stdin.readline():
        raise SystemExit("the harness went away")
    return Span()


def run_seat(seat: Seat, end: Any, case: Case, start: Any, tickets: int) -> dict:
    if case.shape in SEVERAL_SHAPES:
        result = several.run(seat, end, case, start, tickets)
    else:
        result = loops.run(seat.role, end, case, start)
    return result | {"lost": getattr(end, "lost", 0)}


def run_child(seat: Seat, end: Any, case: Case, tickets: int, control: Connection) -> None:
    pin(seat.cpu)

    def start() -> Span:
        control.send("ready")
        control.recv()
        return Span()

    control.send(run_seat(seat, end, case, start, tickets))


def run_family(ends: dict[str, Any], case: Case, cpus: list[int | None], tickets: int) -> list[dict]:
    import multiprocessing  # takes its time to import, and only a family needs it

    first, *others = several.seats(case, cpus)
    fork = multiprocessing.get_context("fork")
    children, controls = [], []
    for seat in others:
        mine, theirs = multiprocessing.Pipe()
        child = fork.Process(
            target=run_child, args=(seat, ends[seat.role], case, tickets, theirs), daemon=True
        )
        child.start()
        theirs.close()
        children.append(child)
        controls.append(mine)
    pin(first.cpu)

    def start() -> Span:
        for control in controls:
            control.recv()
        wait_for_start()
        for control in controls:
            control.send("go")
        return Span()

    results = [run_seat(first, ends[first.role], case, start, tickets)]
    results += [control.recv() for control in controls]
    for child in children:
        child.join()
    return results


def main(
    role: str, number: str, contender_name: str, name: str, cpus_json: str, tickets: str, case_json: str
) -> None:
    case, cpus = case_from_json(case_json), json.loads(cpus_json)
    contender = contenders.load(contender_name)
    result: Any
    if role == "family":
        ends = dict(zip(("producer", "consumer"), contender.pair(case), strict=True))
        result = run_family(ends, case, cpus, int(tickets))
    elif role == "alone":
        pin(cpus[0])
        end = contender.attach(case, name, role, 0)
        run = crowd.run if case.alone else contender.run
        result = run(end, case, wait_for_start)
    else:
        (seat,) = (it for it in several.seats(case, cpus) if (it.role, it.number) == (role, int(number)))
        pin(seat.cpu)
        end = contender.attach(case, name, role, seat.number)
        result = run_seat(seat, end, case, wait_for_start, int(tickets))
    print(json.dumps(result), flush=True)
    sys.stdin.read()  # until all have their results: what this one sent may still be on its way out of it


if __name__ == "__main__":
    main(*sys.argv[1:])
