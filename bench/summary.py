"""From the raw stamps of a run to its figures, and from the runs of all rounds to medians and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from . import floor
from .shapes import LATENCY_SHAPES, Case

QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


def figures(case: Case, sides: dict[str, dict]) -> dict[str, float]:
    """The figures of one run.

    Latency shapes: p50 ... p99.9 in ns. idle: cpu_percent. crowd: send_ns and recv_ns. Others: ns_per_message,
    from the first send of any producer to the moment every group has its last message.
    """
    producer, consumer = sides["producer"], sides["consumer"]
    if case.shape == "idle":
        waited = consumer["end_ns"] - consumer["start_ns"]
        return {"cpu_percent": 100.0 * consumer["cpu_ns"] / waited}
    if case.shape == "crowd":
        return {"send_ns": consumer["send_ns"], "recv_ns": consumer["recv_ns"]}
    if case.shape in LATENCY_SHAPES:
        if case.shape == "wakeup":
            samples = np.subtract(consumer["stamps_ns"], producer["stamps_ns"])
        else:
            samples = np.asarray(producer["samples_ns"])
        return {
            name: float(value)
            for name, value in zip(QUANTILES, np.percentile(samples, [*QUANTILES.values()]), strict=True)
        }
    return {"ns_per_message": (consumer["end_ns"] - producer["start_ns"]) / case.count}


def main_figure(shape: str) -> str:
    """The figure of a shape that ratios are made of."""
    if shape == "idle":
        return "cpu_percent"
    if shape == "crowd":
        return "send_ns"
    return "p50" if shape in LATENCY_SHAPES else "ns_per_message"


def series(entry: dict, figure: str | None = None) -> list[float]:
    """One figure of one case and contender, round by round. None stands for the main figure."""
    return [run[figure or main_figure(entry["case"]["shape"])] for run in entry["runs"]]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The quartiles: half of the rounds lie between them."""
    low, high = np.percentile(values, [25, 75])
    return float(low), float(high)


def paired_ratios(above: dict, below: dict) -> list[float]:
    """above / below, round by round: both ran within seconds of each other, so that a drift of the machine
    cancels out.

    Rounds in which the cores were moved in between are left out, unless that leaves none.
    """
    figure = main_figure(above["case"]["shape"])
    pairs = [(a, b) for a, b in zip(above["runs"], below["runs"], strict=False) if b[figure]]
    like = [(a, b) for a, b in pairs if floor.alike(a["floor_ns"], b["floor_ns"])]
    return [a[figure] / b[figure] for a, b in like or pairs]


class Results:
    """The JSON of a run, looked up by case and contender."""

    def __init__(self, document: dict) -> None:
        self.document = document
        self._entries = {(entry["id"], entry["contender"]): entry for entry in document["entries"]}

    def entry(self, case_id: str, contender: str) -> dict | None:
        """The entry if all its runs succeeded, else None."""
        entry = self._entries.get((case_id, contender))
        return entry if entry and entry["status"] == "ok" else None

    def entries(self, shape: str) -> list[dict]:
        return [entry for entry in self.document["entries"] if entry["case"]["shape"] == shape]

    def contenders(self) -> dict[str, str]:
        """Name -> label, in the order of the run."""
        return {entry["contender"]: entry["label"] for entry in self.document["entries"]}
