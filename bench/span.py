"""The timed part of one process: wall clock, and the CPU time that all its threads took meanwhile.

A loop begins with `span = start()`, which says ready, waits for the other sides and starts both clocks; after its last
message it says `span.stop()`, and whatever it checks afterwards is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

clock = time.perf_counter_ns  # CLOCK_MONOTONIC: a time taken in one process may be subtracted from one taken in another


class Span:
    __slots__ = ("cpu_ns", "end_ns", "start_ns")

    def __init__(self) -> None:
        self.end_ns = 0
        self.cpu_ns = time.process_time_ns()
        self.start_ns = clock()

    def stop(self) -> None:
        self.end_ns = clock()
        self.cpu_ns = time.process_time_ns() - self.cpu_ns

    def result(self, wrong: int = 0, **more: Any) -> dict[str, Any]:
        """What goes into the JSON line of this process; stops the clocks if they still run."""
        if not self.end_ns:
            self.stop()
        return {"start_ns": self.start_ns, "end_ns": self.end_ns, "cpu_ns": self.cpu_ns, "wrong": int(wrong), **more}


Start = Callable[[], Span]
