import os
from collections.abc import Iterable
from typing import Literal, TypeAlias, TypeVar, overload

from numpy.typing import DTypeLike

from shmring import aio as aio
from shmring import codecs as codecs
from shmring.array_consumer import ArrayConsumer
from shmring.array_observer import ArrayObserver
from shmring.array_reader import ArrayReceiver
from shmring.array_ring import ArrayRing
from shmring.array_view import RecordsView
from shmring.array_writer import ArrayClaim, ArrayProducer
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
_Handle = TypeVar("_Handle", bound=Producer | Consumer | Observer | ArrayProducer | ArrayReceiver)

@overload
def create(
    name: str | os.PathLike[str],
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    mode: int = 0o600,
    exist_ok: bool = False,
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] | None = None,
    content: str = "",
    reserve: bool = True,
    trust: _Trust = None,
    dtype: None = None,
) -> Ring: ...
@overload
def create(
    name: str | os.PathLike[str],
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    mode: int = 0o600,
    exist_ok: bool = False,
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] | None = None,
    content: str = "",
    reserve: bool = True,
    trust: _Trust = None,
    dtype: DTypeLike,
) -> ArrayRing: ...

# Of a ring that was made with a dtype it is an ArrayRing: say so with typing.cast.
def open(
    name: str | os.PathLike[str], *, timeout: float | None = None, readonly: bool = False, trust: _Trust = None
) -> Ring: ...
@overload
def anonymous(
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] | None = None,
    content: str = "",
    reserve: bool = True,
    dtype: None = None,
) -> Ring: ...
@overload
def anonymous(
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "multi",
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] | None = None,
    content: str = "",
    reserve: bool = True,
    dtype: DTypeLike,
) -> ArrayRing: ...
def unlink(name: str | os.PathLike[str]) -> None: ...
def wait(handles: Iterable[_Handle], timeout: float | None = None) -> list[_Handle]: ...
def get_include() -> str: ...

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
