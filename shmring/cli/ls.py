"""`shmring ls`: the rings of this machine."""

from __future__ import annotations

import argparse
import os
from typing import Any

import shmring
from shmring.cli import find
from shmring.cli.arguments import add_command, add_json, print_json
from shmring.cli.failure import describe
from shmring.cli.summary import count_roles, describe_ring, format_lag, most_lag
from shmring.cli.tables import Cell, print_table
from shmring.cli.units import format_size

DESCRIPTION = """\
List the rings of this machine: those in shared memory, and those in files or
without a name that a live process has mapped (as far as /proc shows them to
this user). With a PATH, a ring's name or a folder: only what is there.

Nothing is written to any ring, and nobody notices. Rings of other users are
listed, too, if they can be read; what cannot be read or is damaged is shown
as such."""

EPILOG = """\
columns:
  NAME    what other commands take; /proc/PID/fd/N is a ring without a name
  KIND    shm, file, memfd, or unlinked (in use, but its name is gone)
  FILL    how much of it the slowest reader has not released
  PROD CONS OBS   producers, consumers and observers that live
  DEAD    participants that died and nobody has cleaned up after yet
  LAG     messages that the slowest group has not taken; ~ if there are so many
          that only some were counted
  STATE   "shut down" if no more is to come, whose it is if not this user's, or
          what is wrong ("shmring doctor NAME" tells more)

examples:
  shmring ls
  shmring ls /var/spool/rings ./jobs.ring
  shmring ls --json | jq -r '.[] | select(.dead > 0) | .name'

exit status:
  0 also if there is none; 1 if a PATH is no ring, 2 wrong usage"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `ls` to the command line."""
    parser = add_command(commands, "ls", run, "list the rings of this machine", DESCRIPTION, EPILOG)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="rings, or folders with rings in files")
    add_json(parser, "print a JSON array with one object for each ring")


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring ls`."""
    found = list(find.given(args.paths)) if args.paths else find.everywhere()
    rings = [look_at(each) for each in found]
    if args.json:
        print_json(rings)
    elif rings:
        print_table(
            ("NAME", "KIND ", "SIZE", "FILL", "PROD", "CONS", "OBS", "DEAD", "LAG", "STATE "),
            [row_of(ring) for ring in rings],
        )
    else:
        print("no rings")
    return 1 if args.paths and any(not each.is_ring for each in found) else 0


def look_at(found: find.Found) -> dict[str, Any]:
    """What is known of it: always the same first keys; `error` says why there are no more."""
    facts: dict[str, Any] = {
        "name": found.name,
        "kind": found.kind,
        "size": found.size,
        "allocated": found.nbytes,
        "owner": found.uid,
        "mapped_by": found.mapped_by,
        "error": found.error or None,
        "state": "",
    }
    if found.error:
        facts["state"] = state_of_none(found)
        return facts
    try:
        with find.attach(found) as ring:
            details = describe_ring(ring, exact=False)
    except (shmring.Error, OSError) as error:
        facts["error"] = describe(error)
        facts["state"] = state_of(error)
        return facts
    lag, is_exact = most_lag(details["groups"])
    roles = count_roles(details["participants"])
    facts["state"] = "shut down" if details["shutdown"] else ""
    return {**details, **facts, "dead": roles.pop("dead"), "live": roles, "lag": lag, "lag_is_exact": is_exact}


def state_of_none(found: find.Found) -> str:
    """Why there is nothing to look at, in some words."""
    if found.uid >= 0:
        return "unreadable"
    if "symbolic link" in found.error:
        return "symbolic link"
    hint = found.error.partition("; ")[2]  # where the file is that may have been meant
    return f"no ring; {hint}" if hint else "no ring"


def state_of(error: Exception) -> str:
    """An error in two words."""
    if isinstance(error, shmring.RingTruncated):
        return "cut short"
    if isinstance(error, shmring.LayoutMismatch):
        return "not finished" if "never finished" in str(error) else "other layout"
    if isinstance(error, shmring.RingNotFound):
        return "gone"
    return "damaged" if isinstance(error, shmring.CorruptRing) else "unreadable"


def row_of(ring: dict[str, Any]) -> list[Cell]:
    """A ring's cells."""
    if ring["error"]:
        size = format_size(ring["size"]) if ring["size"] else "-"
        style = "dim" if ring["state"].startswith(("unreadable", "no ring", "symbolic link", "gone")) else "bold red"
        return [(ring["name"], style), ring["kind"], size, *["-"] * 6, (with_owner(ring), style)]
    live = ring["live"]
    fill = ring["fill"]
    return [
        (ring["name"], "bold"),
        ring["kind"],
        format_size(ring["capacity"]),
        (f"{fill:.0%}", "red" if fill > 0.9 else "yellow" if fill > 0.5 else "green"),
        *((str(live[role] or "-"), "" if live[role] else "dim") for role in ("producer", "consumer", "observer")),
        (str(ring["dead"] or "-"), "bold red" if ring["dead"] else "dim"),
        format_lag(ring["lag"], ring["lag_is_exact"]),
        (with_owner(ring), "dim"),
    ]


def with_owner(ring: dict[str, Any]) -> str:
    """The state, and whose it is if not ours."""
    if ring["owner"] in (-1, os.geteuid()):
        return ring["state"]
    import pwd

    try:
        name = pwd.getpwuid(ring["owner"]).pw_name
    except KeyError:
        name = f"user {ring['owner']}"
    return f"{ring['state']}, of {name}".removeprefix(", ")
