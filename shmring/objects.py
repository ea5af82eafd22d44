"""Objects through rings: where a port and a codec meet.

A ring's content says what its messages are: "codec NAME", or nothing, which stands for "codec pickle". The methods of the ports
(`send_obj`, `recv_obj`, `peek_obj`, ...) are there; this file decides which codec they use, and holds what they hand out.
"""

from __future__ import annotations

import os
from typing import final

from shmring import codecs
from shmring.errors import CodecError
from shmring.naming import parse_size

DEFAULT = "pickle"


# ---- which codec ---------------------------------------------------------------------------------------------------


def codec_of(ring, status, reads, wanted=None):
    """The codec for the objects of a ring.

    Parameters
    ----------
    ring : Ring
    status : os.stat_result
        Of its file: who may write to it.
    reads : bool
        It is to unpack what others wrote.
    wanted : None, str or codec
        What this side insists on. None: what the ring's content says.

    Raises
    ------
    UnknownCodec
        Nobody registered it here.
    CodecError
        The ring's messages are of another codec, or of none; or they would run the code of whoever wrote them, and others than
        this user may write them.
    """
    edge, _, named = ring.content.partition(" ")
    if edge != "codec":
        named = ""
    if wanted is not None:
        codec = codecs.get(wanted) if isinstance(wanted, str) else codecs.check(wanted)
        if named and codec.name != named:
            raise CodecError(f"the messages of ring {ring.label} are {ring.content!r}, not of codec {codec.name!r}")
        return codec
    if ring.content and not named:
        raise CodecError(
            f"the messages of ring {ring.label} are {ring.content!r}, which names no codec; assign one to the handle's "
            f"`codec` if you know better"
        )
    codec = codecs.get(named or DEFAULT)
    if reads and getattr(codec, "runs_code", False) and not is_private(ring, status):
        raise CodecError(
            f"ring {ring.label} belongs to user {status.st_uid} and has mode {status.st_mode & 0o777:04o}: others than this "
            f"user may write to it, and codec {codec.name!r} would run their code; use codec 'msgspec' or 'ndarray', or, if "
            f"you trust them all, say so: rx.codec = {codec.name!r}"
        )
    return codec


def is_private(ring, status):
    """Is everybody who may write to it this user, or root?"""
    if ring.name is None:
        return True  # whoever has its descriptor was given it
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


# ---- what is lent --------------------------------------------------------------------------------------------------


class _Lent:
    """A message where it lies, and what its codec made of it: a `View` that knows the object.

    Leaving it lets go of both. If arrays made of the message live on, the record stays where it is until the last of them is
    gone; `Consumer.stats` tells of them, and `Consumer.borrow_limit` says how much they may hold back.
    """

    __slots__ = ("_made", "_view")

    def __init__(self, view, made):
        self._view, self._made = view, made

    @property
    def data(self):
        """Read-only memoryview of the message."""
        return self._view.data

    @property
    def sequence(self):
        return self._view.sequence

    @property
    def redelivered(self):
        return self._view.redelivered

    @property
    def valid(self):
        return self._view.valid

    def release(self):
        """Let go of the object and, as soon as nothing made of it is left, of the record. May be repeated."""
        self._made = None
        self._view.release()

    def __enter__(self):
        self._view.__enter__()
        return self

    def __exit__(self, *_):
        self.release()

    def _open(self):
        if not self._view.valid:
            self._view.__enter__()  # says why
        return self._made


@final
class ObjectView(_Lent):
    """What `peek_obj` returns: `obj`, whose arrays lie in the ring, read-only; otherwise as a `View`."""

    __slots__ = ()

    @property
    def obj(self):
        """The object. Raises ValueError after the end of the view."""
        return self._open()


@final
class ArrayView(_Lent):
    """What `peek_array` returns: `array`, read-only, in the ring; otherwise as a `View`.

    NumPy, and what takes DLPack, may be given the view itself.
    """

    __slots__ = ()

    @property
    def array(self):
        """The numpy.ndarray. Raises ValueError after the end of the view."""
        return self._open()

    def __array__(self, dtype=None, copy=None):
        import numpy

        return numpy.array(self.array, dtype, copy=copy) if copy is not None else numpy.asarray(self.array, dtype)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def told_of(holder):
    """What is told of that which keeps a record: `holder` is its type, or the type and shape of an array."""
    if isinstance(holder, tuple):
        return f"{holder[0]} array of shape {holder[1]}"
    return f"{holder.__qualname__} object"


def borrow_bytes(limit, capacity):
    """`Consumer.borrow_limit` in bytes."""
    if isinstance(limit, float):
        if not 0 < limit <= 1:
            raise ValueError(f"a share of the capacity is above 0 and at most 1.0, not {limit!r}")
        return max(1, int(limit * capacity))
    return parse_size(limit)


# ---- arrays --------------------------------------------------------------------------------------------------------


def check_out(out):
    """Raise if no array can be copied into `out`, whatever comes."""
    import numpy

    if not isinstance(out, numpy.ndarray):
        raise TypeError(f"out is a numpy.ndarray, not {type(out).__name__}")
    if not out.flags.writeable:
        raise ValueError("out cannot be written to")


def array_into(array, out):
    """Copy a received array into `out`, which must have its type and shape."""
    import numpy

    if out.dtype != array.dtype or out.shape != array.shape:
        text = f"the message is a {array.dtype} array of shape {array.shape}, out one of {out.dtype} and {out.shape}"
        del array  # the traceback would keep it, and with it its memory in the ring
        raise ValueError(text)
    numpy.copyto(out, array)


# ---- batches -------------------------------------------------------------------------------------------------------


def send_all(tx, pack, objs, timeout):
    """`Producer.send_objs`."""
    packed, failed = [], None
    for obj in objs:
        try:
            packed.append(pack(obj))
        except Exception as error:  # those before it are sent
            failed = error
            break
    sent = _send_packed(tx, packed, timeout)
    if failed is not None and sent == len(packed):
        failed.sent = sent
        raise failed
    return sent


def _send_packed(tx, packed, timeout):
    from time import monotonic

    until = None if timeout is None else monotonic() + timeout
    sent = 0
    try:
        while sent < len(packed):
            left = None if until is None else max(0, until - monotonic())
            if isinstance(packed[sent], bytes):
                end = next((index for index in range(sent, len(packed)) if not isinstance(packed[index], bytes)), len(packed))
                done = tx.send_many(packed[sent:end], left)
                sent += done
                if sent < end:
                    return sent
            else:
                tx._send_packed(packed[sent], left)
                sent += 1
    except BaseException as error:
        if sent and isinstance(error, TimeoutError):
            return sent
        error.sent = sent + getattr(error, "sent", 0)
        raise
    return sent
