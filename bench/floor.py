"""How far apart the two cores are right now: a bare spinning exchange of one word and 64 bytes, a few
milliseconds long.

In a virtual machine the host may move the two cores between runs (onto one physical core, onto neighbours,
onto different sockets), and every figure moves with them, several times over. Each run notes this floor;
ratios compare runs made on like floors.
"""

from __future__ import annotations

import statistics

from . import launch
from .contenders import native
from .shapes import Case

CASE = Case("pingpong-spin", 64, capacity=4096, wait="bare", count=2000, warmup=122)
LIKE = 1.6  # two floors within this factor are the same distance


def measure(cpus: list[int | None]) -> float:
    """Median round trip in ns, or 0 where native does not run."""
    if native.missing():
        return 0.0
    try:
        samples = launch.run("native", CASE, cpus, 10)["producer"]["samples_ns"]
    except launch.RunFailed:  # nobody's fault who is measured next
        return 0.0
    return statistics.median(samples)


def alike(one: float, other: float) -> bool:
    return one == other or (one > 0 and other > 0 and max(one, other) <= LIKE * min(one, other))
