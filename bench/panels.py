"""What the plots show, as plain data: the report page draws it with plotly.js, `plots.py` with matplotlib.

A panel is {"title", "note", "x", "y", "curves"}; x and y are axes {"title", "log", "ticks"}; a curve is {"name", "label",
"x", "y", "dash"?, "text"?}, name being the contender, whose colour it has. Bars are {"title", "note", "y", "groups", "bars"}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import contenders, histogram
from .rows import size_text
from .shapes import LATENCY_SHAPES, SHAPES, Case
from .summary import Results, median, series

Panel = dict[str, Any]

# In plots: one colour each, of middle brightness, so that they can be told from white and from black.
COLOURS = {
    "native": "#7f7f7f",
    "native_lamport": "#b0b0b0",
    "shmring": "#e4312b",
    "shmring_objects": "#f5793a",
    "shmring_queue": "#d6408f",
    "shmring_records": "#b5452c",
    "shmring_cython": "#8f1d18",
    "mp_queue": "#2f7ed8",
    "mp_simplequeue": "#6fa8dc",
    "mp_pipe": "#1aa3a3",
    "mqueue": "#8d6bd1",
    "pyzmq": "#3aa655",
    "faster_fifo": "#a9a021",
    "iceoryx2": "#c98a1b",
    "msgq": "#7a8f3a",
    "membridge": "#5b6dcd",
    "kickmsg": "#b46fc2",
    "zenoh": "#4c9f8a",
    "aeron": "#9c6b4f",
    "asyncio_streams": "#2f7ed8",
    "python_alone": "#999999",
}
WIDE = (*contenders.OURS, "native")  # drawn with stronger lines
PERCENT_TICKS = (0, 50, 90, 99, 99.9, 99.99)


def size_axis(sizes: Iterable[int]) -> dict[str, Any]:
    chosen = sorted(set(sizes))
    return {"title": "message size", "log": True, "ticks": [[size, size_text(size)] for size in chosen]}


def ok_entries(results: Results, shape: str) -> list[dict]:
    return [entry for entry in results.entries(shape) if entry["status"] == "ok" and entry["runs"]]


def rate_curves(results: Results, shape: str, in_bytes: bool, dash: str = "", suffix: str = "") -> list[dict[str, Any]]:
    """Rate against size, a curve for each contender that has at least two sizes."""
    by_contender: dict[str, list[dict]] = {}
    for entry in ok_entries(results, shape):
        by_contender.setdefault(entry["contender"], []).append(entry)
    curves = []
    for name, entries in by_contender.items():
        if name == "python_alone" or len(entries) < 2:
            continue
        entries.sort(key=lambda entry: entry["case"]["size"])
        sizes = [entry["case"]["size"] for entry in entries]
        times = [median(series(entry)) for entry in entries]
        curves.append(
            {
                "name": name,
                "label": entries[0]["label"] + suffix,
                "x": sizes,
                "y": [(size if in_bytes else 1e9) / ns for size, ns in zip(sizes, times, strict=True)],
                "dash": dash,
            }
        )
    return curves


def throughput(results: Results, in_bytes: bool) -> Panel | None:
    single = rate_curves(results, "oneway", in_bytes)
    batches = rate_curves(results, "oneway-many", in_bytes, "dash", ", batches")
    if not single and not batches:
        return None
    unit = "GB per second" if in_bytes else "messages per second"
    return {
        "id": "throughput-bytes" if in_bytes else "throughput-messages",
        "title": f"Throughput, {unit}",
        "note": "One producer, one consumer, each on its own core; copied in and out. Dashed: in batches. Up is better.",
        "x": size_axis(size for curve in single + batches for size in curve["x"]),
        "y": {"title": unit, "log": True},
        "curves": single + batches,
    }


def arrays(results: Results) -> Panel | None:
    curves = rate_curves(results, "array", True)
    if not curves:
        return None
    return {
        "id": "arrays",
        "title": "NumPy arrays, GB per second",
        "note": "The producer fills every element, the consumer sums every byte. Up is better.",
        "x": size_axis(size for curve in curves for size in curve["x"]),
        "y": {"title": "GB per second", "log": True},
        "curves": curves,
    }


def _label(entry: dict) -> str:
    setting = Case(**entry["case"]).setting
    return f"{entry['label']}, {setting}" if setting else entry["label"]


def latency(results: Results, shape: str, cumulative: bool) -> Panel | None:
    """All samples of a latency shape: time against percentile, or the share of samples against time."""
    curves = []
    for entry in ok_entries(results, shape):
        if "hdr" not in entry:
            continue
        points = histogram.points(entry["hdr"])
        # Time against percentile: an axis whose steps are nines, so that the tail has room; the last sample has none.
        x, y = (
            ([ns for ns, _ in points], [100 * share for _, share in points])
            if cumulative
            else ([1 / (1 - share) for _, share in points if share < 1], [ns for ns, share in points if share < 1])
        )
        dash = "dash" if any(curve["name"] == entry["contender"] for curve in curves) else ""  # its second setting
        curves.append({"name": entry["contender"], "label": _label(entry), "x": x, "y": y, "dash": dash})
    if not curves:
        return None
    time_axis = {"title": "time", "log": True, "is_time": True}
    ticks = [[1 / (1 - percent / 100), f"p{percent:g}"] for percent in PERCENT_TICKS]
    return {
        "id": f"{'cdf' if cumulative else 'percentiles'}-{shape}",
        "title": f"{'Distribution' if cumulative else 'Percentiles'}: {shape}",
        "note": f"{SHAPES[shape]}. {'Left' if cumulative else 'Down'} is better.",
        "x": time_axis if cumulative else {"title": "percentile", "log": True, "ticks": ticks},
        "y": {"title": "% of the samples", "log": False} if cumulative else time_axis,
        "curves": curves,
    }


def bars(panel_id: str, title: str, note: str, unit: str, entries: list[dict], value: Any) -> Panel | None:
    """Bars by contender, in groups by setting; from zero, so that their lengths compare."""
    groups = list(dict.fromkeys(Case(**entry["case"]).setting for entry in entries))
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        bar = found.setdefault(entry["contender"], {"name": entry["contender"], "label": entry["label"], "values": {}})
        bar["values"][Case(**entry["case"]).setting] = value(entry)
    if not found:
        return None
    for bar in found.values():
        bar["values"] = [bar["values"].get(group) for group in groups]
    axis = {"title": unit, "log": False}
    return {"id": panel_id, "title": title, "note": note, "y": axis, "groups": groups, "bars": list(found.values())}


def per_second(entry: dict) -> float:
    return 1e9 / median(series(entry))


def rate_bars(results: Results, shape: str) -> Panel | None:
    what = "records per second" if shape == "records" else "messages per second"
    return bars(shape, f"{shape}: {what}", f"{SHAPES[shape]}. Up is better.", what, ok_entries(results, shape), per_second)


def cpu_bars(results: Results) -> Panel | None:
    entries = [entry for entry in ok_entries(results, "oneway") if entry["case"]["size"] == 64]
    note = "Of both processes, sending and receiving as fast as they can: what spins pays for its waits too. Down is better."
    return bars(
        "cpu",
        "CPU seconds per million messages of 64 B",
        note,
        "CPU seconds",
        [entry for entry in entries if entry["contender"] != "python_alone"],
        lambda entry: median(series(entry, "cpu_ns_per_message")) / 1e3,
    )


def idle_bars(results: Results) -> Panel | None:
    note = f"{SHAPES['idle']}. Down is better."
    entries = ok_entries(results, "idle")
    return bars("idle", "CPU while a consumer waits", note, "% of a core", entries, lambda entry: median(series(entry)))


def panels(results: Results) -> Iterable[Panel]:
    """Every panel there are figures for."""
    candidates = [throughput(results, False), throughput(results, True), arrays(results)]
    for shape in LATENCY_SHAPES:
        candidates += [latency(results, shape, False), latency(results, shape, True)]
    for shape in ("mpmc", "mpmc-many", "fanout", "object", "object-many", "records", "cython"):
        candidates.append(rate_bars(results, shape))
    candidates += [cpu_bars(results), idle_bars(results)]
    return (panel for panel in candidates if panel)
