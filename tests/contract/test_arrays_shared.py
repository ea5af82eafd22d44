"""Rings of records with several readers: groups, members that die in the middle of a block, observers, waits, children."""

from __future__ import annotations

import multiprocessing
import random

import pytest
from test_arrays import RECORD, SMALL, arrays, numbered, times  # noqa: F401 (fixtures)

import shmring

numpy = pytest.importorskip("numpy", reason="rings of arrays need NumPy")

# ---- groups ----------------------------------------------------------------------------------------------------------


def test_every_group_gets_everything(arrays):
    with arrays.producer() as tx, arrays.consumer() as one, arrays.consumer("two", start="earliest") as two:
        for first in range(0, 60, 6):
            tx.write(numbered(first, 6))
        assert times(one.read(100, 0)) == times(two.read(100, 0)) == list(range(60))
        assert (one.group, two.group, one.lost) == ("default", "two", 0)


def test_members_of_a_group_share_the_blocks(arrays):
    rng = random.Random(3)
    with arrays.producer() as tx:
        members = [arrays.consumer() for _ in range(3)]
        got, written = [], 0
        while written < 5000:
            written += tx.try_write(numbered(written, rng.randrange(1, 40)))
            member = rng.choice(members)
            block = member.try_read(rng.choice((1, 5, 100)))
            got += [] if block is None else times(block)
        for member in members:
            while (block := member.try_read(1000)) is not None:
                got += times(block)
        assert sorted(got) == list(range(written))
        assert all(member.lag == 0 for member in members)


def test_a_batch_leaves_the_other_members_their_share(arrays):
    with arrays.producer() as tx, arrays.consumer() as one, arrays.consumer() as two:
        for first in range(20):
            tx.write(numbered(first, 1))
        first = one.read(100, 0)
        assert 0 < len(first) < 20 and two.try_read(100) is not None


