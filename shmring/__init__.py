"""shmring: messages between Python processes through a lock-free ring in shared memory.

    ring = shmring.create("quotes", "16 MiB")
    with ring.producer() as tx:
        tx.send(b"hello")

    ring = shmring.open("quotes")                   # in another process
    with ring.consumer() as rx:
        print(rx.recv())
"""

import os as _os

from shmring.creation import anonymous, create, unlink
from shmring.creation import open_ring as open
from shmring.errors import (
    BorrowedTooLong,
    ClaimOpen,
    CodecError,
    CorruptRing,
    Error,
    Lapped,
    LayoutMismatch,
    MemberTaken,
    MessageTooLarge,
    ProducerDied,
    ProducersGone,
    ProducerTaken,
    RingExists,
    RingNotFound,
    RingTruncated,
    ShutDown,
    TooManyGroups,
    TooManyParticipants,
    TooManyViews,
    UnknownCodec,
    UntrustedRing,
    WrongProcess,
)
from shmring.errors import Loading as _Loading
from shmring.mapping import Mapping
from shmring.policy import WaitPolicy
from shmring.ring import Ring
from shmring.wait import wait

__version__ = "0.1.0"

__all__ = [
    "ArrayClaim",
    "ArrayConsumer",
    "ArrayObserver",
    "ArrayProducer",
    "ArrayRing",
    "ArrayView",
    "BorrowedTooLong",
    "Claim",
    "ClaimOpen",
    "CodecError",
    "Consumer",
    "ConsumerStats",
    "CorruptRing",
    "Error",
    "JoinableQueue",
    "Lapped",
    "LayoutMismatch",
    "Mapping",
    "MemberTaken",
    "MessageTooLarge",
    "ObjectView",
    "ObservedView",
    "Observer",
    "Pin",
    "Producer",
    "ProducerDied",
    "ProducerTaken",
    "ProducersGone",
    "Queue",
    "RecordsView",
    "Ring",
    "RingExists",
    "RingNotFound",
    "RingTruncated",
    "ShutDown",
    "SimpleQueue",
    "Stats",
    "TooManyGroups",
    "TooManyParticipants",
    "TooManyViews",
    "UnknownCodec",
    "UntrustedRing",
    "View",
    "WaitPolicy",
    "WrongProcess",
    "anonymous",
    "create",
    "get_include",
    "open",
    "unlink",
    "wait",
]

# Loaded when first used: a ring alone does not need them.
_LATE = {
    "ArrayView": "objects",
    "ArrayClaim": "array_writer",
    "ArrayConsumer": "array_consumer",
    "ArrayObserver": "array_observer",
    "ArrayProducer": "array_writer",
    "ArrayRing": "array_ring",
    "Claim": "producer",
    "Consumer": "consumer",
    "ConsumerStats": "snapshot",
    "ObjectView": "objects",
    "JoinableQueue": "queue",
    "ObservedView": "view",
    "Observer": "observer",
    "Pin": "snapshot",
    "Producer": "producer",
    "Queue": "queue",
    "SimpleQueue": "queue",
    "RecordsView": "array_view",
    "Stats": "snapshot",
    "View": "view",
}


def __getattr__(name):
    from importlib import import_module

    module = name if name in ("aio", "codecs") else _LATE.get(name)
    if module is None:
        raise AttributeError(f"module 'shmring' has no attribute {name!r}")
    with _Loading(f"shmring.{module}"):
        found = import_module(f"shmring.{module}")
    return found if module == name else getattr(found, name)


def __dir__():
    return sorted({*globals(), *__all__})


def get_include():
    """The folder with shmring's C headers: what an extension that cimports shmring adds to its include_dirs."""
    return _os.path.join(_os.path.dirname(__file__), "include")
