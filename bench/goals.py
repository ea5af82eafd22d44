"""The table of goals: every row there are figures for, in the order of the design."""

from __future__ import annotations

from .rows import (
    Row,
    extra_rows,
    fanout_row,
    idle_row,
    latency_row,
    rate_row,
    shared_row,
    single_or_multi_row,
    size_text,
    untouched_row,
)
from .rows_edges import edge_rows
from .shapes import KIB, MIB
from .summary import Results


def all_rows(results: Results) -> list[Row]:
    """The rows there are figures for, in the order of the design; then those of objects, arrays and asyncio."""
    candidates = [
        latency_row(results, "round trip 64 B, spinning, p50", "pingpong-spin/64", 1.7),
        latency_row(results, "round trip 64 B, parked, p50", "pingpong-park/64", 1.1),
        rate_row(results, "64 B, one `send`/`recv` per message", "oneway/64", 0.25),
        rate_row(results, "64 B, `send_many`/`recv_many`", "oneway-many/64", 0.7, native_id="oneway/64"),
        rate_row(results, "16 KiB, copied in and out", f"oneway/{16 * KIB}", 0.95),
        *(
            rate_row(results, f"{size_text(size)} arrays, both sides touch every byte", f"array/{size}", 0.95)
            for size in (256 * KIB, MIB, 4 * MIB)
        ),
        untouched_row(results),
        single_or_multi_row(results, "64 B one way", "onemulti", 0.9),
        single_or_multi_row(results, "round trip 64 B, spinning, p50", "onemulti-spin", 0.9),
        shared_row(results),
        fanout_row(results),
        latency_row(results, "wake-up after 5 ms idle, p50", "wakeup/64", 1.15),
        idle_row(results),
        *edge_rows(results),
        *extra_rows(results.document.get("extras", {})),
    ]
    return [row for row in candidates if row]
