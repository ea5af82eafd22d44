"""recv, try_recv, recv_many, recv_into, peek and iteration; views and the order of their release."""

from __future__ import annotations

import array
import itertools

import numpy
import pytest

import shmring


def test_recv_gives_bytes_in_order(pair):
    tx, rx = pair
    for i in range(200):
        tx.send(b"%d" % i)
        got = rx.recv(timeout=0)
        assert type(got) is bytes and got == b"%d" % i


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_an_empty_ring_times_out_and_names_the_writer(pair, timeout):
    import os

    _, rx = pair
    for call in (
        rx.recv,
        rx.peek,
        lambda timeout: rx.recv_many(3, timeout),
        lambda timeout: rx.recv_into(bytearray(3), timeout),
    ):
        with pytest.raises(TimeoutError, match=rf"'default'.*{os.getpid()}"):
            call(timeout=timeout)


def test_try_recv_gives_none_when_empty_and_an_empty_message_when_that_was_sent(pair):
    tx, rx = pair
    assert rx.try_recv() is None
    tx.send(b"")
    assert rx.try_recv() == b""
    assert rx.try_recv() is None


def test_recv_many_takes_what_is_there_up_to_the_limit(pair):
    tx, rx = pair
    sent = [bytes([i]) for i in range(10)]
    tx.send_many(sent)
    assert rx.recv_many(4) == sent[:4]
    assert rx.recv_many(1) == sent[4:5]
    assert rx.recv_many(10**9) == sent[5:]
    for limit in (0, -1):
        with pytest.raises(ValueError, match="limit"):
            rx.recv_many(limit)


@pytest.mark.parametrize(
    "buffer",
    [bytearray(8), array.array("I", [0, 0]), numpy.zeros(2, "u4"), memoryview(bytearray(8))],
    ids=lambda each: type(each).__name__,
)
def test_recv_into_copies_and_gives_the_length(pair, buffer):
    tx, rx = pair
    tx.send(b"seven b")
    assert rx.recv_into(buffer, timeout=0) == 7
    assert bytes(buffer)[:7] == b"seven b"
    assert rx.try_recv() is None


def test_recv_into_a_small_buffer_leaves_the_message(pair):
    tx, rx = pair
    tx.send(b"eight by")
    with pytest.raises(ValueError, match=r"8.*7"):
        rx.recv_into(bytearray(7), timeout=0)
    for refused in (b"readonly", "text", memoryview(bytearray(16))[::2]):
        with pytest.raises((TypeError, BufferError)):
            rx.recv_into(refused, timeout=0)
    assert rx.recv_into(bytearray(8), timeout=0) == 8


def test_iteration_ends_after_shutdown_when_all_is_read(pair, ring):
    tx, rx = pair
    tx.send_many([b"a", b"b"])
    ring.shutdown()
    assert list(rx) == [b"a", b"b"]
    assert list(rx) == []


# ---- views -------------------------------------------------------------------------------------------------


def test_a_view_is_the_message_where_it_lies(pair):
    tx, rx = pair
    tx.send(b"in place")
    with rx.peek(timeout=0) as view:
        assert view.data.readonly and len(view) == 8
        assert bytes(view.data) == b"in place"
        assert view.redelivered is False
        with pytest.raises(TypeError):
            view.data[0] = 1
    assert rx.try_recv() is None


def test_sequences_grow_from_record_to_record(pair):
    tx, rx = pair
    last = -1
    for i in range(100):
        tx.send(bytes(i))
        with rx.peek(timeout=0) as view:
            assert view.sequence > last
            last = view.sequence


def test_a_released_view_lends_nothing(pair):
    tx, rx = pair
    tx.send(b"gone")
    view = rx.peek(timeout=0)
    data = view.data
    view.release()
    view.release()
    for call in (lambda: view.data, view.__enter__, lambda: data[0]):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_room_comes_when_the_oldest_view_is_released(pair, order):
    """Four records fill the ring; whatever the order of release, only a released prefix makes room."""
    tx, rx = pair
    for i in range(4):
        tx.send(bytes([i]) * (1024 - 16), timeout=0)
    views = [rx.peek(timeout=0) for _ in range(4)]
    released = set()
    sent = 0
    for number in order:
        assert bytes(views[number].data) == bytes([number]) * (1024 - 16)
        views[number].release()
        released.add(number)
        prefix = next(i for i in range(5) if i not in released)
        while tx.try_send(bytes([9]) * (1024 - 16)):
            sent += 1
        assert sent == prefix
    assert rx.recv_many(9) == [bytes([9]) * (1024 - 16)] * 4


