"""What `shmring top` knows of a ring: samples of its statistics, the rates between two of them, and their history."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import shmring
from shmring.cli import find
from shmring.cli.blocks import who_blocks
from shmring.cli.failure import describe
from shmring.cli.summary import is_stopped

if TYPE_CHECKING:
    from shmring.ring import Ring
    from shmring.snapshot import ParticipantStats, Stats

# Samples of the sparklines: a minute at the default interval is more than 80 columns can show.
HISTORY = 60
SPARKS = "▁▂▃▄▅▆▇█"
# Counters of a participant of which top shows rates.
COUNTERS = ("messages", "bytes", "waits", "stalls", "parks", "wakes")


@dataclass
class User:
    """A participant, with its rates since the sample before (per second)."""

    facts: ParticipantStats
    rates: dict[str, float]
    stopped: bool = False  # by a signal or a debugger


@dataclass
class Sample:
    """One look at a ring. Rates are per second, since the sample before; 0 in the first."""

    stats: Stats
    users: list[User]
    sent: float  # messages, by the counters of its producers
    sent_bytes: float  # payload
    received: float  # messages, by the counters of its consumers
    parks: float
    wakes: float
    stalls: float  # times that producers began to wait because it was full
    lag: int
    lag_is_exact: bool
    blocked: list[str]


@dataclass(eq=False)
class Watch:
    """A ring that is looked at again and again. `error`: why it cannot be."""

    found: find.Found
    error: str = ""
    sample: Sample | None = None
    fills: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    lags: dict[str, deque[float]] = field(default_factory=dict)
    _ring: Ring | None = None
    _then: float = 0.0
    _before: dict[tuple[int, int], ParticipantStats] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The ring's name."""
        return self.found.name

    @property
    def ring(self) -> Ring | None:
        """The ring, open for reading only; None before the first look, and if it cannot be read."""
        return self._ring

    @property
    def activity(self) -> tuple[float, int, float]:
        """What to compare by, for the one that is worth a look: messages per second, participants, fill."""
        if self.sample is None:
            return (-1.0, 0, 0.0)
        return self.sample.sent + self.sample.received, len(self.sample.users), self.sample.stats.fill

    def look(self) -> None:
        """Take a sample. What goes wrong with a ring is shown in its place, and tried again the next time."""
        try:
            if self._ring is None:
                if self.found.error:
                    self.error = self.found.error
                    return
                self._ring = find.attach(self.found)
            stats = self._ring.stats(exact=False)
        except (shmring.Error, OSError) as error:
            self.error = describe(error)
            self.close()
            return
        self.error = ""
        self.enter(stats, time.monotonic())

    def enter(self, stats: Stats, now: float) -> None:
        """Make a sample of statistics that were taken at `now` (seconds)."""
        passed = now - self._then if self._then else 0.0
        users = [
            User(
                facts,
                rates_of(facts, self._before.get((facts.slot, facts.pid)), passed),
                facts.alive and is_stopped(facts.pid),
            )
            for facts in stats.participants
        ]
        self._before = {(facts.slot, facts.pid): facts for facts in stats.participants}
        self._then = now

        def total(counter: str, *roles: str) -> float:
            return sum(user.rates[counter] for user in users if not roles or user.facts.role in roles)

        slowest = max(stats.groups, key=lambda group: group.lag, default=None)
        self.sample = Sample(
            stats=stats,
            users=users,
            sent=total("messages", "producer"),
            sent_bytes=total("bytes", "producer"),
            received=total("messages", "consumer"),
            parks=total("parks"),
            wakes=total("wakes"),
            stalls=total("stalls", "producer"),
            lag=slowest.lag if slowest else 0,
            lag_is_exact=slowest.lag_is_exact if slowest else True,
            blocked=who_blocks(stats),
        )
        self.fills.append(stats.fill)
        if passed:
            self.rates.append(self.sample.sent)
        for group in stats.groups:
            self.lags.setdefault(group.name, deque(maxlen=HISTORY)).append(min(group.lag_bytes / stats.capacity, 1.0))
        for gone in self.lags.keys() - {group.name for group in stats.groups}:
            del self.lags[gone]

    def close(self) -> None:
        """Unmap the ring."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self.sample = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        if self.sample is None:
            return {"name": self.name, "error": self.error}
        sample = self.sample
        return {
            "name": self.name,
            "error": None,
            "capacity": sample.stats.capacity,
            "fill": sample.stats.fill,
            "sent_per_s": sample.sent,
            "sent_bytes_per_s": sample.sent_bytes,
            "received_per_s": sample.received,
            "parks_per_s": sample.parks,
            "wakes_per_s": sample.wakes,
            "full_stalls_per_s": sample.stalls,
            "groups": [
                {"name": group.name, "lag": group.lag, "lag_is_exact": group.lag_is_exact, "members": group.members}
                for group in sample.stats.groups
            ],
            "participants": [
                {
                    "role": user.facts.role,
                    "pid": user.facts.pid,
                    "group": user.facts.group,
                    "alive": user.facts.alive,
                    "parked": user.facts.parked,
                    "stopped": user.stopped,
                    **{f"{counter}_per_s": rate for counter, rate in user.rates.items()},
                }
                for user in sample.users
            ],
            "blocked": sample.blocked,
        }


def rates_of(now: ParticipantStats, before: ParticipantStats | None, passed: float) -> dict[str, float]:
    """Its counters' growth per second; 0 for one that was not there before, or began anew in the same slot."""
    if before is None or not passed:
        return dict.fromkeys(COUNTERS, 0.0)
    return {counter: max(getattr(now, counter) - getattr(before, counter), 0) / passed for counter in COUNTERS}


def sparkline(values: Any, cells: int, highest: float | None = None) -> str:
    """The last `cells` values as bars, of which the highest has the height of `highest` (default: their own maximum).

    >>> sparkline([0, 1, 2, 4], 6)
    '  ▁▂▄█'
    >>> sparkline([0.5], 1, 1.0)
    '▄'
    """
    shown = list(values)[-cells:]
    top = max(shown, default=0.0) if highest is None else highest
    text = ""
    for value in shown:
        level = round(min(value / top, 1.0) * len(SPARKS)) - 1 if top else 0
        text += SPARKS[max(level, 0)]
    return text.rjust(cells)
