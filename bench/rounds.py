"""Calibrates every case for every contender, then runs them interleaved: one run of each per round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from . import contenders, floor, launch, summary
from .shapes import LATENCY_SHAPES, MIB, SEVERAL_SHAPES, Case

Progress = Callable[[str], None]
MOST_SAMPLES = 40_000  # of a latency run: enough for a p99.9, and little to hand over
MOST_MESSAGES = 40_000_000
LONGER = 3  # runs of several producers and members


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
    """The case with its warm-up: for a ring once round and a bit, for others a few messages. Whole rounds of
    the pool, as many for every producer and every member.
    """
    if case.shape in ("wakeup", "idle", "pingpong-park", "crowd"):
        return case
    lap = case.capacity // (case.size + 16) if ring else 0
    step = case.pool * case.producers * case.members
    rounds = max(2, -(-lap // step) + 1)
    return replace(case, warmup=rounds * step)


def calibrate(
    contender_name: str, case: Case, cpus: list[int | None], seconds: float, timeout: float
) -> Case:
    """The case with a count of messages that takes this contender about `seconds`.

    More processes than cores need longer: a run has to last many of the scheduler's time slices, and the moment until all
    of them have started must not matter.
    """
    if case.count:
        return case
    is_crowded = case.shape in SEVERAL_SHAPES
    if is_crowded:
        seconds *= LONGER
    enough = seconds / 2 if is_crowded else seconds / 10
    most = MOST_SAMPLES if case.shape in LATENCY_SHAPES else MOST_MESSAGES
    count = max(3, min(2000, 32 * MIB // case.size))
    for _ in range(4):
        trial = case.with_count(count)
        sides = launch.run(contender_name, trial, cpus, timeout)
        took = max(1, sides["consumer"]["end_ns"] - sides["producer"]["start_ns"]) / 1e9
        count = max(3, min(most, int(trial.count * min(seconds / took, 200.0))))
        if took > enough or count == most:
            break
    return case.with_count(count)


def run_all(
    cases: Iterable[Case],
    names: Iterable[str],
    rounds: int,
    cpus: list[int | None],
    seconds: float,
    timeout: float,
    progress: Progress,
) -> list[dict[str, Any]]:
    """All entries with their runs. A contender that fails a case is reported there and not asked again for
    that case.
    """
    entries = [new_entry(case, name) for case in cases for name in names]
    live = [entry for entry in entries if entry["status"] == "ok"]
    for entry in live:
        progress(f"calibrating {entry['id']} {entry['label']}")
        with failures_noted(entry):
            case = prepared(Case(**entry["case"]), contenders.load(entry["contender"]).RING)
            entry["case"] = asdict(calibrate(entry["contender"], case, cpus, seconds, timeout))
    for i in range(rounds):
        for entry in live:
            if entry["status"] == "ok":
                progress(f"round {i + 1}/{rounds} {entry['id']} {entry['label']}")
                with failures_noted(entry):
                    entry["runs"].append(run_once(entry, cpus, timeout))
    return entries


def run_once(entry: dict[str, Any], cpus: list[int | None], timeout: float) -> dict[str, float]:
    case = Case(**entry["case"])
    distance = floor.measure(cpus)
    return summary.figures(case, launch.run(entry["contender"], case, cpus, timeout)) | {"floor_ns": distance}


@contextmanager
def failures_noted(entry: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except launch.RunFailed as failure:
        entry.update(status="failed", reason=str(failure))
