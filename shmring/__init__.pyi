import os
from collections.abc import Iterable
from typing import Literal, TypeVar

from shmring.consumer import Consumer, View
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
from shmring.producer import Claim, Producer
from shmring.ring import Ring
from shmring.snapshot import Stats

__version__: str

_Handle = TypeVar("_Handle", Producer, Consumer, Producer | Consumer)

def create(
    name: str | os.PathLike[str],
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "single",
    mode: int = 0o600,
    exist_ok: bool = False,
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] = 16,
    reserve: bool = True,
) -> Ring: ...
def open(name: str | os.PathLike[str], *, timeout: float | None = None, readonly: bool = False) -> Ring: ...
def anonymous(
    capacity: int | str = "16 MiB",
    *,
    producers: Literal["single", "multi"] = "single",
    max_participants: int = 64,
    max_groups: int = 16,
    align: Literal[16, 64] = 16,
    reserve: bool = True,
) -> Ring: ...
def unlink(name: str | os.PathLike[str]) -> None: ...
def wait(handles: Iterable[_Handle], timeout: float | None = None) -> list[_Handle]: ...
def get_include() -> str: ...

__all__ = [
    "Claim",
    "ClaimOpen",
    "Consumer",
    "CorruptRing",
    "Error",
    "Lapped",
    "LayoutMismatch",
    "Mapping",
    "MemberTaken",
    "MessageTooLarge",
    "Producer",
    "ProducerTaken",
    "Ring",
    "RingExists",
    "RingNotFound",
    "RingTruncated",
    "ShutDown",
    "Stats",
    "TooManyGroups",
    "TooManyParticipants",
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
