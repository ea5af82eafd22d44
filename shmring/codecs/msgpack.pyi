from collections.abc import Callable
from typing import Any

class MsgspecCodec:
    name: str
    runs_code: bool
    def __init__(
        self,
        name: str,
        type: Any = None,
        *,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[Any, Any], Any] | None = None,
    ) -> None: ...
    def pack(self, obj: Any, /) -> bytes: ...
    def unpack(self, data: bytes | memoryview, *, borrow: bool = False) -> Any: ...

codec: MsgspecCodec
