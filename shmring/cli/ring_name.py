"""What a ring's name stands for at this moment.

A name can be removed, and taken by another ring, while a process still has the first one mapped.
Removing "the ring I just finished" by its name could then remove a stranger's. The uuid that every
ring is made with tells the two apart.
"""

from __future__ import annotations

import errno
import os

import shmring
from shmring.cli.find import DESCRIPTOR, open_descriptor
from shmring.creation import open_plain

WAIT_STEP_S = 60.0


def open_ring(
    name: str,
    timeout: float | None = 0,
    *,
    readonly: bool = False,
    trust: str | list[int] | None = None,
) -> shmring.Ring:
    """Open the ring `name`.

    Parameters
    ----------
    name : str
        As for `shmring.open`, or /proc/PID/fd/N: a ring without a name.
    timeout : float or None
        Seconds to wait for the ring to appear; 0 never waits, None waits for ever.

    Raises
    ------
    RingNotFound
        There is no ring of that name, or none yet after `timeout` seconds.
    IsADirectoryError
        It is a folder.
    """
    if DESCRIPTOR.fullmatch(name):
        return open_descriptor(name, readonly=readonly, trust=trust)
    if "/" in name and os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    while True:
        try:
            # Plain: here messages are bytes.
            return open_plain(name, timeout=WAIT_STEP_S if timeout is None else timeout, readonly=readonly, trust=trust)
        except shmring.RingNotFound:
            if timeout is None:
                continue
            waited = f" after {timeout:g} s" if timeout else ""
            raise shmring.RingNotFound(f"there is no ring {name!r}{waited}{hint_at_file(name)}") from None


def hint_at_file(name: str) -> str:
    """What to add to "there is no ring NAME" where one may have meant a file of this folder."""
    return f"; the file of that name here is ./{name}" if "/" not in name and os.path.lexists(name) else ""


def stands_for(name: str, ring: shmring.Ring, trust: str | list[int] | None = None) -> bool:
    """Whether `name` leads to `ring` (a snapshot). A descriptor, which is no name, always does."""
    if DESCRIPTOR.fullmatch(name):
        return True
    try:
        with open_plain(name, timeout=0, readonly=True, trust=trust) as found:
            return found.uuid == ring.uuid
    except (shmring.RingNotFound, shmring.LayoutMismatch):
        return False


def remove(name: str, ring: shmring.Ring, trust: str | list[int] | None = None) -> bool:
    """Unlink `name` if it still leads to `ring`; whether it did."""
    if DESCRIPTOR.fullmatch(name) or not stands_for(name, ring, trust):
        return False
    try:
        shmring.unlink(name)
    except shmring.RingNotFound:
        return False
    return True
