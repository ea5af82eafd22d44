"""Rings of fixed-size records: arrays in, arrays out.

A ring says in its `content` which records it has: "array " and the dtype as a Python literal, so that the other side needs to
be told nothing. Only literals are read back, and only dtypes of plain bytes are made from them.
"""

from __future__ import annotations

import ast
import math

from shmring.errors import LayoutMismatch, MessageTooLarge
from shmring.naming import parse_size

PREFIX = "array "
CONTENT_BYTES = 1023  # of a ring's content, which `create` checks as well
KINDS = "biufcmMSUV"  # of what has no reference to anything outside of its bytes
LINE_BYTES = 64  # of a cache line
HEADER_BYTES = 64  # of a message, its padding included, at most


def shape_for(dtype: object, content: str, align: int | None, capacity: int | str) -> dict:
    """How a ring of such records is to be made: its `content` and `align`, checked."""
    if content:
        raise ValueError(f"a ring with a dtype says so in its content: leave out content={content!r}")
    records = as_dtype(dtype)
    text = PREFIX + written(records)
    if len(text.encode()) > CONTENT_BYTES:
        raise ValueError(
            f"the dtype takes {len(text.encode())} bytes to write down, a ring has {CONTENT_BYTES} for it: use fewer fields or "
            f"shorter names"
        )
    if parse_size(capacity) <= 0 or align not in (None, 16, LINE_BYTES):
        return {"content": text, "align": align}  # refused with the right words where rings are made
    if records.itemsize + HEADER_BYTES > max(parse_size(capacity), 4096):
        raise MessageTooLarge(f"a record of {records.itemsize} bytes cannot fit into a ring of {capacity!r}")
    if align is None:
        align = LINE_BYTES if records.itemsize % LINE_BYTES == 0 or records.alignment > 16 else 16
    return {"content": text, "align": align}


# ---- dtypes as text --------------------------------------------------------------------------------------------------


def as_dtype(dtype: object):
    """The numpy.dtype of records, checked: fixed size, plain bytes."""
    import numpy

    records = dtype if isinstance(dtype, numpy.dtype) else numpy.dtype(dtype)
    if records.subdtype is not None:
        raise TypeError(f"a record is one item, {records} is several: give them a name, [('values', {dtype!r})]")
    if records.itemsize == 0:
        raise TypeError(f"records of {records} have no bytes: give texts a length, such as 'S16'")
    check_plain(records)
    return records


def check_plain(records) -> None:
    """Refuse what is not all there in its bytes: objects, for example, are addresses in one process; and what reaches beyond
    its end: NumPy adds sizes up in 32 bits, so that texts exist of which it makes such dtypes.
    """
    if records.subdtype is not None:
        item, shape = records.subdtype
        check_plain(item)
        if records.itemsize != item.itemsize * math.prod(shape):
            raise TypeError(f"records of {records} are larger than NumPy can count")
    elif records.names is not None:
        for name in records.names:
            field, offset = records.fields[name][:2]
            check_plain(field)
            if offset < 0 or offset + field.itemsize > records.itemsize:
                raise TypeError(f"records of {records} are larger than NumPy can count")
    elif records.hasobject or records.kind not in KINDS:
        raise TypeError(f"records of {records} are not plain bytes: numbers, times, bytes and texts of fixed length can go")


def written(records) -> str:
    """The dtype as a literal that `read_dtype` makes the same dtype of."""
    text = repr(records.str) if records.names is None else repr(records.descr) if is_packed(records) else repr(in_full(records))
    if not is_same(read_dtype(text), records):
        raise TypeError(f"records of {records} cannot be written down, so that others could open the ring")
    return text


def is_packed(records) -> bool:
    """Does the short form say everything: one field after the other, and no word about alignment?"""
    if records.subdtype is not None:
        return is_packed(records.subdtype[0])
    if records.names is None:
        return True
    end = 0
    for name in records.names:
        field, offset = records.fields[name][:2]
        if offset != end or not is_packed(field):
            return False
        end += field.itemsize
    return end == records.itemsize and not records.isalignedstruct


