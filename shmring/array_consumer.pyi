from typing import final

from shmring.array_reader import ArrayReceiver

@final
class ArrayConsumer(ArrayReceiver):
    @property
    def group(self) -> str: ...
    @property
    def lag(self) -> int: ...
    @property
    def lost(self) -> int: ...
