"""Memory of messages that outlives its view: the record stays, one sees who keeps it, and it ends in an error, not a stall."""

from __future__ import annotations

import gc
import os
import threading

import numpy
import pytest

import shmring

ROOM = bytes(1000)


def borrow(rx):
    with rx.peek(0) as view:
        return numpy.frombuffer(view.data, "u1")


def fill(tx):
    sent = 0
    while tx.try_send(ROOM):
        sent += 1
    return sent


def test_a_record_stays_as_long_as_an_array_of_it(pair):
    tx, rx = pair
    for drop in range(3):
        tx.send(b"12345678")
        array = borrow(rx)
        part, whole = array[2:4], memoryview(array)
        for _ in range(3):  # three quarters of the ring, and then no more
            tx.send(ROOM, timeout=0)
            assert rx.recv(0) == ROOM
        assert not tx.try_send(ROOM)
        assert bytes(array) == b"12345678"
        (pin,) = rx.stats.pins
        assert pin.bytes == 8 and not pin.is_open and pin.seconds >= 0
        if drop == 0:
            del whole, array, part
        elif drop == 1:
            del array, part
            assert not tx.try_send(ROOM)
            whole.release()
        else:
            cycle = [array, whole, part]
            cycle.append(cycle)
            del array, whole, part, cycle
            gc.collect()
        assert rx.stats.pins == [] and rx.stats.held_back == 0
        assert fill(tx) == 4
        while rx.try_recv() is not None:
            pass


def test_stats_tell_who_keeps_what(pair):
    tx, rx = pair
    tx.send_many([b"1", b"22", b"333"])
    assert rx.stats.pins == [] and rx.stats.group == "default"
    first, second = rx.peek(0), borrow(rx)
    rx.recv(0)
    stats = rx.stats
    assert [(pin.bytes, pin.is_open) for pin in stats.pins] == [(1, True), (2, False)]
    assert stats.pins[0].position == first.sequence < stats.pins[1].position
    assert stats.held_back == 3 * 32 and stats.messages == 3 and stats.bytes == 6
    assert stats.as_dict()["pins"][1]["holder"] == "memory of a View"
    assert stats.pins[0].seconds >= stats.pins[1].seconds
    first.release()
    assert [pin.bytes for pin in rx.stats.pins] == [2]
    del second


def test_stats_name_the_array(pair):
    tx, rx = pair
    tx.send_array(numpy.zeros((3, 4), "f4"))
    tx.send_obj({"a": numpy.zeros(5)})
    arrays = []
    with rx.peek_array(0) as view:
        arrays.append(view.array[1:])
    with rx.peek_obj(0) as view:
        arrays.append(view.obj["a"])
    assert [pin.holder for pin in rx.stats.pins] == ["float32 array of shape (3, 4)", "dict object"]
    arrays.clear()
    assert rx.stats.pins == []


def test_what_is_borrowed_too_long_is_an_error_and_not_a_stall(pair):
    tx, rx = pair
    tx.send(b"kept")
    kept = borrow(rx)
    for _ in range(2):
        tx.send(ROOM, timeout=0)
        rx.recv(0)  # there was something
    for receive in rx.recv, rx.try_recv, rx.peek, rx.recv_obj, rx.peek_array, lambda: next(rx), lambda: rx.recv_many(1):
        with pytest.raises(shmring.BorrowedTooLong, match=r"holds back 2080 of 4096 bytes.*2048.*memory of a View"):
            receive()
    tx.send(b"still arrives")
    assert rx.recv(0) == b"still arrives"
    assert bytes(kept) == b"kept"
    del kept
    assert rx.try_recv() is None
    assert fill(tx) == 4


def test_open_views_are_the_users_own_business(pair):
    tx, rx = pair
    tx.send(b"kept")
    with rx.peek(0):
        for _ in range(3):
            tx.send(ROOM, timeout=0)
            rx.recv(0)
        with pytest.raises(TimeoutError):
            rx.recv(0)


@pytest.mark.parametrize(
    ("limit", "had"), [(0.25, 1024), (100, 100), ("1 KiB", 1024), (None, None), (1.0, 4096)]
)
def test_the_limit_is_the_consumers(pair, limit, had):
    tx, rx = pair
    assert rx.borrow_limit == rx.stats.borrow_limit == 2048
    rx.borrow_limit = limit
    assert rx.borrow_limit == rx.stats.borrow_limit == had
    tx.send(b"kept")
    kept = borrow(rx)
    for _ in range(3):
        tx.send(ROOM, timeout=0)
        rx.recv(0)
    with pytest.raises(TimeoutError if had is None or had == 4096 else shmring.BorrowedTooLong):
        rx.recv(0)
    del kept


@pytest.mark.parametrize("limit", [0.0, 1.5, -1, "much", 0, float("nan")])
def test_a_limit_that_is_none_is_refused(pair, limit):
    with pytest.raises(ValueError):
        pair[1].borrow_limit = limit
    assert pair[1].borrow_limit == 2048


def test_a_wait_that_others_made_hopeless_ends(ring):
    """Other members go on and fill the ring up behind what this one keeps; it waits all the time."""
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer() as other:
        tx.send(b"kept")
        kept = borrow(rx)
        errors = []

        def wait():
            try:
                while True:
                    rx.recv(50)
            except shmring.BorrowedTooLong as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while thread.is_alive():
            tx.try_send(ROOM)
            other.try_recv()
        assert len(errors) == 1 and "memory of a View" in str(errors[0])
        del kept


def test_a_consumer_is_not_closed_under_an_array(pair):
    tx, rx = pair
    tx.send(b"12345678")
    array = borrow(rx)
    with pytest.raises(BufferError, match="1 open claims or views"):
        rx.close()
    assert bytes(array) == b"12345678"
    del array
    rx.close()


def test_the_error_on_its_way_out_is_not_replaced(ring):
    with ring.producer() as tx:
        tx.send(b"12345678")
    array = None
    with pytest.raises(KeyError), ring.consumer() as rx:
        array = borrow(rx)
        raise KeyError
    assert not rx.closed
    del array
    rx.close()


def test_a_borrowing_consumer_that_is_dropped_leaves(ring):
    with ring.producer() as tx:
        tx.send(b"12345678")
    array = borrow(ring.consumer())
    assert bytes(array) == b"12345678"
    del array
    gc.collect()
    assert ring.stats().participants == []


def test_a_forked_child_that_drops_an_array_changes_nothing(pair):
    tx, rx = pair
    tx.send(b"kept")
    kept = borrow(rx)
    child = os.fork()
    if child == 0:
        del kept
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for _ in range(3):
        tx.send(ROOM, timeout=0)
        rx.recv(0)
    assert not tx.try_send(ROOM) and bytes(kept) == b"kept"
    del kept
    assert tx.try_send(ROOM)


def test_dropping_in_any_order_frees_what_can_be_freed(pair):
    tx, rx = pair
    tx.send_many([b"a" * 100, b"b" * 100, b"c" * 100])
    arrays = [borrow(rx) for _ in range(3)]
    oldest = [rx.stats.held_back]
    for number in (1, 0, 2):
        arrays[number] = None
        oldest.append(rx.stats.held_back)
    assert oldest == [3 * 128, 3 * 128, 128, 0]


def test_an_array_that_is_dropped_in_another_thread_lets_go(pair):
    tx, rx = pair
    tx.send(b"kept")
    box = [borrow(rx)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert rx.stats.pins == []
