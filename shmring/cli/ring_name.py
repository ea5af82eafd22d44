"""What a ring's name stands for at this moment.

A name can be removed, and taken by another ring, while a process still has the first one mapped.
Removing "the ring I just finished" by its name could then remove a stranger's. The uuid that every
ring is made with tells the two apart.
"""

from __future__ import annotations

import shmring

WAIT_STEP_S = 60.0


def open_ring(name: str, timeout: float | None = 0) -> shmring.Ring:
    """Open the ring `name`.

    Parameters
    ----------
    name : str
    timeout : float or None
        Seconds to wait for the ring to appear; 0 never waits, None waits for ever.

    Raises
    ------
    RingNotFound
        There is no ring of that name, or none yet after `timeout` seconds.
    """
    while True:
        try:
            ring = shmring.open(name, timeout=WAIT_STEP_S if timeout is None else timeout)
            return ring.ring if isinstance(ring, shmring.ArrayRing) else ring  # here messages are bytes
        except shmring.RingNotFound:
            if timeout is None:
                continue
            waited = f" after {timeout:g} s" if timeout else ""
            raise shmring.RingNotFound(f"there is no ring {name!r}{waited}") from None


def stands_for(name: str, ring: shmring.Ring) -> bool:
    """Whether `name` leads to `ring` (a snapshot)."""
    try:
        with shmring.open(name, timeout=0, readonly=True) as found:
            return found.uuid == ring.uuid
    except (shmring.RingNotFound, shmring.LayoutMismatch):
        return False


def remove(name: str, ring: shmring.Ring) -> bool:
    """Unlink `name` if it still leads to `ring`; whether it did."""
    if not stands_for(name, ring):
        return False
    try:
        shmring.unlink(name)
    except shmring.RingNotFound:
        return False
    return True
