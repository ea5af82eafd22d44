from typing import Any, final

from numpy.typing import NDArray

from shmring.array_reader import ArrayReceiver

@final
class ArrayObserver(ArrayReceiver):
    @property
    def lag(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def lost_blocks(self) -> int: ...
    def latest(self, limit: int = 1, timeout: float | None = None) -> NDArray[Any]: ...
