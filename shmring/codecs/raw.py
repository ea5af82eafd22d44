"""The codec "raw": bytes-like objects as they are, for rings whose messages already are what they should be."""

from __future__ import annotations


class _Memory:
    """A bytes-like object on its way."""

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.nbytes = memory.nbytes

    def write_into(self, memory: memoryview) -> None:
        memory[: self.nbytes] = self.memory


class RawCodec:
    """Bytes-like in, bytes out; with borrow=True a read-only memoryview of the message."""

    name = "raw"
    runs_code = False

    def pack(self, obj):
        """`obj` is anything with a C-contiguous buffer; TypeError or BufferError otherwise."""
        if type(obj) is bytes:
            return obj
        with memoryview(obj) as memory:
            if not memory.c_contiguous:
                raise BufferError("the codec 'raw' sends contiguous memory only; bytes(obj) makes a copy that is")
            if not memory.nbytes:
                return b""
            return _Memory(memory.cast("B"))

    def unpack(self, data, *, borrow=False):
        return data if borrow else bytes(data)


codec = RawCodec()
