"""Rings of fixed-size records: what is written is read, in order, however blocks and reads are cut."""

from __future__ import annotations

import copy
import os
import pickle
import random
import subprocess
import sys

import pytest
from sources import ROOT

import shmring

numpy = pytest.importorskip("numpy", reason="rings of arrays need NumPy")

RECORD = numpy.dtype([("time", "<i8"), ("price", "<f8"), ("size", "<u4"), ("side", "S1"), ("pad", "V11")])
SMALL = numpy.dtype([("a", "<u2"), ("b", "u1")])
DTYPES = {
    "record": RECORD,
    "odd": SMALL,
    "plain": numpy.dtype("<f4"),
    "big-endian": numpy.dtype(">i8"),
    "text": numpy.dtype([("name", "<U7"), ("at", "<M8[ns]"), ("grid", "<c8", (2, 3)), ("inner", [("x", "?"), ("y", "<f2")])]),
    "aligned": numpy.dtype([("a", "u1"), ("b", "<f8"), ("c", "<u2")], align=True),
    "out of order": numpy.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [4, 0], "itemsize": 24}),
    "overlapping": numpy.dtype({"names": ["all", "low"], "formats": ["<u8", "<u4"], "offsets": [0, 0]}),
    "titles": numpy.dtype([(("what it is", "a"), "<i4"), ("b", "<i4")]),
    "line": numpy.dtype([("values", "<f8", (8,))]),
}


def numbered(first, count, dtype=RECORD):
    """Records that tell which they are."""
    records = numpy.zeros(count, dtype)
    if dtype.names is None:
        records[:] = numpy.arange(first, first + count)
    else:
        records[dtype.names[0]] = numpy.arange(first, first + count)
    return records


def times(array):
    return array["time"].tolist()


@pytest.fixture
def arrays(backing, topology):
    """A ring of 4096 bytes with 32-byte records."""
    with backing.create(4096, producers=topology, dtype=RECORD) as ring:
        yield ring


