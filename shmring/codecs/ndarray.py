"""The codec "ndarray": NumPy arrays and whatever lends its memory like one. Nothing that it reads is run.

     0   "nda" 01
     4   u8   order: "C" or "F"
     5   u8   number of dimensions n
     6   u16  bytes of the type's text t
     8   u64  shape[n]
         t    the type: as numpy.dtype.str has it ("<f4", "<M8[ns]"), or for records JSON of the dict that numpy.dtype takes
         0    up to a multiple of 64
         the elements, to the end of the message

All numbers are little-endian; the elements have the byte order that the type says. Types that hold pointers (objects, variable
strings) are refused, on both sides.
"""

from __future__ import annotations

import json
import re
import struct

from shmring.errors import CodecError

try:
    import numpy as np
except ImportError as error:
    raise ImportError("the codec 'ndarray' needs NumPy: pip install numpy") from error

_MARK = b"nda\x01"
_HEAD = struct.Struct("<4scBH")
_ALIGN = 64
_MOST_DIMENSIONS = 64
_MOST_DEPTH = 8  # records inside records
_SIMPLE = re.compile(r"[<>|][biufcmMSUV][0-9]{1,9}(\[[0-9A-Za-z/]{1,16}\])?", re.ASCII)
_MOST_KEPT = 256  # headers: programs send few kinds of arrays, and working one out costs as much as copying 100 KiB
_ORDERS = {b"C": "C", b"F": "F"}


class PackedArray:
    """An array on its way: `nbytes` of header, padding and elements."""

    __slots__ = ("array", "header", "nbytes", "order")

    def __init__(self, array, order, header):
        self.array, self.order, self.header = array, order, header
        self.nbytes = len(header) + array.nbytes

    def write_into(self, memory):
        """Fill the first `nbytes` of `memory`. Cost: one copy of the elements, whatever their strides."""
        start = len(self.header)
        memory[:start] = self.header
        array = self.array
        if not array.nbytes:
            return
        if array.flags.forc:
            memory[start : self.nbytes] = bytes_of(array, self.order)
        else:
            np.ndarray(array.shape, array.dtype, memory, start)[...] = array


class NdarrayCodec:
    """Arrays with their type, shape and order (C or Fortran; other strides arrive in C order).

    Concurrency: any number of threads. Cost: the elements are copied once each way, or not at all with borrow=True.
    """

    name = "ndarray"
    runs_code = False

    def __init__(self):
        self._headers = {}  # (dtype, shape, order) -> bytes
        self._layouts = {}  # those bytes -> (dtype, shape, order)

    def pack(self, obj):
        """`obj` is an array, anything with a buffer or __array__ or __dlpack__, or nested lists of numbers.

        Raises
        ------
        TypeError
            Its elements hold pointers (objects, variable strings), or its type is one that NumPy was extended by; or it is a
            masked array.
        """
        array = obj if type(obj) is np.ndarray else as_array(obj)
        flags = array.flags
        order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
        kind = (array.dtype, array.shape, order)
        header = self._headers.get(kind)
        # Types that compare equal may differ in what they are called; then they are worked out each time.
        if header is None or header[0] is not array.dtype:
            header = (array.dtype, make_header(*kind))
            keep(self._headers, kind, header)
        return PackedArray(array, order, header[1])

    def unpack(self, data, *, borrow=False):
        """An array: with borrow=True a read-only one in `data`'s memory, else one of its own.

        Raises
        ------
        CodecError
            The bytes are no array: every number is checked before it is used.
        """
        dtype, shape, order, start = self.layout_of(data)
        try:
            if borrow and start < len(data):
                # Not np.ndarray(buffer=data): that gives the buffer back at once, and would not keep the message.
                array = np.frombuffer(data, dtype, offset=start)
                if len(shape) != 1:
                    array = array.reshape(shape, order=order)
            else:
                array = np.empty(shape, dtype, order)
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise CodecError(f"NumPy makes no array of {dtype} and shape {shape}: {error}") from error
        if borrow:
            array.flags.writeable = False
        elif array.nbytes:
            bytes_of(array, order)[:] = memoryview(data)[start:]
        return array

    def layout_of(self, data):
        """dtype, shape, order, and where the elements begin, of a message."""
        size = len(data)
        start = header_size(data, size)
        header = bytes(data[:start])  # from here on nobody can change it
        layout = self._layouts.get(header)
        if layout is None:
            layout = read_header(header)
            keep(self._layouts, header, layout)
        if start + layout[3] != size:
            raise CodecError(
                f"an array of {layout[0]} and shape {layout[1]} has {layout[3]} bytes, but {size - start} follow its header"
            )
        return (*layout[:3], start)


