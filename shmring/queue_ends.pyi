import os
from collections.abc import Iterable
from types import GenericAlias, TracebackType
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from typing_extensions import Self

from shmring.policy import WaitPolicy
from shmring.ring import Ring

_T = TypeVar("_T")
_Wait: TypeAlias = WaitPolicy | Literal["spin", "adaptive", "park"]
_Trust: TypeAlias = int | Iterable[int] | Literal["anyone"] | None

CAPACITY: str
MAX_PARTICIPANTS: int
MOST: int
CALLS: tuple[str, ...]

def seconds(block: bool, timeout: float | None) -> float | None: ...

class Ends(Generic[_T]):
    @classmethod
    def open(
        cls, name: str | os.PathLike[str], *, timeout: float | None = None, wait: _Wait = "adaptive", trust: _Trust = None
    ) -> Self: ...
    def empty(self) -> bool: ...
    def close(self) -> None: ...
    def unlink(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None = ..., error: BaseException | None = ..., trace: TracebackType | None = ...
    ) -> None: ...
    @property
    def ring(self) -> Ring: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
