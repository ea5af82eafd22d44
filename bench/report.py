"""The tables: in the terminal, and as docs/benchmarks.md with its plots."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import contenders
from .goals import all_rows
from .rows import rate_text, size_text, time_text
from .shapes import LATENCY_SHAPES, OWN_SHAPES, RATE_SHAPES, SHAPES, Case
from .summary import QUANTILES, Results, median, series, spread

METHOD = Path(__file__).parent / "method.md"
VERSIONS = {
    "python": "Python",
    "numpy": "NumPy",
    "cython": "Cython",
    "posix_ipc": "posix_ipc",
    "shmring": "shmring",
    "commit": "commit",
}
SETTINGS = {
    "mpmc": "producers + members",
    "mpmc-many": "producers + members",
    "fanout": "producers - groups",
    "onemulti": "made for producers",
}
CPU_SHAPES = ("oneway", "oneway-many", "array", "object", "records", "mpmc", "fanout")
# Who is there for some shapes only, and missed by nobody in the others.
GUESTS = (*contenders.NATIVE[1:], *contenders.OURS[1:], "asyncio_streams", "python_alone")
ROW_TITLES = ("work", "native", "shmring", "best of the others", "ratio", "goal", "verdict", "note")


def _around(values: list[float], text: Callable[[float], str], rate: bool = False) -> str:
    """Median and quartiles, the unit once if it is the same. A rate is the inverse of a time."""
    middle = text(median(values))
    unit = " " + middle.partition(" ")[2]
    low, high = (text(value).removesuffix(unit) for value in sorted(spread(values), reverse=rate))
    return f"{middle} ({low} – {high})"


def _figures(entry: dict) -> str:
    case = Case(**entry["case"])
    if entry["status"] == "failed":
        return "failed, see below"
    if not entry["runs"]:
        return "-"
    if case.shape == "idle":
        return _around(series(entry), lambda percent: f"{percent:.3f} %")
    if case.shape in RATE_SHAPES:
        return _around(series(entry), lambda ns: rate_text(ns, case.size), rate=True)
    return _around(series(entry), time_text)


def _shape_table(results: Results, shape: str) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of one shape: contenders by quantiles for latencies, else messages by contenders."""
    entries = [entry for entry in results.entries(shape) if entry["status"] in ("ok", "failed")]
    if shape in LATENCY_SHAPES:
        lines = []
        for entry in entries:
            figures = (
                [_around(series(entry, name), time_text) for name in QUANTILES]
                if entry["status"] == "ok"
                else []
            )
            setting = Case(**entry["case"]).setting
            label = f"{entry['label']}, {setting}" if setting else entry["label"]
            lines.append([label, *(figures or ["failed, see below"] + [""] * (len(QUANTILES) - 1))])
        return ["contender", *QUANTILES], lines
    if shape == "crowd":
        return _crowd_table(entries)
    present = {entry["contender"]: entry["label"] for entry in entries}
    by_case: dict[str, dict[str, dict]] = {}
    for entry in results.entries(shape):
        by_case.setdefault(entry["id"], {})[entry["contender"]] = entry
    lines = []
    for row in by_case.values():
        case = Case(**next(iter(row.values()))["case"])
        settings = [case.setting] if case.setting else []
        facts = [size_text(case.size), size_text(case.capacity), *settings]
        lines.append([*facts, *(_figures(row[name]) if name in row else "-" for name in present)])
    return ["message", "ring", *([SETTINGS[shape]] if shape in SETTINGS else []), *present.values()], lines


