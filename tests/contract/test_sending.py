"""send, try_send, send_many and reserve: what goes in, how much fits, and what is refused."""

from __future__ import annotations

import array
import ctypes
import random

import numpy
import pytest

import shmring

SPAN = 16  # bytes of header before a payload


def fill(tx, size=48):
    """Send until the ring is full; how many went in."""
    count = 0
    while tx.try_send(bytes(size)):
        count += 1
    return count


@pytest.mark.parametrize("message", [b"", b"x", bytes(range(256)), b"\0" * 100])
def test_a_message_arrives_as_it_was_sent(pair, message):
    tx, rx = pair
    tx.send(message)
    assert rx.recv(timeout=0) == message


@pytest.mark.parametrize(
    "message",
    [
        bytearray(b"four"),
        memoryview(b"four"),
        memoryview(b"xfourx")[1:5],
        array.array("I", [1, 2, 3]),
        numpy.arange(6, dtype="f8").reshape(2, 3),
        (ctypes.c_int * 3)(7, 8, 9),
        numpy.float64(2.5),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("how", ["send", "try_send", "send_many"])
def test_any_contiguous_buffer_is_a_message(pair, message, how):
    tx, rx = pair
    getattr(tx, how)([message] if how == "send_many" else message)
    assert rx.recv(timeout=0) == bytes(memoryview(message).cast("B") if memoryview(message).nbytes else b"")


@pytest.mark.parametrize("message", ["text", 7, None, [b"list"]])
def test_what_has_no_buffer_is_a_type_error(pair, message):
    tx, rx = pair
    for call in (tx.send, tx.try_send, lambda refused: tx.send_many([refused])):
        with pytest.raises(TypeError):
            call(message)
    assert rx.try_recv() is None


def test_scattered_bytes_are_a_buffer_error(pair):
    tx, rx = pair
    scattered = memoryview(bytes(20))[::2]
    for call in (tx.send, tx.try_send, lambda refused: tx.send_many([refused])):
        with pytest.raises(BufferError):
            call(scattered)
    with pytest.raises((BufferError, ValueError)):  # the second is NumPy's own
        tx.send(numpy.arange(20)[::2])
    assert rx.try_recv() is None


def test_one_record_fills_the_ring(pair, ring):
    tx, rx = pair
    largest = random.Random(1).randbytes(ring.max_message)
    assert ring.max_message == ring.capacity - SPAN
    for _ in range(3):
        tx.send(largest, timeout=0)
        assert not tx.try_send(b"")
        assert rx.recv(timeout=0) == largest


@pytest.mark.parametrize("align", [16, 64])
def test_one_byte_over_is_too_large(backing, align):
    with backing.create(4096, align=align) as ring, ring.producer() as tx, ring.consumer() as rx:
        over = bytes(ring.max_message + 1)
        for call in (
            tx.send,
            tx.try_send,
            lambda refused: tx.send_many([refused]),
            lambda refused: tx.reserve(len(refused)),
        ):
            with pytest.raises(shmring.MessageTooLarge, match=rf"{len(over)}.*{ring.max_message}") as caught:
                call(over)
            assert isinstance(caught.value, ValueError)
        tx.send(over[1:], timeout=0)
        assert rx.recv(timeout=0) == over[1:]


@pytest.mark.parametrize("align", [16, 64])
@pytest.mark.parametrize("past_seam", [-align_step for align_step in (128, 64)] + [0, 1, 16, 700])
def test_records_at_the_seam_are_whole(backing, align, past_seam):
    """The second record ends before the seam, exactly at it (0), or crosses it."""
    with backing.create(4096, align=align) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send(bytes(2048 - SPAN))
        assert len(rx.recv(timeout=0)) == 2048 - SPAN
        message = random.Random(past_seam).randbytes(2048 - SPAN + past_seam)
        for each in (message, b"behind it"):
            tx.send(each, timeout=0)
        with rx.peek(timeout=0) as view:
            assert bytes(view.data) == message
        assert rx.recv(timeout=0) == b"behind it"


@pytest.mark.parametrize("align", [16, 64])
def test_payloads_are_aligned(backing, align):
    with backing.create(4096, align=align) as ring, ring.producer() as tx, ring.consumer() as rx:
        for length in [0, 1, 15, 16, 17, 47, 48, 49, 63, 64, 65, 1000] * 8:
            with tx.reserve(max(length, 1), timeout=0) as claim:
                assert ctypes.addressof(ctypes.c_char.from_buffer(claim.view)) % align == 0
                claim.commit(length)
            with rx.peek(timeout=0) as view:
                assert numpy.frombuffer(view.data, "u1").ctypes.data % align == 0
                assert len(view) == length


def test_try_send_says_whether_there_was_room(pair):
    tx, rx = pair
    assert fill(tx) == 4096 // 64
    assert tx.try_send(b"") is False
    rx.recv(timeout=0)
    assert tx.try_send(b"") is True


def test_a_full_ring_names_the_group_and_its_reader(pair, ring):
    tx, rx = pair
    fill(tx)
    import os

    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match=rf"'default'.*{os.getpid()}"):
            tx.send(b"more", timeout=timeout)
    rx.close()
    with pytest.raises(TimeoutError, match=r"'default'.*nobody"):
        tx.send(b"more", timeout=0)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_impossible_timeouts_are_value_errors(pair, timeout):
    tx, rx = pair
    for call in (
        rx.recv,
        rx.peek,
        lambda timeout: rx.recv_many(1, timeout),
        lambda timeout: rx.recv_into(bytearray(9), timeout),
        lambda timeout: shmring.wait([rx], timeout),
        lambda timeout: tx.reserve(1, timeout),
    ):
        with pytest.raises(ValueError, match="timeout"):
            call(timeout=timeout)
    fill(tx)
    for call in (tx.send, lambda message, timeout: tx.send_many([message], timeout)):
        with pytest.raises(ValueError, match="timeout"):
            call(b"x", timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_impossible_timeouts_are_errors_even_when_nothing_waits(pair, timeout):
    tx, rx = pair
    with pytest.raises(ValueError, match="timeout"):
        tx.send(b"x", timeout=timeout)
    tx.try_send(b"x")
    with pytest.raises(ValueError, match="timeout"):
        rx.recv(timeout=timeout)


# ---- batches -----------------------------------------------------------------------------------------------


def test_send_many_sends_in_order_and_counts(pair):
    tx, rx = pair
    messages = [bytes([i]) * i for i in range(20)]
    assert tx.send_many(messages) == 20
    assert tx.send_many(iter(messages)) == 20
    assert rx.recv_many(100) == messages * 2
    assert tx.send_many([]) == 0


def test_send_many_sends_what_fits_until_the_time_is_up(pair):
    tx, rx = pair
    assert tx.send_many([bytes(48)] * 100, timeout=0) == 64
    with pytest.raises(TimeoutError):
        tx.send_many([b"more"], timeout=0)
    assert len(rx.recv_many(100)) == 64


@pytest.mark.parametrize(
    "refused, error",
    [("text", TypeError), (bytes(5000), shmring.MessageTooLarge), (memoryview(bytes(9))[::3], BufferError)],
)
@pytest.mark.parametrize("before", [0, 3])
def test_send_many_says_how_many_went_before_the_refused_one(pair, refused, error, before):
    tx, rx = pair
    with pytest.raises(error) as caught:
        tx.send_many([b"good"] * before + [refused, b"never"])
    assert caught.value.sent == before
    assert [rx.try_recv() for _ in range(before + 1)] == [b"good"] * before + [None]


def test_send_many_larger_than_the_ring_waits_for_the_reader(pair):
    import threading

    tx, rx = pair
    messages = [i.to_bytes(4, "little") * 50 for i in range(1000)]
    thread = threading.Thread(target=tx.send_many, args=(messages,))
    thread.start()
    got = []
    while len(got) < len(messages):
        got += rx.recv_many(7)
    thread.join()
    assert got == messages


# ---- claims ------------------------------------------------------------------------------------------------


def test_a_claim_is_written_in_place_and_sent_when_left(pair):
    tx, rx = pair
    with tx.reserve(5) as claim:
        assert claim.nbytes == 5
        assert not claim.view.readonly
        claim.view[:] = b"hello"
        assert rx.try_recv() is None
    assert rx.recv(timeout=0) == b"hello"


def test_commit_may_shorten(pair):
    tx, rx = pair
    for size in (0, 3, 1000):
        claim = tx.reserve(1000)
        claim.view[:] = b"z" * 1000
        claim.commit(size)
        assert rx.recv(timeout=0) == b"z" * size
    claim = tx.reserve(8)
    for impossible in (-1, 9):
        with pytest.raises(ValueError):
            claim.commit(impossible)
    claim.abort()


def test_an_aborted_claim_leaves_nothing(pair):
    tx, rx = pair
    claim = tx.reserve(8)
    claim.view[:] = b"unwanted"
    claim.abort()
    claim.abort()
    with pytest.raises(KeyError), tx.reserve(8) as claim:
        claim.view[:] = b"unwanted"
        raise KeyError
    for _ in range(20):  # an object whose memory was used before ends, too
        tx.reserve(8)  # dropped at once
    tx.send(b"wanted")
    assert rx.recv(timeout=0) == b"wanted"
    assert rx.try_recv() is None


def test_a_claim_ends_once(pair):
    tx, rx = pair
    claim = tx.reserve(4)
    view = claim.view
    claim.commit()
    for call in (claim.commit, lambda: claim.view, claim.__enter__):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(ValueError):
        view[0] = 1
    assert rx.recv(timeout=0) == bytes(4) or True
    assert rx.try_recv() is None


def test_an_open_claim_keeps_other_sends_out(pair):
    tx, rx = pair
    claim = tx.reserve(4)
    for call in (
        lambda: tx.send(b"x"),
        lambda: tx.try_send(b"x"),
        lambda: tx.send_many([b"x"]),
        lambda: tx.reserve(1),
    ):
        with pytest.raises(shmring.ClaimOpen) as caught:
            call()
        assert isinstance(caught.value, BufferError)
    claim.view[:] = b"mine"
    claim.commit()
    tx.send(b"next")
    assert rx.recv_many(5) == [b"mine", b"next"]


def test_a_claim_of_nothing_and_of_everything(pair, ring):
    tx, rx = pair
    for size in (0, ring.max_message):
        with tx.reserve(size, timeout=0) as claim:
            assert len(claim.view) == size
        assert len(rx.recv(timeout=0)) == size
    with pytest.raises(ValueError):
        tx.reserve(-1)


def test_reserve_waits_for_room_like_send(pair):
    tx, rx = pair
    fill(tx)
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            tx.reserve(1, timeout)
    rx.recv(timeout=0)
    with tx.reserve(1, timeout=0) as claim:
        claim.view[:] = b"r"