def keep(known, key, value):
    if len(known) >= _MOST_KEPT:
        known.clear()
    known[key] = value


def bytes_of(array, order):
    """The memory of an array without gaps, as bytes: what is copied like that is one memcpy."""
    return (array.T if order == "F" else array).reshape(-1).view(np.uint8).data


def as_array(obj):
    """What lends its memory, as an array of that memory."""
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError("a masked array is two arrays: send its data and its mask")
    if isinstance(obj, (bytes, bytearray, memoryview)):  # for NumPy, bytes are a string
        return np.asarray(memoryview(obj))
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        return np.from_dlpack(obj)
    array = np.asarray(obj)
    return array if type(array) is np.ndarray else array.view(np.ndarray)


def make_header(dtype, shape, order):
    text = type_text(dtype).encode()
    if len(text) > 0xFFFF:
        raise TypeError(f"the description of this array's type has {len(text)} bytes, which is more than 65535")
    header = _HEAD.pack(_MARK, order.encode(), len(shape), len(text)) + struct.pack(f"<{len(shape)}Q", *shape) + text
    return header + bytes(-len(header) % _ALIGN)


def header_size(data, size):
    if size < _HEAD.size:
        raise CodecError(f"a message of {size} bytes is no array")
    mark, order, dimensions, text_bytes = _HEAD.unpack_from(data)
    if mark != _MARK or order not in _ORDERS or dimensions > _MOST_DIMENSIONS:
        raise CodecError(f"a message that begins with {bytes(data[:8])!r} is no array")
    used = _HEAD.size + 8 * dimensions + text_bytes
    start = used + -used % _ALIGN
    if start > size:
        raise CodecError(f"an array's header of {start} bytes is not in a message of {size}")
    return start


def read_header(header):
    """dtype, shape, order and bytes of the elements."""
    _, order, dimensions, text_bytes = _HEAD.unpack_from(header)
    shape = struct.unpack_from(f"<{dimensions}Q", header, _HEAD.size)
    begin = _HEAD.size + 8 * dimensions
    try:
        dtype = dtype_of(header[begin : begin + text_bytes].decode())
    except (ValueError, TypeError, KeyError, RecursionError, SyntaxError, OverflowError, MemoryError) as error:
        text = header[begin : begin + min(text_bytes, 100)]
        raise CodecError(f"an array of a type that NumPy does not know: {text!r}") from error
    nbytes = dtype.itemsize
    for length in shape:
        nbytes *= length
    return dtype, shape, _ORDERS[order], nbytes


# ---- types ---------------------------------------------------------------------------------------------------------


def type_text(dtype):
    if dtype.names is None and dtype.subdtype is None:
        text = dtype.str
        if dtype.hasobject or dtype.isbuiltin == 2 or not _SIMPLE.fullmatch(text) or np.dtype(text) != dtype:
            raise TypeError(
                f"arrays of {dtype} cannot be sent: their elements hold pointers, or only an extension of NumPy knows them "
                f"(send such an array as .view() of a plain type, or with the codec 'pickle')"
            )
        return text
    return json.dumps(described(dtype), separators=(",", ":"))


def described(dtype):
    """A type as text, lists and dicts."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [described(base), list(shape)]
    if dtype.names is None:
        return type_text(dtype)
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": list(dtype.names),
        "formats": [described(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def dtype_of(text):
    dtype = understood(json.loads(text) if text.startswith("{") else text, 0)
    if dtype.hasobject:
        raise ValueError("objects")
    return dtype


def understood(description, depth):
    """The reverse of `described`; ValueError, TypeError or KeyError if it is nothing of the kind."""
    if depth > _MOST_DEPTH:
        raise ValueError("too deep")
    if isinstance(description, str):
        if not _SIMPLE.fullmatch(description):
            raise ValueError(description)
        return np.dtype(description)
    if isinstance(description, list):
        base, shape = description
        return np.dtype((understood(base, depth + 1), tuple(whole(each) for each in shape)))
    if set(description) != {"names", "formats", "offsets", "itemsize", "aligned"}:
        raise ValueError("fields")
    return np.dtype(
        {
            "names": [str(name) for name in description["names"]],
            "formats": [understood(each, depth + 1) for each in description["formats"]],
            "offsets": [whole(each) for each in description["offsets"]],
            "itemsize": whole(description["itemsize"]),
        },
        align=bool(description["aligned"]),
    )


def whole(number):
    if type(number) is not int or not 0 <= number < 1 << 31:
        raise ValueError(number)
    return number


codec = NdarrayCodec()
