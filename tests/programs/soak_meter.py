"""How much a process has: memory, descriptors, threads, mappings; and whether it is still as much as before.

A leak grows for ever, and everything else settles. So the first quarter of a soak is left out, and the last quarter is held
against the second: medians, so that one sample at a bad moment says nothing.
"""

from __future__ import annotations

import os
from statistics import median

FEWEST = 12  # samples; with fewer nothing is said about memory
# What may come in addition from the second quarter to the last. The one that checks storms holds all messages of one at a time.
SLACK = {"rss_kib": 1024, "descriptors": 3, "threads": 0, "mappings": 6}
SLACK_OF = {"storms": {"rss_kib": 16384}, "soak": {"rss_kib": 4096, "mappings": 40}}
SHARE = 0.02  # of the memory, in addition


def read(pid: int) -> dict[str, int]:
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    with open(f"/proc/{pid}/maps") as file:
        mappings = sum(1 for _ in file)
    return {
        "rss_kib": int(fields["VmRSS"].split()[0]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(fields["Threads"]),
        "mappings": mappings,
    }


class Meter:
    """The samples of all long-lived processes."""

    def __init__(self) -> None:
        self.samples: dict[str, list[dict[str, int]]] = {}

    def add(self, name: str, sample: dict[str, int]) -> None:
        self.samples.setdefault(name, []).append(sample)

    def row(self, name: str, what: str) -> tuple[int, int, int]:
        """At the beginning (the first quarter left out), at the end, the most."""
        values = [sample[what] for sample in self.samples[name]]
        quarter = max(1, len(values) // 4)
        early = values[quarter : 2 * quarter] or values
        return int(median(early)), int(median(values[-quarter:])), max(values)

    def verdict(self) -> str:
        if any(len(samples) < FEWEST for samples in self.samples.values()):
            return f"Less than {FEWEST} samples of a process do not show whether it grows."
        return "Something grew: see above." if self.growing() else "Nothing grew."

    def growing(self) -> list[str]:
        """What is more at the end than it may be."""
        found = []
        for name, samples in self.samples.items():
            for what, slack in (SLACK | SLACK_OF.get(name, {})).items():
                early, late, _ = self.row(name, what)
                if what == "rss_kib":
                    slack += int(early * SHARE)
                if len(samples) >= FEWEST and late > early + slack:
                    found.append(f"{name}: {what} grew from {early} to {late}")
        return found
