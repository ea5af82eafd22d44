"""The rows of what stands on the ring: objects, arrays as they are, typed records, asyncio."""

from __future__ import annotations

from collections.abc import Iterable

from .rows import Row, best_peer, rate_text, ratio_text, size_text, time_text, verdict
from .shapes import KIB, MIB, OBJECT_SIZE, RECORD_SIZE
from .summary import Results, median, paired_ratios, series


def object_row(results: Results, shape: str, work: str, goal: float) -> Row | None:
    """Against pickle alone, which is dumps and loads of one dict after the other in one process."""
    alone = results.entry(f"object/{OBJECT_SIZE}", "python_alone")
    mine = results.entry(f"{shape}/{OBJECT_SIZE}", "shmring_queue")
    if not alone or not mine:
        return None
    ratios = paired_ratios(alone, mine)
    objects = results.entry(f"{shape}/{OBJECT_SIZE}", "shmring_objects")
    calls = "send_objs/recv_objs" if shape == "object-many" else "send_obj/recv_obj"
    return Row(
        work,
        f"pickle alone {rate_text(median(series(alone)), OBJECT_SIZE)}",
        rate_text(median(series(mine)), OBJECT_SIZE),
        best_peer(results, mine["id"], lambda ns: rate_text(ns, OBJECT_SIZE)),
        ratio_text(ratios),
        f"≥ {goal} × pickle alone",
        verdict(median(ratios) >= goal),
        f"{calls}: {rate_text(median(series(objects)), OBJECT_SIZE)}" if objects else "",
    )


def array_row(results: Results, size: int, contender: str, work: str) -> Row | None:
    """No goal: what it costs to fill an array of one's own and have it copied, beside filling it in the ring."""
    case_id = f"array/{size}"
    native, mine = results.entry(case_id, "native"), results.entry(case_id, contender)
    if not native or not mine:
        return None
    in_place = results.entry(case_id, "shmring")
    return Row(
        f"{size_text(size)} float32 arrays, {work}",
        rate_text(median(series(native)), size),
        rate_text(median(series(mine)), size),
        best_peer(results, case_id, lambda ns: rate_text(ns, size)),
        ratio_text(paired_ratios(native, mine)),
        "-",
        "-",
        f"filled and summed in the ring: {rate_text(median(series(in_place)), size)}" if in_place else "",
    )


def own_row(results: Results, case_id: str, contender: str, work: str, goal: float, note: str = "") -> Row | None:
    """What only shmring has, beside the native program."""
    native, mine = results.entry(case_id, "native"), results.entry(case_id, contender)
    if not native or not mine:
        return None
    size, ratios = mine["case"]["size"], paired_ratios(native, mine)
    return Row(
        work,
        rate_text(median(series(native)), size),
        rate_text(median(series(mine)), size),
        "-",
        ratio_text(ratios),
        f"≥ {goal} × native",
        verdict(median(ratios) >= goal),
        note,
    )


def records_row(results: Results) -> Row | None:
    work, note = "typed records of 32 B, blocks of 1,000", "native: one message of 32,000 B for a block"
    return own_row(results, f"records/{RECORD_SIZE}", "shmring_records", work, 0.9, note)


def cython_row(results: Results) -> Row | None:
    return own_row(results, "cython/64", "shmring_cython", "loops in Cython, 64 B (`shmring.nogil`)", 0.7)


def aio_row(results: Results, loop: str) -> Row | None:
    case_id, goal = f"aio/64/{loop}", 0.5
    streams, mine = results.entry(case_id, "asyncio_streams"), results.entry(case_id, "shmring")
    if not streams or not mine:
        return None
    ratios = paired_ratios(mine, streams)
    return Row(
        f"asyncio round trip 64 B, {loop}, p50",
        "-",
        time_text(median(series(mine))),
        f"{time_text(median(series(streams)))} ({streams['label']}, Unix socket)",
        f"{ratio_text(ratios)} (of streams)",
        f"≤ {goal} × asyncio streams",
        verdict(median(ratios) <= goal),
    )


def edge_rows(results: Results) -> Iterable[Row | None]:
    yield object_row(results, "object", "small dicts, `Queue.put`/`get`", 0.85)
    yield object_row(results, "object-many", "small dicts, `put_many`/`get_many`", 1.5)
    for size in (256 * KIB, 4 * MIB):
        yield array_row(results, size, "shmring_objects", "`send_array`/`peek_array`")
        yield array_row(results, size, "shmring_queue", "through `Queue`")
    yield records_row(results)
    yield cython_row(results)
    for loop in ("asyncio", "uvloop"):
        yield aio_row(results, loop)
