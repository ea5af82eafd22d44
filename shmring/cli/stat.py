"""`shmring stat NAME`: everything that a ring says of itself."""

from __future__ import annotations

import argparse
from typing import Any

from shmring.cli.arguments import add_command, add_json, add_name, add_trust, print_json
from shmring.cli.blocks import who_blocks
from shmring.cli.ring_name import open_ring
from shmring.cli.summary import describe_ring, format_lag
from shmring.cli.tables import Cell, print_facts, print_table
from shmring.cli.units import format_bytes, format_count, format_ns, format_size, some

DESCRIPTION = """\
Show everything about a ring: how it was made, how full it is, its groups with
what they lag behind, its participants with what they did, and who waits for
whom. Nothing is written to the ring, and nobody notices.

Every number was true at some moment of the last milliseconds. Counters of a
participant begin when it attaches."""

EPILOG = """\
columns of groups:
  LAG       messages that no member has taken, and the bytes they take
  MEMBERS   pids
  DIED      members found dead; AGAIN: messages that others got again after
            them; DROPPED: messages that nobody got (redeliver=False)

columns of participants:
  STATE     active, asleep (parked: the ring is full for a producer, empty for
            others), stopped (by SIGSTOP or a debugger), or DEAD
  WAITS     times it waited for a message, or (a producer) for room; how long
            that took the producers is said below
  PARKS     times it slept; WAKES: times it woke somebody
  HOLDS     how far back the oldest message lies that it has not released, or
            that it has reserved and not committed

examples:
  shmring stat quotes
  shmring stat quotes --json | jq .fill
  shmring stat /proc/4711/fd/3      an anonymous ring, by a process that has it

exit status:
  0 success, 1 there is no such ring or it cannot be read, 2 wrong usage"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `stat` to the command line."""
    parser = add_command(commands, "stat", run, "everything about a ring", DESCRIPTION, EPILOG)
    add_name(parser)
    add_json(parser, "print one JSON object")
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring stat`."""
    with open_ring(args.name, readonly=True, trust=args.trust) as ring:
        facts = describe_ring(ring, exact=True)
        stats = ring.stats(exact=False)
    blocked = who_blocks(stats)
    if args.json:
        print_json({**facts, "name": args.name, "blocked": blocked})
    else:
        show(args.name, facts, blocked)
    return 0


def show(name: str, facts: dict[str, Any], blocked: list[str]) -> None:
    """As text."""
    boot = "" if facts["is_of_this_boot"] else ", before this machine was last started"
    rows: list[tuple[str, Cell]] = [
        ("name", (name, "bold")),
        ("capacity", f"{format_size(facts['capacity'])}, and {format_size(facts['control_bytes'])} of control pages"),
        ("filled", (f"{facts['fill']:.1%}, {format_bytes(facts['used'])}", "bold")),
        ("producers", {"single": "one at a time", "multi": "any number at a time"}[facts["producers"]]),
        ("message", f"at most {format_bytes(facts['max_message'])}; aligned to {facts['align']} bytes"),
        ("content", facts["content"] or "not said"),
        ("room for", f"{facts['max_participants']} participants, {facts['max_groups']} groups"),
        ("made", f"{facts['created']} by pid {facts['creator_pid']}{boot}"),
        ("uuid", facts["uuid"]),
        ("position", f"{facts['tail']:,}"),
        ("died", f"{some(facts['repairs'], 'participant')}, with {some(facts['aborted'], 'message')} that will not come"),
    ]
    if facts["shutdown"]:
        rows.append(("shut down", ("no more messages will come", "yellow")))
    print_facts(rows)
    print()
    print_table(
        ("GROUP", "LAG", "BYTES", "DIED", "AGAIN", "DROPPED", "MEMBERS "),
        [
            [
                group["name"],
                format_lag(group["lag"], group["lag_is_exact"]),
                format_bytes(min(group["lag_bytes"], facts["capacity"])),
                str(group["repaired"]),
                str(group["redelivered"]),
                str(group["dropped"]),
                " ".join(map(str, group["members"])) or ("nobody", "yellow"),
            ]
            for group in facts["groups"]
        ],
    )
    print()
    print_table(
        ("PARTICIPANT", "PID", "STATE ", "MESSAGES", "BYTES", "WAITS", "PARKS", "WAKES", "HOLDS"),
        [participant_row(user) for user in facts["participants"]],
    )
    if not facts["participants"]:
        print("(nobody is attached)")
    lines = [*stalls_of(facts["participants"]), *blocked]
    if lines:
        print()
    for line in lines:
        print(line)


def stalls_of(participants: list[dict[str, Any]]) -> list[str]:
    """A line for each producer that had to wait for room."""
    return [
        f"producer with pid {user['pid']} waited {some(user['stalls'], 'time')} for room, "
        + f"{format_ns(user['stalled_ns'])} in all"
        + (", without the wait that it is in" if user["parked"] else "")
        for user in participants
        if user["role"] == "producer" and user["stalls"]
    ]


def participant_row(user: dict[str, Any]) -> list[Cell]:
    """One participant's cells."""
    role = user["role"] if user["group"] is None else f"{user['role']} {user['group']}"
    state: Cell = ("asleep", "dim") if user["parked"] else ("active", "green")
    if user["stopped"]:
        state = ("stopped", "yellow")
    held = max(user["held_bytes"], user["open_bytes"])
    return [
        role,
        str(user["pid"]),
        state if user["alive"] else ("DEAD", "bold red"),
        format_count(user["messages"]),
        format_bytes(user["bytes"]),
        format_count(user["waits"]),
        format_count(user["parks"]),
        format_count(user["wakes"]),
        format_bytes(held) if held else "-",
    ]
