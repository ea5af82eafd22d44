"""Every exception that shmring raises on purpose.

The root is `Error`. Each concrete error also derives from the builtin that a Python programmer would expect, so that
`except FileNotFoundError` works as well as `except RingNotFound`. Time-outs are plain `TimeoutError`, and using a closed
handle is a plain `ValueError`, as everywhere in the standard library. Messages carry the numbers: asked, had, limit, who.
"""

from __future__ import annotations


class Error(Exception):
    """The root of every error that is shmring's own."""


# ---- the ring as a named object ----------------------------------------------------------------------------------


class RingExists(Error, FileExistsError):
    """`create` found the name taken: by a ring (of another shape, when exist_ok), or by something else."""


class RingNotFound(Error, FileNotFoundError):
    """No ring of that name (or none yet, when `open` had a timeout)."""


class LayoutMismatch(Error, ValueError):
    """The bytes belong to another layout version, another build's sizes, or to no ring at all."""


class CorruptRing(Error, ValueError):
    """A value read from shared memory is impossible. The text names its offset and the value."""


class RingTruncated(Error, OSError):
    """Another process cut the file under the mapping; what was beyond its new end is gone."""


# ---- participants ------------------------------------------------------------------------------------------------


class MessageTooLarge(Error, ValueError):
    """The message can never fit into this ring; the text gives its size and the limit, both in bytes."""


class ProducerTaken(Error, BlockingIOError):
    """A ring made for a single producer has a live one; the text names its pid."""


class MemberTaken(Error, BlockingIOError):
    """An exclusive group has a live member; the text names its pid."""


class TooManyParticipants(Error, OSError):
    """Every slot of the participant table belongs to somebody alive."""


class TooManyGroups(Error, OSError):
    """Every entry of the group table is in use."""


class ClaimOpen(Error, BufferError):
    """A producer was used while one of its claims waits for commit or abort."""


class WrongProcess(Error, RuntimeError):
    """A producer or consumer was used in a forked child of the process that made it."""


class ShutDown(Error):
    """The ring was shut down: at once for producers, after the last message for consumers."""


class Lapped(Error):
    """An observer was overtaken by the producers; `lost` messages are gone."""

    def __init__(self, message: str, lost: int = 0) -> None:
        super().__init__(message)
        self.lost = lost
