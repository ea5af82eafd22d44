"""From the raw stamps of a run to its figures, and from the runs of all rounds to medians and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import floor, histogram
from .histogram import QUANTILES as QUANTILES
from .shapes import LATENCY_SHAPES, Case


def figures(case: Case, sides: dict[str, dict]) -> dict[str, Any]:
    """The figures of one run.

    Latency shapes: p50 ... p99.9 and max in ns, and all samples as an encoded HDR histogram. idle: cpu_percent. crowd:
    send_ns and recv_ns. Others: ns_per_message, from the first send of any producer to the moment every group has its
    last message, and cpu_ns_per_message, the CPU time of all processes.
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
        recorded = histogram.of(samples)
        return {**histogram.quantiles(recorded), "hdr": histogram.encoded(recorded)}
    return {
        "ns_per_message": (consumer["end_ns"] - producer["start_ns"]) / case.count,
        "cpu_ns_per_message": (producer["cpu_ns"] + consumer["cpu_ns"]) / case.count,
    }


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
    others = {run["round"]: run for run in below["runs"]}
    pairs = [(run, others[run["round"]]) for run in above["runs"] if run["round"] in others]
    pairs = [(a, b) for a, b in pairs if b[figure]]
    like = [(a, b) for a, b in pairs if floor.alike(a["floor_ns"], b["floor_ns"])]
    return [a[figure] / b[figure] for a, b in like or pairs]


class MixedMachines(ValueError):
    """Results of different machines were to be put side by side."""


def merged(documents: Sequence[dict]) -> dict:
    """One document of several of the same machine; of a case and contender that is in two, the later one counts.

    Raises MixedMachines: a figure of one machine says nothing beside a figure of another one.
    """
    first, *others = documents
    for other in others:
        if other["machine"]["identity"] != first["machine"]["identity"]:
            here, there = (
                f"{machine['cpu']}, {machine['cores']} cores ({machine['identity']})"
                for machine in (first["machine"], other["machine"])
            )
            raise MixedMachines(f"results of two machines do not go into one report: {here}, and {there}")
    entries = {(entry["id"], entry["contender"]): entry for document in documents for entry in document["entries"]}
    return {
        **documents[-1],
        "extras": {key: value for document in documents for key, value in document.get("extras", {}).items()},
        "entries": list(entries.values()),
        "took_seconds": sum(document["took_seconds"] for document in documents),
    }


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
