from collections.abc import Iterable
from typing import Final

PROTOCOL: Final = 5

def pack(obj: object) -> bytes: ...
def pack_many(objects: Iterable[object]) -> list[bytes]: ...
