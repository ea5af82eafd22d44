"""Who waits for whom, from one snapshot of a ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmring.snapshot import GroupStats, ParticipantStats, Stats

# From here on a ring counts as full: a producer may wait for more than is left.
NEARLY_FULL = 0.9
FEW = 3


def who_blocks(stats: Stats) -> list[str]:
    """One sentence for each cause of waiting: producers held up by groups and members, readers by open reservations.

    A snapshot: somebody may have gone on meanwhile.
    """
    return [*blocks_of_producers(stats), *blocks_of_readers(stats)]


def blocks_of_producers(stats: Stats) -> list[str]:
    """Who keeps the ring full."""
    waiting = [user for user in stats.participants if user.role == "producer" and user.parked and user.alive]
    if stats.fill < NEARLY_FULL and not waiting:
        return []
    # Everybody who is as far behind as the slowest, give or take what a producer may be waiting for.
    limit = stats.used - (stats.capacity - int(stats.capacity * NEARLY_FULL))
    causes = []
    for group in stats.groups:
        if group.lag_bytes >= limit and group.lag_bytes:
            causes.append(f"group {group.name!r}, {describe_members(group)}, is behind")
    for user in stats.participants:
        if user.held_bytes >= limit and user.held_bytes:
            causes.append(f"{describe(user)} has not released what it took")
        elif user.open_bytes >= limit and user.open_bytes:
            causes.append(f"{describe(user)} has not committed its reservation")
    if not causes:
        return []
    lead = f"{stats.fill:.0%} full"
    if waiting:
        lead = f"{name_all(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for room"
    return [f"{lead}: {'; '.join(causes)}"]


def blocks_of_readers(stats: Stats) -> list[str]:
    """Who has reserved, and not committed, what readers come to next."""
    waiting = [user for user in stats.participants if user.role != "producer" and user.parked and user.alive]
    behind = {group.name: group.lag_bytes for group in stats.groups}
    lines = []
    for user in stats.participants:
        if not user.open_bytes:
            continue
        held_up = [
            each for each in waiting if each.group is not None and 0 < behind.get(each.group, 0) <= user.open_bytes
        ]
        if held_up:
            verb = "waits" if len(held_up) == 1 else "wait"
            lines.append(f"{name_all(held_up)} {verb} for {describe(user)} to commit its reservation")
    return lines


def describe(user: ParticipantStats) -> str:
    """A participant."""
    dead = "" if user.alive else "dead "
    group = f" of {user.group!r}" if user.group else ""
    return f"{dead}{user.role}{group} with pid {user.pid}"


def describe_members(group: GroupStats) -> str:
    """Who reads a group."""
    if not group.members:
        return "which nobody reads"
    pids = ", ".join(map(str, group.members[:FEW])) + (" ..." if len(group.members) > FEW else "")
    return f"read by pid {pids}"


def name_all(users: list[ParticipantStats]) -> str:
    """Several participants in a row."""
    if len(users) == 1:
        return describe(users[0])
    pids = ", ".join(str(user.pid) for user in users[:FEW]) + (" ..." if len(users) > FEW else "")
    roles = sorted({user.role for user in users})
    return f"{len(users)} {' and '.join(role + 's' for role in roles)} ({pids})"
