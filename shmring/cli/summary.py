"""Everything about a ring as plain dicts: what `ls`, `stat`, `metrics` and their `--json` show."""

from __future__ import annotations

import datetime
from typing import Any

import shmring
from shmring import evidence


def describe_ring(ring: shmring.Ring, *, exact: bool) -> dict[str, Any]:
    """A ring and its statistics. Keys are stable; numbers are bytes, messages or ns, as their names say.

    Parameters
    ----------
    exact : bool
        As for `Ring.stats`.
    """
    from shmring.examine import identity_of

    stats = ring.stats(exact=exact).as_dict()
    identity = identity_of(ring)
    created = datetime.datetime.fromtimestamp(identity["created_ns"] / 1e9, datetime.timezone.utc)
    facts = {
        "name": ring.name,
        "uuid": ring.uuid.hex(),
        "producers": ring.producers,
        "capacity": ring.capacity,
        "control_bytes": stats["control_bytes"],
        "max_message": ring.max_message,
        "max_participants": ring.max_participants,
        "max_groups": ring.max_groups,
        "align": ring.align,
        "content": ring.content,
        "created": created.isoformat(timespec="seconds"),
        "is_of_this_boot": identity["boot_id"] == evidence.own_identity().boot_id.hex(),
        **identity,
    }
    facts.update({key: value for key, value in stats.items() if key not in facts})
    for user in facts["participants"]:
        user["stopped"] = user["alive"] and is_stopped(user["pid"])
    return facts


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal, or under a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def count_roles(participants: list[dict[str, Any]]) -> dict[str, int]:
    """How many producers, consumers and observers live, and how many participants are dead."""
    counts = {"producer": 0, "consumer": 0, "observer": 0, "dead": 0}
    for user in participants:
        counts["dead" if not user["alive"] else user["role"] if user["role"] in counts else "dead"] += 1
    return counts


def most_lag(groups: list[dict[str, Any]]) -> tuple[int, bool]:
    """Messages that the slowest group is behind, and whether they were counted."""
    if not groups:
        return 0, True
    slowest = max(groups, key=lambda group: group["lag"])
    return slowest["lag"], slowest["lag_is_exact"]


def describe_user(user: dict[str, Any]) -> str:
    """A participant in messages: "consumer of group 'a' with pid 7"."""
    group = f" of group {user['group']!r}" if user["group"] else ""
    return f"{user['role']}{group} with pid {user['pid']}"


def format_lag(lag: int, is_exact: bool) -> str:
    """A number of messages; "~" if it was guessed.

    >>> format_lag(12, True), format_lag(1_234_567, True), format_lag(1_234_567, False)
    ('12', '1,234,567', '~1,230,000')
    """
    if is_exact:
        return f"{lag:,}"
    digits = max(len(str(lag)) - 3, 0)
    return f"~{round(lag, -digits):,}"
