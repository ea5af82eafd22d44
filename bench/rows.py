"""The rows of the design's table of goals that messages between processes can show, judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import contenders
from .shapes import KIB, LATENCY_SHAPES, MIB
from .summary import Results, median, paired_ratios, series

NOT_PEERS = (*contenders.NATIVE, *contenders.OURS, "python_alone")


@dataclass
class Row:
    work: str
    native: str
    shmring: str
    peer: str
    ratio: str
    goal: str
    verdict: str
    note: str = ""


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def time_text(ns: float) -> str:
    for unit, scale in (("ns", 1.0), ("µs", 1e3), ("ms", 1e6)):
        if ns < 1000 * scale:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns / 1e9:.3g} s"


def rate_text(ns_per_message: float, size: int) -> str:
    """Messages for small sizes, bytes for large ones: what a reader would ask for."""
    if size >= 4 * KIB:
        return f"{size / ns_per_message:.3g} GB/s"
    return f"{1e3 / ns_per_message:.3g} M/s"


def size_text(size: int) -> str:
    for unit, scale in (("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


def best_peer(results: Results, case_id: str, text: Callable[[float], str]) -> str:
    """The figure and the name of whoever is fastest (or idlest) of the others."""
    found = [
        (median(series(entry)), entry["label"])
        for name in results.contenders()
        if name not in NOT_PEERS and (entry := results.entry(case_id, name))
    ]
    if not found:
        return "-"
    value, label = min(found)
    return f"{text(value)} ({label})"


def ratio_text(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}"


def latency_row(results: Results, work: str, case_id: str, goal: float) -> Row | None:
    native, mine = results.entry(case_id, "native"), results.entry(case_id, "shmring")
    if not native or not mine:
        return None
    ratios = paired_ratios(mine, native)
    return Row(
        work,
        time_text(median(series(native))),
        time_text(median(series(mine))),
        best_peer(results, case_id, time_text),
        ratio_text(ratios),
        f"≤ {goal} × native",
        verdict(median(ratios) <= goal),
    )


def rate_row(results: Results, work: str, case_id: str, goal: float, native_id: str = "") -> Row | None:
    """Ratio of rates. The verdict is against `native`, the ring with cached indices; the note has the Lamport
    ring.
    """
    native_id = native_id or case_id
    native, mine = results.entry(native_id, "native"), results.entry(case_id, "shmring")
    if not native or not mine:
        return None
    size = mine["case"]["size"]
    ratios = paired_ratios(native, mine)  # times, so native / mine is the ratio of rates
    lamport, alone = results.entry(native_id, "native_lamport"), results.entry(case_id, "python_alone")
    notes = []
    if lamport:
        against = median(paired_ratios(lamport, mine))
        notes.append(f"{against:.2f} × the Lamport ring ({rate_text(median(series(lamport)), size)})")
    if alone:
        notes.append(_alone_note(native, alone, goal))
    return Row(
        work,
        rate_text(median(series(native)), size),
        rate_text(median(series(mine)), size),
        best_peer(results, case_id, lambda ns: rate_text(ns, size)),
        ratio_text(ratios),
        f"≥ {goal} × native",
        verdict(median(ratios) >= goal),
        "; ".join(notes),
    )


def _alone_note(native: dict, alone: dict, goal: float) -> str:
    """What the interpreter could do without any ring, and whether the goal lies beyond that."""
    share = median(paired_ratios(native, alone))
    text = f"Python alone: {rate_text(median(series(alone)), alone['case']['size'])}, {share:.2f} × native"
    return text if share >= goal else f"{text}: the goal lies beyond the interpreter"


def single_or_multi_row(results: Results, work: str, shape: str, goal: float) -> Row | None:
    """A ring for many producers, one of them attached, against one for a single producer."""
    single, multi = (results.entry(f"{shape}/64/{ring}", "shmring") for ring in ("single", "multi"))
    if not single or not multi:
        return None
    text = time_text if shape in LATENCY_SHAPES else lambda ns: rate_text(ns, 64)
    ratios = paired_ratios(single, multi)
    return Row(
        f"many producers against single producer, one producer attached: {work}",
        "-",
        f"{text(median(series(multi)))} against {text(median(series(single)))}",
        "-",
        f"{ratio_text(ratios)} (speed)",
        f"≥ {goal} ×",
        verdict(median(ratios) >= goal),
    )


def shared_row(results: Results) -> Row | None:
    """Two goals in one row: a rate, and a share of the rate of one producer and one consumer."""
    mine = results.entry("mpmc/64/2+2", "shmring")
    if not mine:
        return None
    pair = results.entry("oneway/64", "shmring") or results.entry("mpmc/64/1+1", "shmring")
    batches = results.entry("mpmc-many/64/2+2", "shmring")
    ratios = paired_ratios(pair, mine) if pair else []
    ns = median(series(mine))
    reached = 1e3 / ns >= 4 and (not ratios or median(ratios) >= 0.3)
    notes = [f"1+1: {rate_text(median(series(pair)), 64)} (`{pair['id']}`)"] if pair else []
    if batches:
        notes.append(f"in batches {rate_text(median(series(batches)), 64)}")
    return Row(
        "2 producers + 2 consumers, one shared group, 64 B",
        "-",
        rate_text(ns, 64),
        best_peer(results, "mpmc/64/2+2", lambda ns: rate_text(ns, 64)),
        f"{ratio_text(ratios)} (of 1+1)" if ratios else "-",
        "≥ 4 M/s and ≥ 0.3 × this machine's 1+1 rate",
        verdict(reached),
        "; ".join(notes),
    )


def fanout_row(results: Results) -> Row | None:
    mine = results.entry("fanout/64/1-3", "shmring")
    if not mine:
        return None
    ns = median(series(mine))
    return Row(
        "1 producer → 3 lossless groups, 64 B (4 processes on 2 cores)",
        "-",
        f"{rate_text(ns, 64)} per group",
        "-",
        "-",
        "≥ 3 M/s per group",
        verdict(1e3 / ns >= 3),
    )


def untouched_row(results: Results) -> Row | None:
    small, large = (results.entry(name, "shmring") for name in ("untouched/64/4KiB-ring", f"untouched/{MIB}"))
    if not small or not large:
        return None
    ratios = paired_ratios(large, small)
    native = [results.entry(name, "native") for name in ("untouched/64/4KiB-ring", f"untouched/{MIB}")]
    native_text = " / ".join(time_text(median(series(entry))) for entry in native if entry)
    return Row(
        "reserve/commit and peek/release, untouched: 64 B / 1 MiB",
        native_text or "-",
        " / ".join(time_text(median(series(entry))) for entry in (small, large)),
        "-",
        f"{median(ratios):.2f} (1 MiB : 64 B)",
        "as fast as 64 B (≤ 1.15)",
        verdict(median(ratios) <= 1.15),
        "about 60 records fit the ring in both",
    )


def idle_row(results: Results) -> Row | None:
    mine = results.entry("idle/64", "shmring")
    if not mine:
        return None
    native = results.entry("idle/64", "native")
    percent = median(series(mine))
    return Row(
        "CPU while a consumer waits",
        f"{median(series(native)):.3f} %" if native else "-",
        f"{percent:.3f} %",
        best_peer(results, "idle/64", lambda value: f"{value:.3f} %"),
        "-",
        "0 (below 0.1 % of a core)",
        verdict(percent < 0.1),
        f"one wait of {mine['case']['idle_ns'] / 1e9:g} s, its beginning and end included",
    )


def extra_rows(extras: dict) -> Iterable[Row]:
    if times := extras.get("import_ms"):
        bare, loaded = median(times["bare"]), median(times["shmring"])
        above = median([b - a for a, b in zip(times["bare"], times["shmring"], strict=True)])
        yield Row(
            "`import shmring`, above bare Python",
            f"{bare:.1f} ms (bare)",
            f"{loaded:.1f} ms",
            "-",
            f"{above:+.1f} ms",
            "≤ 15 ms",
            verdict(above <= 15),
        )
    if (occupied := extras.get("control_bytes")) is not None:
        text = f"{occupied / KIB:g} KiB"
        yield Row(
            "control pages of a default ring", "-", text, "-", "-", "≤ 64 KiB", verdict(occupied <= 64 * KIB)
        )
