"""The codec "msgspec": msgpack by way of msgspec, for peers that need not be trusted. Nothing that it reads is run.

The codec of that name knows plain data: None, bool, int, float, str, bytes, list, dict, and datetimes. One for a type of yours,
which checks what comes in, is registered by both sides:

    shmring.codecs.register(MsgspecCodec("quotes", type=Quote))
"""

from __future__ import annotations

from shmring.errors import CodecError

try:
    import msgspec
except ImportError as error:
    raise ImportError("the codec 'msgspec' needs msgspec: pip install 'shmring[msgspec]'") from error


class MsgspecCodec:
    """msgpack for one type.

    Parameters
    ----------
    name : str
        The codec's name.
    type : type
        What messages are: anything that msgspec can check. Default: plain data.
    enc_hook, dec_hook : callable or None
        As for msgspec.msgpack.Encoder and Decoder: for types that msgspec does not know.

    Concurrency: any number of threads. Cost: as msgspec, and one copy each way.
    """

    runs_code = False

    def __init__(self, name, type=None, *, enc_hook=None, dec_hook=None):
        self.name = name
        self.pack = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode
        kind = () if type is None else (type,)
        self._decode = msgspec.msgpack.Decoder(*kind, dec_hook=dec_hook).decode

    def unpack(self, data, *, borrow=False):
        """The object, which never refers to `data`. Raises CodecError if it is no msgpack of this type."""
        if type(data) is not bytes:
            data = bytes(data)  # the writer may be hostile, and change it after it was checked
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
            raise CodecError(f"a message of {len(data)} bytes is not what the codec {self.name!r} writes: {error}") from error


codec = MsgspecCodec("msgspec")
