"""`python -m bench` and `shmring bench`: runs the benchmarks, prints the tables, keeps the JSON, writes the reports."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from . import contenders, extras, machine, options, page, progress, report, rounds, summary
from .shapes import SHAPES, all_cases
from .summary import Results

SCHEMA = 2
QUICK = {"rounds": 3, "seconds": 0.05, "minutes": 1.8}
FULL = {"rounds": 7, "seconds": 0.15, "minutes": 11.0}


class WrongUsage(ValueError):
    """The options do not fit together; the text says which and why."""


def chosen(what: str, given: str | None, known: tuple[str, ...]) -> list[str]:
    names = given.split(",") if given else list(known)
    for name in names:
        if name not in known:
            raise WrongUsage(f"no {what} {name!r}; there are {', '.join(known)}")
    return names


def plan_of(args: argparse.Namespace) -> rounds.Plan:
    default = QUICK if args.quick else FULL
    cpus = machine.two_cores()
    if args.cpus:
        try:
            first, second = (int(cpu) for cpu in args.cpus.split(","))
        except ValueError:
            raise WrongUsage(f"--cpus {args.cpus}: two numbers are needed, for example 0,1") from None
        cpus = [first, second]
    if args.rounds is not None and args.rounds < 1:
        raise WrongUsage(f"--rounds {args.rounds}: at least 1 is needed")
    minutes = default["minutes"] if args.minutes is None else args.minutes
    return rounds.Plan(
        cpus, int(args.rounds or default["rounds"]), args.seconds or default["seconds"], args.timeout, minutes * 60
    )


def measure(args: argparse.Namespace) -> dict:
    """Everything, as the JSON document that is kept: schema.json describes it."""
    shapes = chosen("shape", args.shapes, tuple(SHAPES))
    names = chosen("contender", args.contenders, contenders.NAMES)
    plan = plan_of(args)
    began = time.time()
    document = {
        "schema": SCHEMA,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "quick": args.quick,
        "rounds": plan.rounds,
        "seconds_per_run": plan.seconds,
        "machine": machine.describe(plan.cpus, (contenders.load(name).PACKAGE for name in contenders.NAMES)),
    }
    cases = [case for case in all_cases(args.quick) if case.shape in shapes]
    with progress.Line(plan.budget) as line:
        line("import time, control pages, memcpy")
        document["extras"] = extras.measure(plan.rounds, plan.cpus, names)
        document["entries"] = rounds.run_all(cases, names, plan, line)
    document["took_seconds"] = round(time.time() - began, 1)
    return document


def print_list() -> None:
    print("shapes:")
    for name, text in SHAPES.items():
        print(f"  {name:16}{text}")
    print("contenders:")
    for name in contenders.NAMES:
        contender = contenders.load(name)
        print(f"  {name:16}{contender.missing() or contender.LABEL}")


def read(paths: list[Path]) -> dict:
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    for path, document in zip(paths, documents, strict=True):
        if document.get("schema") != SCHEMA:
            raise WrongUsage(f"{path}: results of schema {document.get('schema')}; this version reads schema {SCHEMA}")
    return summary.merged(documents)


def run(args: argparse.Namespace) -> int:
    """Carry out one command line; returns the exit status: 1 if a contender failed where it should not."""
    if args.list:
        print_list()
        return 0
    if args.sources:
        document = read(args.sources)
        output = args.output
    else:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        output = args.output or (args.docs / "report" / "results.json" if args.docs else Path(f"shmring-bench-{stamp}.json"))
        output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(output.parent, os.W_OK):  # better now than in eleven minutes
            raise WrongUsage(f"{output}: no right to write there; --output names another file")
        document = measure(args)
    results = Results(document)
    written = []
    if output:  # with --from only where it was asked for; before anything else can go wrong
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        written.append(output)
    report.print_tables(results)
    if args.html or not args.docs:
        target = args.html or (output or args.sources[0]).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.text(results), encoding="utf-8")
        written.append(target)
    if args.docs:
        written += report.write_docs(results, args.docs)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    failed = [entry for entry in document["entries"] if entry["status"] == "failed"]
    for entry in failed:
        print(f"failed: {entry['label']} {entry['id']}: {entry['reason']}", file=sys.stderr)
    return 1 if any(entry["contender"] in rounds.JUDGED for entry in failed) else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=options.DESCRIPTION,
        epilog=options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_options(parser)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except (WrongUsage, summary.MixedMachines, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
