"""Waiting for several handles at once."""

from __future__ import annotations

from shmring.errors import Loading

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing, which takes longer than all of shmring
if TYPE_CHECKING:
    from collections.abc import Iterable

    from shmring.consumer import Consumer
    from shmring.producer import Producer

_wait_any = None  # of shmring.waitv, once it is needed


def wait(handles: Iterable[Consumer | Producer], timeout: float | None = None) -> list:
    """Wait until one of several consumers has data, or one of several producers has room.

    Parameters
    ----------
    handles : iterable of Consumer and Producer
        Of any rings; 1 to 128. A consumer is ready when `recv` would not wait; a producer when the message that it last had
        no room for (or an empty one, if it always had room) would fit. Both are ready after shutdown.
    timeout : float or None
        Seconds; None: for ever; 0: only look.

    Returns
    -------
    list
        The ready ones, in the order given; empty when the time was up.

    Raises
    ------
    ValueError
        No handles, more than 128, or a closed one.
    TypeError
        Something else; also a single consumer, as its messages are what iterating over it gives.

    Cost: no thread, no descriptor; one futex_waitv call per sleep. Where the kernel has none (Linux before 5.16), or a seccomp
    filter refuses it, a look every millisecond. An observer of a ring that is open for reading only can be woken by nobody: as
    long as there is one among the handles, the sleep ends every millisecond for a look, too.
    """
    global _wait_any
    if _wait_any is None:
        with Loading("shmring.waitv"):
            from shmring.waitv import wait_any as _wait_any

    if hasattr(handles, "fileno") or hasattr(handles, "_under"):
        raise TypeError(f"shmring.wait takes a list of handles: [handle], not {handles!r} alone")
    handles = list(handles)
    under = [getattr(each, "_under", each) for each in handles]  # of arrays: what takes their messages
    begun = [each for each in handles if getattr(each, "_has_rest", False)]
    ready = _wait_any(under, 0 if begun else timeout)
    return [each for each, below in zip(handles, under, strict=True) if below in ready or each in begun]
