"""`shmring rm NAME`: remove a ring that nobody uses."""

from __future__ import annotations

import argparse
import os

import shmring
from shmring.cli import find
from shmring.cli.arguments import add_command, add_name, add_trust
from shmring.cli.failure import CommandFailed, complain, describe
from shmring.cli.ring_name import open_ring, remove
from shmring.cli.summary import describe_user

DESCRIPTION = """\
Remove rings that nobody uses any more.

A ring is removed if it has no live participant, and no other process has it
open for writing (as far as /proc shows that to this user). Otherwise the
command refuses, and names who is in the way."""

EPILOG = """\
  --force removes the name all the same: who has the ring open keeps using it,
  and nobody else finds it any more. It also removes what is damaged, was never
  finished, or was made by another version of shmring. It never removes a file
  that does not begin as a ring does.

examples:
  shmring rm quotes
  shmring rm ./a.ring ./b.ring
  shmring rm quotes --force

exit status:
  0 all are removed, 1 at least one is not, 2 wrong usage"""


# Who is named; the others are counted.
NAMED = 8


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `rm` to the command line."""
    parser = add_command(commands, "rm", run, "remove a ring that nobody uses", DESCRIPTION, EPILOG)
    add_name(parser, nargs="+", help='rings; paths if they have a "/" in them')
    parser.add_argument(
        "-f", "--force", action="store_true", help="remove it although somebody uses it, or it is damaged"
    )
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring rm`: each NAME, whatever becomes of the others."""
    status = 0
    for name in args.name:
        try:
            remove_one(name, args)
        except (CommandFailed, shmring.Error, OSError, ValueError) as error:
            complain("rm", describe(error))
            status = 1
    return status


def remove_one(name: str, args: argparse.Namespace) -> None:
    """Remove a ring, or say why not."""
    if find.DESCRIPTOR.fullmatch(name):
        raise CommandFailed(f"{name!r} has no name to be removed: it goes with the last process that has it open")
    try:
        ring = open_ring(name, readonly=True, trust=args.trust)
    except (shmring.LayoutMismatch, shmring.CorruptRing) as error:
        remove_broken(name, error, args.force)
        return
    with ring:
        if not args.force:
            refuse_if_used(name, ring)
        if not remove(name, ring, args.trust):
            raise shmring.RingNotFound(f"there is no ring {name!r} any more")


def refuse_if_used(name: str, ring: shmring.Ring) -> None:
    """Raise if somebody lives."""
    users = [user for user in ring.stats(exact=False).as_dict()["participants"] if user["alive"]]
    pids = {user["pid"] for user in users}
    others = [pid for pid in find.holders(find.key_of(os.stat(find.place_of(name).path))) if pid not in pids]
    reasons = [f"a {describe_user(user)}".replace("a observer", "an observer") for user in users]
    reasons += [f"process {pid}, which has it open" for pid in others]
    if len(reasons) > NAMED:
        reasons[NAMED:] = [f"{len(reasons) - NAMED} more"]
    if reasons:
        raise CommandFailed(f"{name!r} is in use by {', '.join(reasons)}; --force removes the name all the same")


def remove_broken(name: str, error: Exception, is_forced: bool) -> None:
    """Remove what begins as a ring does and cannot be opened as one."""
    found = next(iter(find.given([name])))
    if found.error:
        raise error
    if not is_forced:
        raise CommandFailed(f"{describe(error)} -- --force removes it")
    shmring.unlink(name)
