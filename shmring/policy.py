"""How a participant waits: spin, then yield, then park."""

from __future__ import annotations

import os

_FIELDS = ("held", "spin_us", "yields", "parks", "slice_ms")


class WaitPolicy:
    """What a wait does before it sleeps, and how it sleeps.

    A wait that finds nothing goes through the phases in order; each may be empty. Signals (Ctrl-C) are served between them
    and whenever one interrupts a park.

    Parameters
    ----------
    held : int
        Looks taken with the GIL held, a pause instruction apart (20 to 60 ns each). For answers that come within a
        microsecond; other threads of the process stand still meanwhile.
    spin_us : float
        Microseconds to spin without the GIL.
    yields : int
        Times to give up the rest of the time slice (sched_yield) and look again.
    parks : bool
        Sleep in the kernel when all that was in vain. False spins without the GIL until the message or the time-out comes.
    slice_ms : float
        A park looks again after this many milliseconds although nobody woke it: what a notifier's death between its publish
        and its wake can cost. At least 1.

    Presets
    -------
    WaitPolicy.spin
        Never sleeps: lowest latency, a whole core while waiting.
    WaitPolicy.adaptive
        Spins for about as long as a park and a wake would cost, then parks. The default. A process that is confined to one CPU
        parks at once while another participant is confined to the same one, as spinning could only delay that. A consumer
        that has caught up with a stream (eight messages or more in some 3 us) lets more of them come, for 10 to 20 us at most:
        small messages go through faster that way. So does every policy that spins and parks.
    WaitPolicy.park
        Looks twice, then parks: no CPU beyond the work itself.
    """

    # Written out, as importing dataclasses takes longer than importing all of shmring.
    __slots__ = ("held", "parks", "slice_ms", "spin_us", "yields")

    held: int
    spin_us: float
    yields: int
    parks: bool
    slice_ms: float

    spin: WaitPolicy
    adaptive: WaitPolicy
    park: WaitPolicy

    def __init__(
        self, held: int = 100, spin_us: float = 20.0, yields: int = 2, parks: bool = True, slice_ms: float = 100.0
    ) -> None:
        if held < 0 or yields < 0 or not 0 <= spin_us <= 1e9:
            raise ValueError(f"a wait policy's numbers cannot be negative: held={held}, spin_us={spin_us}, yields={yields}")
        if not 1 <= slice_ms <= 1e7:
            raise ValueError(f"slice_ms must be from 1 to 10,000,000, not {slice_ms}")
        for label, value in zip(_FIELDS, (held, spin_us, yields, parks, slice_ms), strict=True):
            object.__setattr__(self, label, value)

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, label) for label in _FIELDS)

    def __setattr__(self, label: str, value: object) -> None:
        raise AttributeError(f"a WaitPolicy does not change; make another one with {label}={value!r}")

    def __delattr__(self, label: str) -> None:
        raise AttributeError(f"a WaitPolicy does not change; it keeps its {label}")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, WaitPolicy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"WaitPolicy({', '.join(f'{label}={getattr(self, label)!r}' for label in _FIELDS)})"

    def __reduce__(self) -> tuple[object, ...]:
        return WaitPolicy, self._values()


WaitPolicy.spin = WaitPolicy(held=1000, spin_us=0.0, yields=0, parks=False)
WaitPolicy.adaptive = WaitPolicy()
WaitPolicy.park = WaitPolicy(held=1, spin_us=0.0, yields=0)

_PRESETS = {"spin": WaitPolicy.spin, "adaptive": WaitPolicy.adaptive, "park": WaitPolicy.park}


def resolve(wait: WaitPolicy | str) -> WaitPolicy:
    """The policy that `wait` names."""
    policy = _PRESETS.get(wait) if isinstance(wait, str) else wait
    if not isinstance(policy, WaitPolicy):
        raise ValueError(f"wait is a WaitPolicy or one of {', '.join(map(repr, _PRESETS))}, not {wait!r}")
    return policy


def lone_cpu() -> int:
    """The only CPU that this thread may use; -1 if there are several."""
    usable = os.sched_getaffinity(0)
    return min(usable) if len(usable) == 1 else -1