def in_full(records) -> object:
    """Names, formats, offsets, titles and size, as numpy.dtype takes them."""
    if records.subdtype is not None:
        return in_full(records.subdtype[0]), records.shape
    if records.names is None:
        return records.str
    fields = [records.fields[name] for name in records.names]
    form: dict = {
        "names": list(records.names),
        "formats": [in_full(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": records.itemsize,
    }
    if any(len(field) > 2 for field in fields):
        form["titles"] = [field[2] if len(field) > 2 else None for field in fields]
    if records.isalignedstruct:
        form["aligned"] = True
    return form


def is_same(one, other) -> bool:
    """Equal, and laid out alike."""
    return one == other and one.itemsize == other.itemsize and one.isalignedstruct == other.isalignedstruct


def read_dtype(text: str):
    """The dtype behind a ring's content, which may say anything: ValueError or TypeError if it is none."""
    import numpy

    try:
        form = ast.literal_eval(text)
        if not isinstance(form, (str, list, dict)):
            raise TypeError(f"not {type(form).__name__}")
        records = numpy.dtype(form)
    except Exception as error:  # SyntaxError and RecursionError too, for example
        raise ValueError(f"no dtype: {error}") from None
    return as_dtype(records)


# ---- the ring --------------------------------------------------------------------------------------------------------


def _of_ring(label: str) -> property:
    return property(lambda self: getattr(self.ring, label), doc=f"As `Ring.{label}`.")


class ArrayRing:
    """A ring of fixed-size records. Made by `create`, `open` and `anonymous` where the ring has a dtype.

    Everything of `Ring` is there, and means the same; `producer()` and `consumer()` give handles that exchange NumPy arrays.
    One call of `write` is one message, a *block* of records side by side.

    Attributes
    ----------
    ring : Ring
        The ring itself, whose messages are the blocks' bytes.
    """

    __slots__ = ("__weakref__", "_dtype", "ring")

    def __init__(self, ring):
        self.ring = ring
        self._dtype = None
        if not ring.content.startswith(PREFIX):
            raise ValueError(f"ring {ring.label} has no dtype: its content is {ring.content!r}")

    @property
    def dtype(self):
        """The records' numpy.dtype.

        Raises
        ------
        LayoutMismatch
            What the ring says about its records is no dtype that can be shared.
        """
        if self._dtype is None:
            try:
                records = read_dtype(self.ring.content[len(PREFIX) :])
            except (TypeError, ValueError) as error:
                raise LayoutMismatch(f"ring {self.label} says that it has {self.ring.content!r}: {error}") from None
            if records.itemsize > self.ring.max_message:
                raise LayoutMismatch(
                    f"ring {self.label} says that its records have {records.itemsize} bytes; its largest message has "
                    f"{self.ring.max_message}"
                )
            self._dtype = records
        return self._dtype

    @property
    def max_block(self):
        """Records that `write` publishes at once: a quarter of the capacity, so that readers do not wait for the last one."""
        return max(1, min(self.capacity // 4, self.ring.max_message) // self.dtype.itemsize)

    def producer(self, *, wait="adaptive"):
        """An `ArrayProducer`. Parameters and errors as `Ring.producer`."""
        from shmring.array_writer import ArrayProducer

        self.dtype  # noqa: B018 - what is wrong with it comes before the slot
        return ArrayProducer(self, self.ring.producer(wait=wait))

    def consumer(self, group="default", *, start="earliest", lossy=False, ephemeral=None, redeliver=None, exclusive=False,
                 end_with_producers=False, wait="adaptive"):
        """An `ArrayConsumer`, or with lossy=True an `ArrayObserver`. Parameters and errors as `Ring.consumer`."""
        self.dtype  # noqa: B018 - as above
        handle = self.ring.consumer(
            group, start=start, lossy=lossy, ephemeral=ephemeral, redeliver=redeliver, exclusive=exclusive,
            end_with_producers=end_with_producers, wait=wait,
        )
        if lossy:
            from shmring.array_observer import ArrayObserver

            return ArrayObserver(self, handle)
        from shmring.array_consumer import ArrayConsumer

        return ArrayConsumer(self, handle)

    # ---- as Ring -----------------------------------------------------------------------------------------------------

    name, label = _of_ring("name"), _of_ring("label")
    readonly, closed = _of_ring("readonly"), _of_ring("closed")
    capacity, align, producers = _of_ring("capacity"), _of_ring("align"), _of_ring("producers")
    max_message = _of_ring("max_message")
    max_participants, max_groups = _of_ring("max_participants"), _of_ring("max_groups")
    content, uuid, is_shutdown = _of_ring("content"), _of_ring("uuid"), _of_ring("is_shutdown")

    def remove_group(self, name):
        """As `Ring.remove_group`."""
        self.ring.remove_group(name)

    def shutdown(self):
        """As `Ring.shutdown`."""
        self.ring.shutdown()

    def repair(self):
        """As `Ring.repair`."""
        return self.ring.repair()

    def stats(self):
        """As `Ring.stats`; its messages are blocks."""
        return self.ring.stats()

    def close(self):
        """As `Ring.close`."""
        self.ring.close()

    def __enter__(self):
        self.ring.__enter__()
        return self

    def __exit__(self, *_):
        self.ring.close()

    def __reduce__(self):
        return ArrayRing, (self.ring,)

    def __copy__(self):
        from copy import copy  # loaded, as it calls us

        return ArrayRing(copy(self.ring))

    def __repr__(self):
        state = "closed" if self.closed else f"{self.capacity} bytes"
        return f"<shmring.ArrayRing {self.label} of {self.ring.content[len(PREFIX) :]}, {state}>"