def test_recv_behind_an_open_view_gives_the_next_message_but_no_room(pair):
    tx, rx = pair
    for i in range(4):
        tx.send(bytes([i]) * 1008, timeout=0)
    view = rx.peek(timeout=0)
    assert rx.recv(timeout=0) == b"\1" * 1008
    assert not tx.try_send(b"")
    assert rx.recv_many(9) == [b"\2" * 1008, b"\3" * 1008]
    assert not tx.try_send(b"")
    assert bytes(view.data) == bytes(1008)
    view.release()
    assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4


def test_a_dropped_view_is_released(pair):
    tx, rx = pair
    for _ in range(20):  # an object whose memory was used before is released, too
        tx.send(bytes(4080), timeout=0)
        rx.peek(timeout=0)
    assert tx.try_send(b"")


def test_an_exception_in_a_view_releases_it(pair):
    tx, rx = pair
    tx.send(b"bad")
    with pytest.raises(KeyError), rx.peek(timeout=0):
        raise KeyError
    assert rx.try_recv() is None


def test_an_array_made_from_a_view_outlives_it_safely(pair):
    tx, rx = pair
    tx.send(b"12345678")
    with rx.peek(timeout=0) as view:
        numbers = numpy.frombuffer(view.data, "u1")
    assert numbers.sum() == sum(b"12345678")
    for handle, text in (rx, "1 open"), (rx.ring, "1 buffers"):
        with pytest.raises(BufferError, match=text):
            handle.close()
    assert numbers.sum() == sum(b"12345678")
    del numbers
    rx.ring.close()


# ---- lag and stats -----------------------------------------------------------------------------------------


def test_lag_counts_the_messages_that_wait(pair):
    tx, rx = pair
    assert rx.lag == 0 and rx.lost == 0
    tx.send_many([b"a", b"", bytes(1000)])
    assert rx.lag == 3
    rx.recv(timeout=0)
    assert rx.lag == 2
    with rx.peek(timeout=0):
        assert rx.lag == 1
    rx.recv_many(9)
    assert rx.lag == 0


def test_stats_tell_fill_groups_and_participants(pair, ring, backing):
    import json
    import os

    tx, rx = pair
    ring.consumer("slow").close()
    tx.send_many([bytes(48)] * 3)
    rx.recv(timeout=0)
    with backing.again(ring) as other:
        for stats in (ring.stats(), other.stats()):
            assert (stats.capacity, stats.used, stats.fill, stats.shutdown) == (4096, 192, 192 / 4096, False)
            groups = {group.name: group for group in stats.groups}
            assert (groups["default"].lag, groups["default"].lag_bytes, groups["default"].members) == (
                2,
                128,
                [os.getpid()],
            )
            assert (groups["slow"].lag, groups["slow"].lag_bytes, groups["slow"].members) == (3, 192, [])
            roles = {each.role: each for each in stats.participants}
            assert set(roles) == {"producer", "consumer"} and len(stats.participants) == 2
            assert (roles["producer"].messages, roles["producer"].bytes, roles["producer"].alive) == (
                3,
                144,
                True,
            )
            assert (roles["consumer"].messages, roles["consumer"].group) == (1, "default")
            assert {each.pid for each in stats.participants} == {os.getpid()}
            assert json.loads(json.dumps(stats.as_dict()))["tail"] == stats.tail
    ring.shutdown()
    assert ring.stats().shutdown


# ---- shutdown ----------------------------------------------------------------------------------------------


def test_shutdown_stops_producers_at_once_and_consumers_when_drained(pair, ring):
    tx, rx = pair
    tx.send_many([b"one", b"two"])
    ring.shutdown()
    ring.shutdown()
    for call in (
        lambda: tx.send(b"x"),
        lambda: tx.try_send(b"x"),
        lambda: tx.send_many([b"x"]),
        lambda: tx.reserve(1),
        ring.producer,
    ):
        with pytest.raises(shmring.ShutDown):
            call()
    assert rx.recv(timeout=0) == b"one"
    with rx.peek() as view:
        assert bytes(view.data) == b"two"
    for call in (rx.recv, rx.try_recv, rx.peek, lambda: rx.recv_many(1), lambda: rx.recv_into(bytearray(1))):
        with pytest.raises(shmring.ShutDown):
            call()


def test_a_claim_that_was_open_at_shutdown_may_still_commit_or_abort(pair, ring):
    tx, rx = pair
    claim = tx.reserve(4)
    claim.view[:] = b"late"
    ring.shutdown()
    try:
        claim.commit()
    except shmring.ShutDown:
        claim.abort()
    else:
        assert rx.recv(timeout=0) == b"late"


def test_a_consumer_that_comes_after_shutdown_drains_its_group(pair, ring):
    tx, rx = pair
    tx.send(b"left")
    rx.close()
    ring.shutdown()
    with ring.consumer() as late:
        assert list(late) == [b"left"]
