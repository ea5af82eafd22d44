"""shmring: messages between Python processes through a lock-free ring in shared memory.

    ring = shmring.create("quotes", "16 MiB")
    with ring.producer() as tx:
        tx.send(b"hello")

    ring = shmring.open("quotes")                   # in another process
    with ring.consumer() as rx:
        print(rx.recv())
"""

from shmring.creation import anonymous, create, unlink
from shmring.creation import open_ring as open
from shmring.errors import (
    ClaimOpen,
    CorruptRing,
    Error,
    Lapped,
    LayoutMismatch,
    MemberTaken,
    MessageTooLarge,
    ProducerTaken,
    RingExists,
    RingNotFound,
    RingTruncated,
    ShutDown,
    TooManyGroups,
    TooManyParticipants,
    WrongProcess,
)
from shmring.mapping import Mapping
from shmring.policy import WaitPolicy
from shmring.ring import Ring
from shmring.wait import wait

__version__ = "0.1.0"

__all__ = [
    "ClaimOpen",
    "CorruptRing",
    "Error",
    "Lapped",
    "LayoutMismatch",
    "Mapping",
    "MemberTaken",
    "MessageTooLarge",
    "ProducerTaken",
    "Ring",
    "RingExists",
    "RingNotFound",
    "RingTruncated",
    "ShutDown",
    "TooManyGroups",
    "TooManyParticipants",
    "WaitPolicy",
    "WrongProcess",
    "anonymous",
    "create",
    "open",
    "unlink",
    "wait",
]
