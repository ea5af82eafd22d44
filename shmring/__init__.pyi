import os
from collections.abc import Iterable
from typing import Literal, TypeAlias, TypeVar

from shmring import codecs as codecs
from shmring.consumer import Consumer
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
from shmring.mapping import Mapping
from shmring.objects import ArrayView, ObjectView
from shmring.observer import Observer
from shmring.policy import WaitPolicy
from shmring.producer import Claim, Producer
from shmring.queue import JoinableQueue, Queue, SimpleQueue
from shmring.ring import Ring
from shmring.snapshot import ConsumerStats, Pin, Stats
from shmring.view import ObservedView, View

__version__: str

_Trust: TypeAlias = int | Iterable[int] | Literal["anyone"] | None
_Handle = TypeVar("_Handle", bound=Producer | Consumer | Observer)

def create(
    name: str | os.PathLike[str],
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    mode: int = 0o600,
    exist_ok: bool = False,
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] = 16,
    content: str = "",
    reserve: bool = True,
    trust: _Trust = None,
) -> Ring: ...
def open(
    name: str | os.PathLike[str], *, timeout: float | None = None, readonly: bool = False, trust: _Trust = None
) -> Ring: ...
def anonymous(
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] = 16,
    content: str = "",
    reserve: bool = True,
) -> Ring: ...
def unlink(name: str | os.PathLike[str]) -> None: ...
def wait(handles: Iterable[_Handle], timeout: float | None = None) -> list[_Handle]: ...
def get_include() -> str: ...

__all__ = [
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
