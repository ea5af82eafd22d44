"""A message as text for people and as a value for JSON: what `tail` prints.

What a message is, its ring may say (`ring.content`: "array DTYPE", "codec NAME"). NumPy and msgspec are imported only for who
asks.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import shmring
from shmring import codecs
from shmring.cli.failure import CommandFailed
from shmring.cli.tables import printable

FORMATS = ("auto", "text", "hex", "json", "msgpack", "dtype", "codec", "raw")
# key in the JSON of `tail`, and the value under it
Decoded = tuple[str, Any]


def make_decoder(form: str, dtype: str | None, content: str) -> Callable[[bytes], Decoded]:
    """A function that decodes one message.

    Parameters
    ----------
    form : str
        One of FORMATS but "raw". "auto": as the ring's content says, unless that may run code that a sender chose; text where
        it says nothing and the bytes are text, else hex.
    dtype : str or None
        A NumPy dtype as Python or NumPy write it, for "dtype" and "auto".
    content : str
        The ring's.

    Raises
    ------
    CommandFailed
        A package is missing, the dtype is none, or the ring does not say which codec it has.
    """
    edge, _, parameters = content.partition(" ")
    if form == "auto":
        if dtype or edge == "array":
            form = "dtype"
        elif edge == "codec" and parameters != "raw" and is_harmless(parameters):
            form = "codec"
        else:
            form = "guess"
    if form == "dtype":
        return decode_dtype(dtype or (parameters if edge == "array" else ""))
    if form == "msgpack":
        try:
            import msgspec.msgpack
        except ImportError:
            raise CommandFailed("msgspec is missing; pip install 'shmring[cli]'") from None
        return lambda message: ("value", msgspec.msgpack.decode(message))
    if form == "codec":
        return decode_codec(edge, parameters)
    return {"text": decode_text, "hex": decode_hex, "json": decode_json, "guess": guess}[form]


def decode_text(message: bytes) -> Decoded:
    """UTF-8; what is none becomes U+FFFD."""
    return "text", message.decode("utf-8", "replace")


def decode_hex(message: bytes) -> Decoded:
    """Hexadecimal digits."""
    return "hex", message.hex()


def decode_json(message: bytes) -> Decoded:
    """JSON."""
    return "value", json.loads(message)


def guess(message: bytes) -> Decoded:
    """Text if it is, else hex.

    >>> guess(b"quote 7"), guess(bytes([0, 255]))
    (('text', 'quote 7'), ('hex', '00ff'))
    """
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return decode_hex(message)
    is_text = all(char.isprintable() or char in "\t\n\r\x1b" for char in text)
    return ("text", text) if is_text else decode_hex(message)


def decode_dtype(text: str) -> Callable[[bytes], Decoded]:
    """Records of a NumPy dtype: one as it is, several as a list; structured ones as objects."""
    if not text:
        raise CommandFailed("of which dtype are the messages? The ring does not say; give --dtype")
    try:
        import numpy
    except ImportError:
        raise CommandFailed("numpy is missing; pip install numpy") from None
    try:
        dtype = numpy.dtype(ast.literal_eval(text) if text[:1] in "[{(" else text)
    except (TypeError, ValueError, SyntaxError) as error:
        raise CommandFailed(f"{text!r} is no dtype: {error}") from None
    if dtype.hasobject or not dtype.itemsize:
        raise CommandFailed(f"{text!r}: a dtype of bytes is needed, without objects")

    def plain(record: Any) -> Any:
        if record.dtype.names:
            return {name: plain(record[name]) for name in record.dtype.names}
        value = record.tolist()
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def decode(message: bytes) -> Decoded:
        if not message or len(message) % dtype.itemsize:
            raise ValueError(f"{len(message)} bytes are no number of records of {dtype.itemsize} bytes")
        records = numpy.frombuffer(message, dtype)
        if len(records) == 1:
            return "value", plain(records[0])
        return "value", [plain(record) for record in records] if dtype.names else plain(records)

    return decode


def is_harmless(name: str) -> bool:
    """Whether a codec is to be had and says that it runs no code that whoever sent the message chose."""
    try:
        return not getattr(codecs.get(name), "runs_code", True)
    except (shmring.Error, ImportError):
        return False


def decode_codec(edge: str, name: str) -> Callable[[bytes], Decoded]:
    """The codec that the ring names; pickle if it says nothing of its messages, as for `recv_obj`."""
    if edge not in ("", "codec"):
        raise CommandFailed("the ring says that its messages are of no codec")
    try:
        codec = codecs.get(name or "pickle")
    except (shmring.Error, ImportError) as error:
        raise CommandFailed(f"the ring's codec {name!r} is not to be had: {error}") from None
    return lambda message: ("value", codec.unpack(message))


def decode_or_hex(decode: Callable[[bytes], Decoded], message: bytes) -> tuple[str, Any, str | None]:
    """(key, value, what is wrong): hex for a message that is not what it should be."""
    try:
        return *decode(message), None
    except Exception as error:  # whatever a codec raises: the next message may be better
        return *decode_hex(message), " ".join(str(error).split()) or type(error).__name__


def one_line(key: str, value: Any, limit: int | None) -> str:
    """For people: one line, of at most `limit` characters.

    >>> one_line("text", "a\\nb\\n", None), one_line("hex", "00ff", 3)
    ('a\\\\nb', '00f...')
    """
    if key == "hex":
        text = value
    elif key == "text":
        text = printable(value.removesuffix("\n").removesuffix("\r"))
    elif isinstance(value, (str, int, float, bool, type(None), list, dict)):
        text = printable(json.dumps(value, ensure_ascii=False, default=jsonable))
    else:
        text = printable(repr(value))
    return text if limit is None or len(text) <= limit else text[:limit] + "..."


def jsonable(value: Any) -> Any:
    """`default=` of json.dumps: bytes as hex, arrays as lists, anything else as its repr."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if hasattr(value, "tolist"):
        return value.tolist()
    return repr(value)
