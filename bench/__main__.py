"""`python -m bench`: runs the benchmarks, prints the tables, keeps the JSON, and on request writes
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from . import contenders, extras, machine, report, rounds
from .shapes import SHAPES, all_cases
from .summary import Results

RESULTS = Path(__file__).parent / "results"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures shmring beside the native limit and the usual Python ways, on two pinned cores",
        epilog="shapes: "
        + "; ".join(f"{name}: {text}" for name, text in SHAPES.items())
        + ". contenders: "
        + ", ".join(contenders.NAMES),
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes, 3 rounds, short runs: under 90 s")
    parser.add_argument("--shapes", metavar="A,B", help="only these shapes (see below)")
    parser.add_argument("--contenders", metavar="A,B", help="only these contenders (see below)")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="runs of each case and contender (default 7, quick 3)"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="length of one run (default 0.15, quick 0.05)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="a run longer than this is a failure (30)"
    )
    parser.add_argument(
        "--cpus", metavar="A,B", help="cores for producer and consumer (default: two of different cores)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="results as JSON (default bench/results/<time>.json)"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing, report these results"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write docs/benchmarks.md and its plots in docs/img/"
    )
    parsed = parser.parse_args(argv)
    parsed.shapes = _chosen(parser, "shape", parsed.shapes, tuple(SHAPES))
    parsed.contenders = _chosen(parser, "contender", parsed.contenders, contenders.NAMES)
    if parsed.rounds is not None and parsed.rounds < 1:
        parser.error("--rounds must be at least 1")
    if parsed.cpus:
        try:
            parsed.cpus = [int(cpu) for cpu in parsed.cpus.split(",")]
        except ValueError:
            parsed.cpus = []
        if len(parsed.cpus) != 2:
            parser.error("--cpus takes two numbers, for example 0,1")
    return parsed


def _chosen(
    parser: argparse.ArgumentParser, what: str, given: str | None, known: tuple[str, ...]
) -> list[str]:
    chosen = given.split(",") if given else list(known)
    for name in chosen:
        if name not in known:
            parser.error(f"no {what} {name!r}; there are {', '.join(known)}")
    return chosen


def measure(options: argparse.Namespace) -> dict:
    """Everything, as the JSON document that is kept."""
    cpus = options.cpus or machine.two_cores()
    round_count = options.rounds or (3 if options.quick else 7)
    seconds = options.seconds or (0.05 if options.quick else 0.15)
    began = time.time()
    document = {
        "schema": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "quick": options.quick,
        "rounds": round_count,
        "seconds_per_run": seconds,
        "machine": machine.describe(cpus),
    }
    cases = [case for case in all_cases(options.quick) if case.shape in options.shapes]
    progress = report.Progress()
    with progress:
        progress("import time, control pages, memcpy")
        document["extras"] = extras.measure(round_count, cpus, options.contenders)
        document["entries"] = rounds.run_all(
            cases, options.contenders, round_count, cpus, seconds, options.timeout, progress
        )
    document["took_seconds"] = round(time.time() - began, 1)
    return document


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.source:
        document = json.loads(options.source.read_text())
    else:
        document = measure(options)
        output = options.output or RESULTS / f"{document['started'].replace(':', '')}.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1))
        print(f"results: {output}", file=sys.stderr)
    results = Results(document)
    report.print_tables(results)
    if options.write_docs:
        for path in report.write_docs(results):
            print(f"wrote {path}", file=sys.stderr)
    failed = [entry for entry in document["entries"] if entry["status"] == "failed"]
    for entry in failed:
        print(f"failed: {entry['label']} {entry['id']}: {entry['reason']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