def test_a_block_stays_pinned_until_its_end_is_read(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        tx.write(numbered(0, 30))
        rx.read(29, 0)
        written = 0
        while tx.try_write(numbered(0, 30)):
            written += 1
        assert written == 3
        assert times(rx.read(1, 0)) == [29]
        assert tx.try_write(numbered(0, 30)) == 30


def test_parts_that_were_borrowed_are_released_in_any_order(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        tx.write(numbered(0, 30))
        views = [rx.borrow(10, 0) for _ in range(3)]
        assert [times(view.array) for view in views] == [list(range(first, first + 10)) for first in (0, 10, 20)]
        assert len({view.sequence for view in views}) == 1 and rx.try_read(1) is None
        used = arrays.stats().used
        for view in views[2], views[0]:
            view.release()
            view.release()
            assert not view.valid and arrays.stats().used == used
        with views[1] as last:
            assert last.valid and not last.redelivered and len(last) == 10
        assert arrays.stats().used == 0
        with pytest.raises(ValueError, match="released"):
            last.array  # noqa: B018


def test_what_is_borrowed_cannot_be_unmapped(arrays):
    rx = arrays.consumer()
    with arrays.producer() as tx:
        tx.write(numbered(0, 30))
    view = rx.borrow(5, 0)
    array = view.array
    for each in rx, arrays:
        with pytest.raises(BufferError):
            each.close()
    view.release()
    with pytest.raises(BufferError):
        arrays.close()
    assert times(array) == list(range(5))
    del array
    rx.close()
    arrays.close()


def test_a_member_that_leaves_in_the_middle_leaves_the_whole_block(arrays):
    with arrays.producer() as tx:
        with arrays.consumer() as first:
            tx.write(numbered(0, 10))
            tx.write(numbered(10, 10))
            assert times(first.read(13, 0)) == list(range(13))
        with arrays.consumer() as second, second.borrow(100, 0) as view:
            assert view.redelivered and times(view.array) == list(range(10, 20))


@pytest.mark.parametrize("how", ["read", "borrow", "reading"])
def test_a_member_killed_in_the_middle_leaves_the_whole_block(named, peer, how, topology):
    with named.create(4096, producers=topology, dtype=RECORD) as ring, ring.producer() as tx:
        for first in range(0, 30, 10):
            tx.write(numbered(first, 10))
        dying = peer(
            """
            ring = shmring.open(sys.argv[1])
            rx = ring.consumer()
            if sys.argv[2] == "reading":
                say(len(rx.read(10)))
                rx.read(4)
            else:
                held = rx.read(14) if sys.argv[2] == "read" else rx.borrow(14)
                say(len(held))
            say("there")
            hear()
            """,
            named.name,
            how,
        )
        dying.expect({"read": "14", "borrow": "10", "reading": "10"}[how])
        dying.expect("there")
        dying.kill()
        with ring.consumer() as rx:
            expected = list(range(0 if how == "borrow" else 10, 30))
            got = []
            while len(got) < len(expected):
                got += times(rx.read(100, 10))
            assert sorted(got) == expected
            assert rx.try_read(1) is None


# ---- observers -------------------------------------------------------------------------------------------------------


def test_an_observer_reads_and_borrows_and_holds_nobody_back(arrays):
    with arrays.producer() as tx, arrays.consumer(lossy=True) as rx:
        arrays.remove_group("default")
        tx.write(numbered(0, 20))
        assert rx.lag == 20
        assert times(rx.read(5, 0)) == list(range(5)) and rx.lag == 15
        with rx.borrow(5, 0) as view:
            assert times(view.array) == list(range(5, 10)) and view.valid and not view.redelivered
            for first in range(20, 400, 20):
                tx.write(numbered(first, 20), timeout=0)
            assert not view.valid
            with pytest.raises(shmring.Lapped):
                view.array  # noqa: B018
        assert times(rx.latest(3, 0)) == [397, 398, 399]
        assert rx.try_read(10) is None
        with pytest.raises(TimeoutError):
            rx.latest(1, 0)
        tx.write(numbered(400, 1))
        assert times(rx.latest(3, 0)) == [400]


@pytest.mark.parametrize("dtype", [RECORD, numpy.dtype("V64"), numpy.dtype("V24"), numpy.dtype("<f8")], ids=str)
@pytest.mark.parametrize("align", [16, 64])
def test_every_record_is_read_or_counted_as_lost(topology, dtype, align):
    rng = random.Random(5)
    with shmring.anonymous(8192, producers=topology, dtype=dtype, align=align) as ring:
        ring.remove_group("default")
        with ring.producer() as tx, ring.consumer(lossy=True) as rx:
            written = read = blocks = 0
            for _ in range(2000):
                count = rng.randrange(1, 20)
                tx.write(numpy.zeros(count, dtype), timeout=0)
                written += count
                if rng.random() < 0.02:
                    while (block := rx.try_read(rng.randrange(1, 50))) is not None:
                        read += len(block)
                        if rng.random() < 0.1:
                            break
            while (block := rx.try_read(100)) is not None:
                read += len(block)
            blocks = rx.lost_blocks
            assert blocks > 500
            if dtype.itemsize % align == 0:
                assert read + rx.lost == written
            else:
                assert abs(read + rx.lost - written) <= blocks / 10


def test_blocks_of_one_size_are_counted_exactly(backing, topology):
    with backing.create(4096, producers=topology, dtype=SMALL) as ring:
        ring.remove_group("default")
        with ring.producer() as tx, ring.consumer(lossy=True) as rx:
            for _ in range(3):
                for _ in range(500):
                    tx.write(numbered(0, 7, SMALL), timeout=0)
                read = 0
                while (block := rx.try_read(500)) is not None:
                    read += len(block)
                assert read
            assert rx.lost == rx.lost_blocks * 7 > 5000


def test_an_observer_of_a_readonly_ring(named, topology):
    with named.create(4096, producers=topology, dtype=RECORD) as ring, ring.producer() as tx:
        tx.write(numbered(0, 9))
        with shmring.open(named.name, readonly=True) as seen, seen.consumer(lossy=True) as rx:
            assert times(rx.read(100, 0)) == list(range(9))
            with pytest.raises(ValueError, match="reading only"):
                seen.consumer()


# ---- waits, threads, children ----------------------------------------------------------------------------------------


def test_wait_takes_handles_of_arrays(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx, arrays.consumer(lossy=True) as observer:
        assert shmring.wait([tx, rx, observer], timeout=0) == [tx]
        tx.write(numbered(0, 5))
        assert shmring.wait([rx, observer], timeout=10) == [rx, observer]
        rx.read(3, 0)
        observer.read(5, 0)
        assert shmring.wait([observer, rx], timeout=10) == [rx], "the rest of a block is there at once"
        rx.read(3, 0)
        assert shmring.wait([rx, observer], timeout=0) == []


def echo(ring, back):
    with ring.consumer() as rx, back.producer() as tx:
        for block in rx:
            tx.write(block)
    back.shutdown()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_get_the_ring(method, backing, topology):
    context = multiprocessing.get_context(method)
    with backing.create(8192, producers=topology, dtype=RECORD) as ring, shmring.anonymous(8192, dtype=RECORD) as back:
        child = context.Process(target=echo, args=(ring, back), daemon=True)
        child.start()
        with ring.producer() as tx, back.consumer() as rx:
            got = []
            for first in range(0, 1000, 50):
                tx.write(numbered(first, 50))
                while first - len(got) > 100:  # as much as both rings hold
                    got += times(rx.read(1000))
            ring.shutdown()
            got += [time for block in rx for time in times(block)]
        child.join()
        assert got == list(range(1000)) and child.exitcode == 0


def test_a_forked_child_does_not_use_its_parents_handles(arrays):
    with arrays.producer() as tx, arrays.consumer() as rx:
        tx.write(numbered(0, 10))
        rx.read(3, 0)

        def tries():
            for call in (lambda: tx.write(numbered(0, 1)), lambda: rx.read(1, 0), lambda: rx.borrow(1, 0)):
                with pytest.raises(shmring.WrongProcess):
                    call()

        child = multiprocessing.get_context("fork").Process(target=tries)
        child.start()
        child.join()
        assert child.exitcode == 0 and times(rx.read(100, 0)) == list(range(3, 10))