def _crowd_table(entries: list[dict]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for entry in entries:
        case = Case(**entry["case"])
        figures = ["failed, see below", ""]
        if entry["status"] == "ok":
            figures = [_around(series(entry, name), time_text) for name in ("send_ns", "recv_ns")]
        lines.append([str(case.others), str(case.groups), *figures])
    return ["others attached", "groups", "one send", "one recv"], lines


def _absent(results: Results, shape: str) -> list[str]:
    """Who is not in the table, and why; who is not in any stands elsewhere."""
    reasons = {
        f"{entry['label']}: {entry['reason']}"
        for entry in results.entries(shape)
        if entry["status"] == "failed" or (entry["status"] == "refused" and _was_expected(entry))
    }
    return sorted(reasons)


def _was_expected(entry: dict) -> bool:
    """Whether a reader would look for that contender in that table."""
    if entry["case"]["shape"] in OWN_SHAPES:
        return entry["contender"] == contenders.OWN
    return entry["contender"] not in GUESTS


def missing_contenders(results: Results) -> list[str]:
    """Contenders that could not take part on this machine."""
    absent = [entry for entry in results.document["entries"] if entry["status"] == "missing"]
    return sorted({f"{entry['label']}: {entry['reason']}" for entry in absent})


def shape_tables(results: Results) -> Iterable[tuple[str, list[str], list[list[str]], list[str]]]:
    """(heading, titles, lines, remarks) of the table of every shape, and of the CPU time."""
    for shape, text in SHAPES.items():
        if any(entry["status"] in ("ok", "failed") for entry in results.entries(shape)):
            yield f"{shape}: {text}", *_shape_table(results, shape), _absent(results, shape)
    if lines := _cpu_lines(results):
        yield "CPU seconds per million messages, of all processes together", ["messages", *lines.pop(0)], lines, []


def _cpu_lines(results: Results) -> list[list[str]]:
    """Labels first, then a line for each case: what spins pays for its waits too."""
    entries = [
        entry
        for shape in CPU_SHAPES
        for entry in results.entries(shape)
        if entry["status"] == "ok" and entry["contender"] != "python_alone"
    ]
    labels = {entry["contender"]: entry["label"] for entry in entries}
    cases = {entry["id"]: {} for entry in entries}  # type: dict[str, dict[str, str]]
    for entry in entries:
        cases[entry["id"]][entry["contender"]] = f"{median(series(entry, 'cpu_ns_per_message')) / 1e3:.3g}"
    lines = [[case, *(found.get(name, "-") for name in labels)] for case, found in cases.items()]
    return [list(labels.values()), *lines] if lines else []


def tables(results: Results) -> Iterable[tuple[str, list[str], list[list[str]], list[str]]]:
    """Every table there are figures for: the goals first."""
    if rows := all_rows(results):
        yield "Goals", list(ROW_TITLES), [list(vars(row).values()) for row in rows], []
    yield from shape_tables(results)


def print_tables(results: Results) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    for heading, titles, lines, remarks in tables(results):
        table = Table(
            title=heading,
            title_justify="left",
            title_style="bold",
            caption="\n".join(remarks),
            caption_justify="left",
        )
        for title in titles:
            table.add_column(title)
        for line in lines:
            table.add_row(*(cell.replace("**", "") for cell in line))
        console.print(table, "")
    for line in missing_contenders(results):
        console.print(f"not here: {line}", markup=False, highlight=False)


def _markdown(titles: list[str], lines: list[list[str]]) -> str:
    rows = [titles, ["---"] * len(titles), *lines]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
    )


def circumstances(results: Results) -> list[str]:
    """Machine, versions, time and cores of a run, a sentence each."""
    document = results.document
    machine = document["machine"]
    floors = sorted(
        run["floor_ns"] for entry in document["entries"] for run in entry["runs"] if run.get("floor_ns")
    )
    where = " of a virtual machine" if machine["virtual"] else ""
    versions = ", ".join(f"{label} {machine[key]}" for key, label in VERSIONS.items() if machine[key])
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores{where}, {machine['memory_gib']:g} GiB, {machine['kernel']}",
        f"{versions}, {machine['libc']}, {machine['compiler']}",
        "the others: " + ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if name != "shmring"),
        f"{document['started']}, up to {document['rounds']} rounds of about {document['seconds_per_run']:g} s, "
        f"{document['took_seconds']:.0f} s in all{', a quick run' if document['quick'] else ''}",
        f"pinned to cores {machine['pinned_to']}, load before the run {machine['load_before']:.2f}",
    ]
    if copies := document.get("extras", {}).get("memcpy_gb_per_s"):
        rates = (f"{size_text(int(size))} {rate:.3g} GB/s" for size, rate in copies.items())
        lines.append("memcpy: " + ", ".join(rates))
    if floors:
        lines.append(
            f"distance of the cores (bare spinning round trip before each run): {time_text(floors[0])} to "
            f"{time_text(floors[-1])}, median {time_text(median(floors))}. Where it varies several times "
            "over, the host moved the cores during the run"
        )
    return lines


def document_text(results: Results, plots: list[Path], folder: Path) -> str:
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit. `bench/` has the code; `shmring bench` measures your own machine and draws an "
        "interactive report. [report/results.json](report/results.json) has every figure.\n",
        "".join(f"- {line}.\n" for line in circumstances(results)),
    ]
    everything = list(tables(results))
    if everything and everything[0][0] == "Goals":
        _, titles, lines, _ = everything.pop(0)
        parts += ["## Goals\n", _markdown(titles, lines)]
    parts += [f"![{path.stem}]({path.relative_to(folder)})\n" for path in plots]
    if (screen := folder / "img" / "report-light.png").exists():
        parts += ["The same as the report of `shmring bench` has it:\n", f"![report]({screen.relative_to(folder)})\n"]
    parts += ["## Method\n", METHOD.read_text(encoding="utf-8")]
    for heading, titles, lines, remarks in everything:
        parts += [f"## {heading}\n", _markdown(titles, lines), "".join(f"- {remark}.\n" for remark in remarks)]
    if missing := missing_contenders(results):
        parts += ["## Not here\n", "".join(f"- {line}.\n" for line in missing)]
    return "\n".join(part for part in parts if part)


def write_docs(results: Results, folder: Path) -> list[Path]:
    """Writes benchmarks.md and img/*.png below `folder`; returns the paths."""
    from . import plots

    (folder / "img").mkdir(parents=True, exist_ok=True)
    images = plots.draw_all(results, folder / "img")
    target = folder / "benchmarks.md"
    target.write_text(document_text(results, images, folder), encoding="utf-8")
    return [target, *images]
