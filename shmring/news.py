"""What a ring has to tell about others: records of the logger "shmring".

Loaded when there is something to tell. Called where no lock of the ring is held, as log handlers may do anything, with the
ring as well. Every record carries its facts as a dict in the attribute `shmring`, for handlers that want no text.
"""

from __future__ import annotations

import logging

_logger = logging.getLogger("shmring")


def log_deaths(ring: str | None, label: str, found: list[dict[str, object]]) -> None:
    """What this process did for participants that it found dead: a record of level INFO for each."""
    for facts in found:
        who = f"{facts['role']} with pid {facts['pid']}"
        if facts["role"] == "consumer" and facts["group"] is not None:
            who = f"consumer of group {facts['group']!r} with pid {facts['pid']}"
        text = f"freed slot {facts['slot']}, which a dead {who} left"
        if facts["missing"]:
            text += f"; {facts['missing']} messages that it had begun will not come"
        elif facts["orphaned"]:
            text += "; what it had not released will be delivered again"
        _logger.info("ring %s: %s", label, text, extra={"shmring": {"event": "died", "ring": ring, **facts}})


def log_lapped(ring: str | None, label: str, slot: int | None, lost: int, total: int) -> None:
    """An observer of this process was overtaken: a record of level INFO, at most one a second for each observer."""
    where = "that only reads" if slot is None else f"in slot {slot}"
    facts = {"event": "lapped", "ring": ring, "slot": slot, "lost": lost, "total": total}
    text = "ring %s: an observer %s was lapped out of %d messages, %d since it began"
    _logger.info(text, label, where, lost, total, extra={"shmring": facts})
