"""Calibrates every case for every contender, then runs them interleaved: one run of each per round.

What a goal is judged by runs in every round, what stands beside it for comparison in every third one, so that many
contenders do not take the time from the ratios. Rounds end when the next one would pass the time that was given.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from . import contenders, floor, histogram, launch, summary
from .shapes import KIB, LATENCY_SHAPES, MIB, OBJECT_SHAPES, SEVERAL_SHAPES, Case

MOST_SAMPLES = 40_000  # of a latency run: enough for a p99.9, and little to hand over
MOST_MESSAGES = 40_000_000
LONGER = 3  # runs of several producers and members
LEAST_ROUNDS = 2
QUEUED = 2048  # messages that warm up who has no ring
ASIDE = 3  # contenders that no goal is judged by run in every third round
JUDGED = (*contenders.NATIVE, *contenders.OURS, "python_alone")
EVERYBODYS_SIZES = (8, 64, KIB, 16 * KIB, 256 * KIB, MIB, 16 * MIB)
PATIENCE = 3  # a contender that hung so often is not asked again


class Progress(Protocol):
    def expect(self, steps: int) -> None: ...

    def __call__(self, text: str) -> None: ...


@dataclass
class Plan:
    """How to run."""

    cpus: list[int | None]
    rounds: int
    seconds: float  # of one run
    timeout: float  # of one run
    budget: float  # seconds for everything; 0 if it takes what it takes


def new_entry(case: Case, contender_name: str) -> dict[str, Any]:
    """What the JSON has per case and contender. status: ok, refused, missing or failed; reason says more."""
    contender = contenders.load(contender_name)
    reason = contender.missing()
    refusal = "" if reason else contenders.refusal(contender_name, case)
    return {
        "id": case.id,
        "contender": contender_name,
        "label": contender.LABEL,
        "case": asdict(case),
        "status": "missing" if reason else "refused" if refusal else "ok",
        "reason": reason or refusal,
        "runs": [],
    }


def prepared(case: Case, ring: bool) -> Case:
    """The case with its warm-up: for a ring once round and a bit, for others what their queues may hold. Whole rounds
    of the pool, as many for every producer and every member.
    """
    if case.shape in ("wakeup", "idle", "pingpong-park", "crowd"):
        return case
    lap = case.capacity // (case.size + 16)
    if not ring:
        lap = min(lap, QUEUED)
    step = case.pool * case.producers * case.members * (case.batch if case.shape == "records" else 1)
    rounds = max(2, -(-lap // step) + 1)
    if case.shape in OBJECT_SHAPES:  # objects take microseconds each, and what they are made of is in the caches at once
        rounds = min(rounds, max(2, 20_000 // step))
    return replace(case, warmup=rounds * step)


def calibrate(contender_name: str, case: Case, plan: Plan, paces: dict[tuple[str, str], tuple[float, int]]) -> Case:
    """The case with a count of messages that takes this contender about `plan.seconds`.

    `paces` are ns per message and size, by contender and shape, of the case that was calibrated before: with luck a first
    guess that is near enough.

    More processes than cores need longer: a run has to last many of the scheduler's time slices, and the moment until all
    of them have started must not matter.
    """
    if case.count:
        return case
    is_several = case.shape in SEVERAL_SHAPES
    seconds = plan.seconds * (LONGER if is_several else 1)
    enough = seconds / 2 if is_several else seconds / 10
    most = MOST_SAMPLES if case.shape in LATENCY_SHAPES else MOST_MESSAGES * (case.batch if case.shape == "records" else 1)
    count = max(3, min(2000, 32 * MIB // case.size))
    if before := paces.get((contender_name, case.shape)):
        pace = before[0] * max(1.0, case.size / before[1])
        count = max(3, min(most, int(seconds * 1e9 / pace)))
    for _ in range(4):
        trial = case.with_count(count)
        sides = launch.run(contender_name, trial, plan.cpus, plan.timeout)
        took = max(1, sides["consumer"]["end_ns"] - sides["producer"]["start_ns"]) / 1e9
        paces[contender_name, case.shape] = (took * 1e9 / trial.count, case.size)
        count = max(3, min(most, int(trial.count * min(seconds / took, 200.0))))
        if took > enough or count == most:
            break
    return case.with_count(count)


def is_for_all(case: Case) -> bool:
    """Whether everybody is asked: of the many sizes of the plots, the others take part in every second one."""
    return case.shape not in ("oneway", "oneway-many") or case.size in EVERYBODYS_SIZES


def is_due(contender_name: str, i: int) -> bool:
    """Whether that contender runs in round i."""
    return contender_name in JUDGED or i % ASIDE == 0


def run_all(cases: Iterable[Case], names: Iterable[str], plan: Plan, progress: Progress) -> list[dict[str, Any]]:
    """All entries with their runs. A contender that fails a case is reported there and not asked again for that case."""
    began = time.monotonic()
    names = list(names)
    entries = [new_entry(case, name) for case in cases for name in names if name in JUDGED or is_for_all(case)]
    live = [entry for entry in entries if entry["status"] == "ok"]
    progress.expect(len(live) + sum(is_due(entry["contender"], i) for entry in live for i in range(plan.rounds)))
    watch = Watchdog()
    paces: dict[tuple[str, str], tuple[float, int]] = {}
    for entry in live:
        progress(f"trying {entry['id']} {entry['label']}")
        if watch.gives_up(entry):
            continue
        with watch.failures_noted(entry):
            case = prepared(Case(**entry["case"]), contenders.load(entry["contender"]).RING)
            entry["case"] = asdict(calibrate(entry["contender"], case, plan, paces))
    took: dict[bool, float] = {}  # seconds of the last round, by whether all took part
    for i in range(plan.rounds):
        round_began, everybody = time.monotonic(), i % ASIDE == 0
        expected = took.get(everybody, max(took.values(), default=0.0))
        if plan.budget and i >= LEAST_ROUNDS and round_began - began + expected > plan.budget:
            break
        for entry in live:
            if is_due(entry["contender"], i):
                progress(f"round {i + 1}/{plan.rounds} {entry['id']} {entry['label']}")
                if watch.gives_up(entry):
                    continue
                with watch.failures_noted(entry):
                    entry["runs"].append(run_once(entry, plan) | {"round": i})
        took[everybody] = time.monotonic() - round_began
    for entry in live:
        if texts := [run.pop("hdr") for run in entry["runs"] if "hdr" in run]:
            entry["hdr"] = histogram.encoded(histogram.merged(texts))
    return entries


def run_once(entry: dict[str, Any], plan: Plan) -> dict[str, Any]:
    case = Case(**entry["case"])
    distance = floor.measure(plan.cpus)
    sides = launch.run(entry["contender"], case, plan.cpus, plan.timeout)
    return summary.figures(case, sides) | {"floor_ns": distance}


class Watchdog:
    """Notes who failed, and gives up on a contender that keeps hanging: each time costs the whole time-out."""

    def __init__(self) -> None:
        self.hung: dict[str, list[str]] = {}

    def gives_up(self, entry: dict[str, Any]) -> bool:
        """Whether that entry is not to be run (again), and says so in it."""
        hung = self.hung.get(entry["contender"], [])
        if entry["status"] == "ok" and len(hung) >= PATIENCE:
            entry.update(status="failed", reason=f"not tried: hung in {', '.join(hung)}")
        return entry["status"] != "ok"

    @contextmanager
    def failures_noted(self, entry: dict[str, Any]) -> Iterator[None]:
        try:
            yield
        except launch.RunFailed as failure:
            entry.update(status="failed", reason=str(failure))
            if isinstance(failure, launch.RunHung):
                self.hung.setdefault(entry["contender"], []).append(entry["id"])