@pytest.fixture
def ends(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        yield tx, rx


# ---- the ring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", DTYPES)
def test_who_opens_the_ring_gets_the_same_dtype(label, backing):
    dtype = DTYPES[label]
    with backing.create(4096, dtype=dtype) as ring, backing.again(ring) as other:
        assert isinstance(ring, shmring.ArrayRing) and isinstance(other, shmring.ArrayRing)
        for each in ring, other:
            assert each.dtype == dtype and each.dtype.itemsize == dtype.itemsize
            assert each.dtype.isalignedstruct == dtype.isalignedstruct and each.dtype.fields == dtype.fields
        assert ring.align == (64 if dtype.itemsize % 64 == 0 else 16)
        raw = numpy.frombuffer(random.Random(1).randbytes(dtype.itemsize * 3), numpy.uint8).view(dtype)
        with ring.producer() as tx, other.consumer() as rx:
            assert tx.write(raw) == 3
            read = rx.read(10, 0)
            assert read.dtype == dtype and read.tobytes() == raw.tobytes()


@pytest.mark.parametrize(
    "dtype, error, text",
    [
        (object, TypeError, "plain bytes"),
        ([("a", "i4"), ("b", [("c", "O")])], TypeError, "plain bytes"),
        ("S0", TypeError, "no bytes"),
        ([], TypeError, "no bytes"),
        (("<f4", (3,)), TypeError, "give them a name"),
        ("V8192", shmring.MessageTooLarge, "8192 bytes cannot fit"),
        ([(f"a_long_name_of_a_field_{number}", "<f8") for number in range(40)], ValueError, "a ring has 1023"),
        ("no such type", TypeError, "no such type"),
    ],
)
def test_what_cannot_be_shared_is_refused(dtype, error, text, unique_name):
    with pytest.raises(error, match=text):
        shmring.create(unique_name, 4096, dtype=dtype)
    with pytest.raises(shmring.RingNotFound):
        shmring.open(unique_name)


def test_variable_texts_of_numpy_2_are_refused():
    if not hasattr(numpy.dtypes, "StringDType"):
        pytest.skip("this NumPy has no StringDType")
    with pytest.raises(TypeError, match="plain bytes"):
        shmring.anonymous(4096, dtype=numpy.dtypes.StringDType())


def test_another_dtype_is_another_ring(named):
    with named.create(4096, dtype=RECORD), named.create(4096, dtype=RECORD, exist_ok=True) as again:
        assert again.dtype == RECORD
        with pytest.raises(shmring.RingExists, match="content"):
            named.create(4096, dtype=SMALL, exist_ok=True)
        with pytest.raises(shmring.RingExists):
            named.create(4096, exist_ok=True)
        with pytest.raises(ValueError, match="leave out content"):
            named.create(4096, dtype=SMALL, content="mine")


STRANGE = [
    "", "'O'", "[('a', 'O')]", "__import__('os')", "'V5000'", "((", "(" * 900, "None", "'<i4,<,2'", "('<i4', (3,))",
    "{'names': 3}",
    "{'names': ['a'], 'formats': ['i4'], 'offsets': [-4], 'itemsize': 2}",
    "[('a', 'V2147483647'), ('b', 'V2147483647'), ('c', 'V34')]",  # of which NumPy makes records of 32 bytes
    "[('a', '<f4', (1073741825,))]",
]


@pytest.mark.parametrize("content", [f"array {text}" for text in STRANGE], ids=str)
def test_a_content_that_is_no_dtype_is_an_error_of_whoever_needs_it(content, named):
    with named.create(4096, content=content), shmring.open(named.name) as ring:
        assert ring.stats().tail is not None and ring.content == content
        for needs_it in (lambda: ring.dtype, ring.producer, ring.consumer):
            with pytest.raises(shmring.LayoutMismatch, match="says that"):
                needs_it()
        assert ring.stats().participants == []


def test_a_copy_of_a_ring_is_closed_by_itself(arrays):
    if arrays.name is None:
        pytest.skip("an anonymous ring is copied to children only")
    for again in copy.copy(arrays), copy.deepcopy(arrays), pickle.loads(pickle.dumps(arrays)):
        assert again.dtype == arrays.dtype and again.uuid == arrays.uuid
        again.close()
    assert not arrays.closed


def test_the_ring_itself_is_below(arrays):
    assert arrays.ring.content == arrays.content == f"array {RECORD.descr!r}"
    assert (arrays.capacity, arrays.align, arrays.closed) == (4096, 16, False)
    with arrays.producer() as tx, arrays.ring.consumer() as rx:
        tx.write(numbered(5, 2))
        assert rx.recv(0) == numbered(5, 2).tobytes()
    arrays.shutdown()
    assert arrays.is_shutdown
    arrays.close()
    assert arrays.closed and "closed" in repr(arrays)


# ---- writing and reading ---------------------------------------------------------------------------------------------


def test_every_cut_of_writes_and_reads_gives_the_same_stream(ends):
    tx, rx = ends
    rng = random.Random(7)
    written = read = 0
    while read < 3000:
        count = rng.choice((1, 1, 2, 5, 31, 60, 200))
        written += tx.try_write(numbered(written, count))
        assert rx.lag == written - read
        for _ in range(rng.randrange(3)):
            limit = rng.choice((1, 3, 10, 32, 500))
            how = rng.randrange(3)
            if how == 0:
                got = rx.try_read(limit)
                got = [] if got is None else times(got)
            elif how == 1 and written > read:
                into = numbered(-1, limit)
                got = times(into[: rx.read_into(into, 0)])
            elif written > read:
                with rx.borrow(limit, 0) as view:
                    got = times(view.array)
            else:
                continue
            assert got == list(range(read, read + len(got)))
            assert len(got) <= limit and (got or read == written)
            read += len(got)


def test_a_read_gathers_blocks_up_to_its_limit(ends):
    tx, rx = ends
    for first in range(0, 30, 3):
        tx.write(numbered(first, 3))
    assert times(rx.read(20, 0)) == list(range(20))
    assert times(rx.read(1, 0)) == [20]
    assert times(rx.read(100, 0)) == list(range(21, 30))
    assert rx.try_read(1) is None
    with pytest.raises(TimeoutError, match="no message"):
        rx.read(1, 0)


def test_what_is_read_is_the_callers_own(ends):
    tx, rx = ends
    tx.write(numbered(0, 5))
    first = rx.read(10, 0)
    assert first.flags.owndata and first.flags.writeable and first.shape == (5,)
    first["time"] = 9
    for lap in range(20):
        tx.write(numbered(lap, 100))
        rx.read(100, 0)
    assert times(first) == [9] * 5


def test_a_write_larger_than_the_ring_goes_in_parts(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        assert (arrays.max_block, arrays.max_message) == (32, arrays.ring.max_message)
        records = numbered(0, 1000)
        assert tx.write(records, timeout=0) == tx.ring.max_block * 3 == 96      # as much as had room
        assert times(rx.read(1000, 0)) == list(range(96))
        with pytest.raises(TimeoutError, match="full"):
            for _ in range(5):
                tx.write(numbered(0, 32), timeout=0)
        assert tx.try_write(records) == 0
        while rx.try_read(1000) is not None:
            pass
        assert tx.try_write(records) == 96


def test_a_large_write_waits_for_its_reader(arrays, peer):
    if arrays.name is None:
        pytest.skip("an unrelated process needs a name")
    reader = peer(
        """
        with shmring.open(sys.argv[1]) as ring, ring.consumer() as rx:
            got = 0
            for block in rx:
                assert block["time"].tolist() == list(range(got, got + len(block)))
                got += len(block)
        say(got)
        """,
        arrays.name,
    )
    with arrays.producer() as tx:
        assert tx.write(numbered(0, 20_000)) == 20_000
        arrays.shutdown()
        with pytest.raises(shmring.ShutDown):
            tx.write(numbered(0, 1))
    reader.expect("20000")
    reader.finish()


@pytest.mark.parametrize(
    "records, expected",
    [
        ((7, 1.5, 3, b"b", b""), [7]),
        ([(7, 1.5, 3, b"b", b""), (8, 1.5, 3, b"b", b"")], [7, 8]),
        (numbered(7, 3)[1], [8]),
        (numbered(7, 12).reshape(3, 4), list(range(7, 19))),
        (numbered(7, 12)[::3], [7, 10, 13, 16]),
        (numbered(7, 12).reshape(3, 4).T, [7, 11, 15, 8, 12, 16, 9, 13, 17, 10, 14, 18]),
        (numbered(7, 2).view(numpy.recarray), [7, 8]),
        (numbered(7, 0), []),
        ([], []),
    ],
)
def test_what_counts_as_records(records, expected, ends):
    tx, rx = ends
    assert tx.write(records) == len(expected)
    assert (times(rx.read(100, 0)) if expected else rx.try_read(100) or []) == expected
    assert tx.try_write(records) == len(expected)
    assert (times(rx.read(100, 0)) if expected else rx.try_read(100) or []) == expected


def test_nothing_is_converted_silently(ends):
    tx, rx = ends
    tx.write(numbered(0, 1))
    for wrong in numpy.zeros(3, "<f8"), numpy.zeros((), "<f4"), numpy.float32(1), numbered(0, 1).astype(RECORD.newbyteorder()):
        with pytest.raises(TypeError, match="dtype"):
            tx.write(wrong)
    with pytest.raises((TypeError, ValueError)):
        tx.write("text")
    with pytest.raises(TypeError, match="dtype"):
        rx.read_into(numpy.zeros(3, "<f8"), 0)
    with pytest.raises(TypeError, match=r"numpy\.ndarray"):
        rx.read_into([1.0], 0)
    for wrong in numbered(0, 4)[::2], numbered(0, 0):
        with pytest.raises(ValueError):
            rx.read_into(wrong, 0)
    with pytest.raises(ValueError):
        readonly = numbered(0, 4)
        readonly.flags.writeable = False
        rx.read_into(readonly, 0)
    for limit in 0, -1:
        for call in rx.read, rx.try_read, rx.borrow:
            with pytest.raises(ValueError, match="at least 1"):
                call(limit)
    assert times(rx.read(9, 0)) == [0]


def test_reserve_is_an_array_in_the_ring(ends):
    tx, rx = ends
    with tx.reserve(4, timeout=0) as claim:
        assert len(claim) == claim.nrecords == 4 and claim.array.flags.writeable
        claim.array[:] = numbered(3, 4)
        with pytest.raises(shmring.ClaimOpen):
            tx.write(numbered(0, 1))
    with tx.reserve(4) as claim:
        claim.array[:] = numbered(7, 4)
        claim.commit(2)
    with pytest.raises(RuntimeError), tx.reserve(4) as claim:
        raise RuntimeError
    tx.reserve(4).abort()
    tx.reserve(4).commit(0)
    for late in (lambda: claim.array, lambda: claim.commit(1)):
        with pytest.raises(ValueError, match="already"):
            late()
    with pytest.raises(ValueError, match="claim for 2"), tx.reserve(2) as claim:
        claim.commit(3)
    with pytest.raises(ValueError, match="at least one"):
        tx.reserve(0)
    with pytest.raises(shmring.MessageTooLarge, match="its largest has 127"):
        tx.reserve(128)
    assert times(rx.read(100, 0)) == [3, 4, 5, 6, 7, 8]


def test_a_borrowed_array_crosses_the_seam_in_one_piece(ring_at, topology):
    for origin in range(0, 4096, 512):
        plain = ring_at(origin)
        shaped = shmring.anonymous(4096, producers=topology, dtype=RECORD)
        with shaped, shaped.producer() as tx, shaped.consumer() as rx:
            for lap in range(9):
                tx.write(numbered(lap, 31))
                with rx.borrow(31, 0) as view:
                    assert not view.array.flags.writeable and not view.array.flags.owndata
                    assert times(view.array) == list(range(lap, lap + 31))
        plain.close()


# ---- strangers, the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "try_read", "read_into", "borrow"])
def test_a_message_that_is_no_block_is_told_once_and_skipped(arrays, how):
    if arrays.producers == "single":
        pytest.skip("a second producer")
    with arrays.producer() as tx, arrays.ring.producer() as raw, arrays.consumer() as rx:
        call = {
            "read": lambda: len(rx.read(100, 0)),
            "try_read": lambda: len(rx.try_read(100)),
            "read_into": lambda: rx.read_into(numbered(0, 100), 0),
            "borrow": lambda: len(rx.borrow(100, 0)),
        }[how]
        tx.write(numbered(0, 3))
        raw.send(b"bytes")
        raw.send(b"")
        tx.write(numbered(3, 3))
        told = got = 0
        while rx.lag or not told:
            try:
                got += call()
            except shmring.CorruptRing as error:
                assert "5 bytes, which is no number of records of 32" in str(error)
                told += 1
        assert (told, got) == (1, 6)
        assert rx.try_read(1) is None


def test_iteration_ends_with_the_ring(ends):
    tx, rx = ends
    tx.write(numbered(0, 40))
    tx.ring.shutdown()
    assert [time for block in rx for time in times(block)] == list(range(40))
    for call in (lambda: rx.read(1), lambda: rx.try_read(1), lambda: rx.borrow(1)):
        with pytest.raises(shmring.ShutDown):
            call()


def test_a_closed_handle_says_so(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        tx.write(numbered(0, 10))
        view = rx.borrow(3, 0)
    assert tx.closed and rx.closed
    sending = (lambda: tx.write(numbered(0, 1)), lambda: tx.try_write(numbered(0, 1)), lambda: tx.reserve(1))
    for call in (*sending, lambda: rx.read(1, 0), lambda: rx.borrow(1, 0), lambda: view.array, lambda: rx.lag):
        with pytest.raises(ValueError, match="closed"):
            call()
    view.release()
    arrays.close()
    with pytest.raises(ValueError, match="closed"):
        arrays.producer()


def test_a_ring_closed_under_a_begun_block_is_closed(arrays):
    rx = arrays.consumer()
    with arrays.producer() as tx:
        tx.write(numbered(0, 10))
        rx.read(3, 0)
        arrays.close()
        with pytest.raises(ValueError, match="closed"):
            rx.read(3, 0)


def test_numpy_is_imported_when_an_array_is_needed():
    code = """
import sys, shmring
with shmring.anonymous(4096, content="array '<f8'") as ring:
    from shmring.array_ring import ArrayRing
    arrays = ArrayRing(ring)
    arrays.stats()
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
