"""`shmring doctor NAME`: name everything that is wrong with a ring, and mend what can be."""

from __future__ import annotations

import argparse
import logging
import os
import stat
from typing import Any

import shmring
from shmring.cli import find
from shmring.cli.arguments import add_command, add_json, add_name, add_trust, print_json
from shmring.cli.blocks import who_blocks
from shmring.cli.failure import describe
from shmring.cli.ring_name import open_ring
from shmring.cli.summary import is_stopped
from shmring.cli.tables import is_styled, printable
from shmring.cli.units import some

DESCRIPTION = """\
Look at every word of a ring that can have an impossible value, at every message
that somebody still has to read, and at who is dead, stopped or in the way.
Nothing is written to the ring unless --repair is given; the ring may be in use.

What the dead left is also cleaned up by whoever uses the ring next, or is held
up by it: --repair does it now. It never touches what is damaged."""

EPILOG = """\
what it says:
  damaged   an impossible value, with its place: something else has written
            there. Users get CorruptRing where they meet it. Nothing mends that:
            make the ring anew (shmring rm --force NAME)
  dead      a participant died, and what it held is not freed yet: --repair
  blocked   somebody waits, and for whom
  note      nothing wrong, but worth knowing

examples:
  shmring doctor quotes
  shmring doctor quotes --repair
  shmring doctor ./jobs.ring --json | jq -r '.problems[].text'

exit status:
  0 nothing is wrong (any more), 1 something is, or there is no such ring,
  2 wrong usage"""

STYLES = {"damaged": "bold red", "dead": "yellow", "blocked": "yellow", "repaired": "green", "note": "dim"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `doctor` to the command line."""
    parser = add_command(commands, "doctor", run, "name everything that is wrong with a ring", DESCRIPTION, EPILOG)
    add_name(parser)
    parser.add_argument("--repair", action="store_true", help="free what dead participants left")
    add_json(parser, "print one JSON object with the problems, notes and repairs")
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring doctor`."""
    report: dict[str, Any] = {"name": args.name, "problems": [], "notes": [], "repaired": []}
    try:
        if args.repair:
            report["repaired"] = repair(args)
        look(args, report)
    except (shmring.LayoutMismatch, shmring.CorruptRing, shmring.RingTruncated) as error:
        explain(args.name, error, report)
    if args.json:
        print_json(report)
    else:
        show(report)
    return 1 if report["problems"] else 0


def repair(args: argparse.Namespace) -> list[str]:
    """Free what the dead left; a line for each of them."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.getLogger("shmring")
    handler, level = Collect(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with open_ring(args.name, trust=args.trust) as ring:
            found = ring.repair()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return lines or ([some(found, "dead participant")] if found else [])


def look(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Fill the report."""
    from shmring.examine import examine

    with open_ring(args.name, readonly=True, trust=args.trust) as ring:
        for finding in examine(ring):
            kind = "note" if finding.kind == "orphaned" else finding.kind
            add(report, kind, finding.text, finding.offset)
        stats = ring.stats(exact=False)
    for line in who_blocks(stats):
        add(report, "blocked" if is_stuck(line, stats) else "note", line)
    for user in stats.participants:
        if user.alive and (user.open_bytes or user.held_bytes) and is_stopped(user.pid):
            what = "an open reservation" if user.open_bytes else "messages that it has not released"
            add(
                report,
                "blocked",
                f"{user.role} with pid {user.pid} is stopped (SIGSTOP) with {what}; it may be in the way",
            )
    if stats.aborted:
        add(report, "note", f"{some(stats.aborted, 'message')} that dead producers had begun never came")
    if stats.shutdown:
        add(report, "note", "it was shut down: no more messages will come")


def add(report: dict[str, Any], kind: str, text: str, offset: int | None = None) -> None:
    """Enter a line."""
    report["notes" if kind == "note" else "problems"].append({"kind": kind, "text": text, "offset": offset})


def is_stuck(line: str, stats: Any) -> bool:
    """Whether nobody who lives can end it: a full ring whose slowest group nobody reads."""
    return "which nobody reads" in line and not stats.shutdown


def explain(name: str, error: Exception, report: dict[str, Any]) -> None:
    """It cannot be opened: every field of its first page that does not fit, or at least why."""
    from shmring.examine import IDENTITY_BYTES, examine_identity

    place = find.place_of(name)
    flags = find.OPEN_FLAGS & ~os.O_NOFOLLOW if find.DESCRIPTOR.fullmatch(name) else find.OPEN_FLAGS
    fd = os.open(place.path, flags)
    try:
        status = os.fstat(fd)
        findings = examine_identity(os.pread(fd, IDENTITY_BYTES, 0), status.st_size) if stat.S_ISREG(status.st_mode) else []
    finally:
        os.close(fd)
    for finding in findings:
        add(report, "damaged", finding.text, finding.offset)
    if not findings:
        add(report, "damaged", describe(error))


def show(report: dict[str, Any]) -> None:
    """As text, one line for each."""
    import sys

    lines = [("repaired", text) for text in report["repaired"]]
    lines += [(problem["kind"], problem["text"]) for problem in [*report["problems"], *report["notes"]]]
    if not report["problems"]:
        lines.append(("note", f"{report['name']}: nothing is wrong"))
    if not is_styled(sys.stdout):
        for kind, text in lines:
            print(f"{kind:<9} {printable(text)}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for kind, text in lines:
        table.add_row(Text(kind, STYLES[kind]), Text(printable(text)))
    Console(highlight=False).print(table)
