"""Objects and arrays through rings: the methods of the ports, and which codec they use."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import shmring
from shmring import CodecError, codecs

BIG = 1 << 20


@pytest.fixture
def ring():
    with shmring.anonymous("4 MiB") as made:
        yield made


@pytest.fixture
def pair(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        yield tx, rx


def array_of(nbytes=BIG):
    return np.arange(nbytes // 8, dtype="f8")


OBJECTS = [None, {"id": 1, "name": "quote"}, b"", "text" * 10_000, b"x" * 100_000, [array_of(100), {"k": array_of()}]]


def equal(left, right):
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right) and left.dtype == right.dtype
    if isinstance(left, (list, dict)):
        pairs = zip(left, right, strict=True) if isinstance(left, list) else ((left[key], right[key]) for key in left)
        return len(left) == len(right) and all(equal(*each) for each in pairs)
    return type(left) is type(right) and left == right


# ---- objects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: f"{type(obj).__name__}")
@pytest.mark.parametrize("lossy", [False, True])
def test_objects_arrive(obj, lossy):
    with shmring.anonymous("8 MiB") as ring, ring.producer() as tx, ring.consumer(lossy=lossy) as rx:
        tx.send_obj(obj)
        assert tx.try_send_obj(obj)
        assert tx.send_objs([obj, obj]) == 2
        assert equal(rx.recv_obj(0), obj)
        assert equal(rx.try_recv_obj("nothing"), obj)
        rest = []
        while len(rest) < 2:
            rest += rx.recv_objs(10, 0)
        assert equal(rest, [obj, obj])
        assert rx.try_recv_obj("nothing") == "nothing"
        with pytest.raises(TimeoutError):
            rx.recv_obj(0)
        with pytest.raises(TimeoutError):
            rx.recv_objs(1, 0.001)


def test_what_was_received_owns_its_memory(pair):
    tx, rx = pair
    sent = [array_of(64), array_of()]
    tx.send_objs([sent, sent])
    for got in [rx.recv_obj(0), *rx.recv_objs(5, 0)]:
        tx.send(bytes(3 * BIG))
        rx.recv(0)
        assert equal(got, sent) and all(each.flags.writeable for each in got)
    assert rx.stats.pins == []


def test_peeked_objects_lie_in_the_ring(pair):
    tx, rx = pair
    tx.send_obj({"frame": array_of()})
    with rx.peek_obj(0) as view:
        frame = view.obj["frame"]
        assert equal(frame, array_of()) and not frame.flags.writeable and view.valid and not view.redelivered
        assert np.shares_memory(frame, np.frombuffer(view.data, "u1"))
        assert frame.ctypes.data % 16 == 0
        del frame
    assert rx.stats.pins == []
    with pytest.raises(ValueError, match="released"):
        view.obj  # noqa: B018
    view.release()


def test_a_batch_keeps_its_order_whatever_the_sizes(pair):
    tx, rx = pair
    sent = [1, 2, array_of(100_000), 3, array_of(200_000), array_of(64), 4]
    assert tx.send_objs(iter(sent)) == len(sent)
    got = []
    while len(got) < len(sent):
        got += rx.recv_objs(3, 0)
    assert equal(got, sent)


def test_a_batch_sends_what_comes_before_a_bad_object(pair):
    tx, rx = pair
    with pytest.raises(Exception, match="lambda") as caught:
        tx.send_objs([1, array_of(100_000), lambda: None, 2])
    assert caught.value.sent == 2
    assert rx.recv_obj(0) == 1 and equal(rx.recv_obj(0), array_of(100_000)) and rx.try_recv() is None


def test_a_batch_that_finds_no_room_says_how_much_it_sent(pair):
    tx, rx = pair
    assert tx.send_objs([array_of(), array_of(), array_of(), array_of()], 0) == 3
    with pytest.raises(TimeoutError) as caught:
        tx.send_objs([array_of()], 0)
    assert caught.value.sent == 0
    assert not tx.try_send_obj(array_of()) and tx.try_send_obj(1)
    with pytest.raises(TimeoutError, match="full"):
        tx.send_obj(array_of(), 0.001)
    assert [len(rx.recv_obj(0)) for _ in range(3)] == [BIG // 8] * 3


def test_an_object_that_can_never_fit_is_an_error_and_not_a_wait(pair):
    tx, _ = pair
    for call in tx.send_obj, tx.try_send_obj, tx.send_array:
        with pytest.raises(shmring.MessageTooLarge):
            call(array_of(8 * BIG))
    with pytest.raises(shmring.MessageTooLarge) as caught:
        tx.send_objs([1, array_of(8 * BIG)])
    assert caught.value.sent == 1


def test_a_message_that_cannot_be_unpacked_is_received_all_the_same(pair):
    tx, rx = pair
    for receive in rx.recv_obj, rx.try_recv_obj, rx.peek_obj, lambda: rx.recv_objs(1):
        tx.send(b"no pickle")
        tx.send_obj("next")
        with pytest.raises(CodecError, match="no pickle"):
            receive()
        assert rx.recv_obj(0) == "next"
    tx.send(b"no pickle" * 10_000)
    with pytest.raises(CodecError):
        rx.recv_obj()
    assert rx.stats.pins == []


def test_a_batch_ends_before_what_cannot_be_unpacked_and_loses_nothing(pair):
    tx, rx = pair
    tx.send_objs([1, 2])
    tx.send(b"bad")
    tx.send(b"worse")
    tx.send_objs([3, 4, 5])
    assert rx.recv_objs(10) == [1, 2]
    with pytest.raises(BufferError):
        rx.peek_obj(0)
    with pytest.raises(CodecError, match="bad"):
        rx.recv_objs(10)
    with pytest.raises(CodecError, match="worse"):
        rx.recv_obj(0)
    assert rx.recv_objs(2) == [3, 4] and rx.try_recv_obj() == 5 and rx.try_recv_obj() is None


def test_objects_after_shutdown_are_drained(pair):
    tx, rx = pair
    tx.send_obj(1)
    tx.ring.shutdown()
    for call in (lambda: tx.send_obj(2), lambda: tx.try_send_obj(array_of()), lambda: tx.send_array(array_of())):
        with pytest.raises(shmring.ShutDown):
            call()
    assert rx.recv_obj(0) == 1
    for call in rx.recv_obj, rx.try_recv_obj, rx.peek_obj, rx.recv_array, rx.peek_array, lambda: rx.recv_objs(1):
        with pytest.raises(shmring.ShutDown):
            call()


def test_closed_handles_say_so(ring):
    tx, rx = ring.producer(), ring.consumer()
    tx.close()
    rx.close()
    for call in (
        lambda: tx.send_obj(1), lambda: tx.try_send_obj(1), lambda: tx.send_objs([1]), lambda: tx.send_array(array_of()),
        rx.recv_obj, rx.try_recv_obj, lambda: rx.recv_objs(1), rx.peek_obj, rx.recv_array, rx.peek_array, lambda: rx.stats,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="closed"):
            call()


def test_threads_that_share_a_producer_do_not_meet_each_others_claims(ring):
    """A large object writes itself into an open claim; others used to get ClaimOpen meanwhile."""
    started = threading.Event()

    class Slow:
        name = "slow"

        def pack(self, obj):
            return self if obj == "slow" else b"quick"

        nbytes = 100_000

        def write_into(self, memory):
            started.set()
            while not waiting.wait(0.001):  # lets the other thread run into it
                pass
            memory[:] = bytes(self.nbytes)

        def unpack(self, data, *, borrow=False):
            return len(data)

    waiting = threading.Event()
    with ring.producer() as tx, ring.consumer() as rx:
        tx.codec = rx.codec = Slow()
        slow = threading.Thread(target=tx.send_obj, args=("slow",))
        slow.start()
        started.wait()
        assert not tx.try_send(b"raw") and not tx.try_send_obj("quick") and not tx.try_send_obj("slow")  # they never wait
        child = os.fork()
        if child == 0:  # where that thread is not, and never will be done
            try:
                tx.send(b"child")
            except shmring.WrongProcess:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        threading.Timer(0.05, waiting.set).start()
        tx.send_obj("quick")
        tx.send(b"raw")
        slow.join()
        assert [rx.recv_obj(0) for _ in range(3)] == [100_000, 5, 3]
        with tx.reserve(1), pytest.raises(shmring.ClaimOpen):
            tx.send_obj("slow")


def test_an_object_that_fails_to_write_itself_leaves_no_trace(pair):
    tx, rx = pair

    class Failing:
        name = "failing"
        nbytes = 100

        def pack(self, obj):
            return self

        def write_into(self, memory):
            raise KeyError

        unpack = None

    class Codec(Failing):
        def unpack(self, data, *, borrow=False):
            return bytes(data)

    tx.codec = rx.codec = Codec()
    for call in tx.send_obj, tx.try_send_obj:
        with pytest.raises(KeyError):
            call(1)
    tx.send(b"next")
    assert rx.recv_obj(0) == b"next"


# ---- arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lossy", [False, True])
def test_arrays_arrive_as_copies(ring, lossy):
    with ring.producer() as tx, ring.consumer(lossy=lossy) as rx:
        sent = array_of().reshape(4, -1)[:, ::2]
        for _ in range(2):
            tx.send_array(sent)
        got, out = rx.recv_array(0), np.zeros_like(sent)
        assert rx.recv_array(0, out=out) is out
        with pytest.raises(TimeoutError):
            rx.recv_array(0)
        assert equal(got, sent) and equal(out, sent) and got.flags.writeable and got.base is None


def test_a_peeked_array_lies_in_the_ring(pair):
    tx, rx = pair
    tx.send_array(array_of())
    with rx.peek_array(0) as view:
        assert equal(view.array, array_of()) and not view.array.flags.writeable
        assert view.array.ctypes.data % 16 == 0
        assert np.shares_memory(view, np.frombuffer(view.data, "u1"))
        assert np.asarray(view) is view.array and np.array(view).flags.writeable
        assert np.shares_memory(np.from_dlpack(view), view.array)
    assert rx.stats.pins == [] and rx.try_recv() is None
    with pytest.raises(ValueError, match="released"):
        np.asarray(view)


def test_payloads_are_aligned_to_what_the_ring_aligns():
    with shmring.anonymous("1 MiB", align=64) as ring, ring.producer() as tx, ring.consumer() as rx:
        for length in (1, 7, 1000):
            tx.send(bytes(length))
            tx.send_array(np.zeros(length))
            tx.send_obj([np.zeros(length, "u1"), np.zeros(length)])
            rx.recv(0)
            with rx.peek_array(0) as view:
                assert view.array.ctypes.data % 64 == 0
            with rx.peek_obj(0) as view:
                assert all(each.ctypes.data % 64 == 0 for each in view.obj)


def test_a_message_that_is_no_array_is_received_all_the_same(pair):
    tx, rx = pair
    for receive in rx.recv_array, rx.peek_array:
        tx.send(b"none")
        tx.send_array(array_of(8))
        with pytest.raises(CodecError, match="no array"):
            receive()
        assert rx.recv_array(0).tolist() == [0]
    assert rx.stats.pins == []


# ---- which codec -------------------------------------------------------------------------------------------


def test_the_ring_says_which_codec(unique_name):
    ring = shmring.create(unique_name, 65536, content="codec msgspec")
    with ring, ring.producer() as tx, shmring.open(unique_name) as other, other.consumer() as rx:
        tx.send_obj({"a": 1})
        assert tx.codec is rx.codec is codecs.get("msgspec")
        assert rx.recv_obj(0) == {"a": 1}
        for handle in tx, rx:
            with pytest.raises(CodecError, match="'codec msgspec', not of codec 'pickle'"):
                handle.codec = "pickle"
        for call in (lambda: tx.send_array(array_of(8)), rx.recv_array, rx.peek_array):
            with pytest.raises(CodecError, match="not of codec 'ndarray'"):
                call()
        with pytest.raises(TypeError):
            tx.send_obj(object())


def test_a_ring_of_arrays_takes_them_by_either_name():
    with shmring.anonymous("1 MiB", content="codec ndarray") as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send_obj(array_of(800))
        tx.send_array(array_of(800))
        assert equal(rx.recv_array(0), array_of(800)) and equal(rx.recv_obj(0), array_of(800))


@pytest.mark.parametrize("content", ["codec nobodys", "codec ", "queue pickle", "codec"])
def test_a_ring_of_something_else_is_refused(content):
    with shmring.anonymous(65536, content=content) as ring, ring.producer() as tx, ring.consumer() as rx:
        for call in (lambda: tx.send_obj(1), rx.recv_obj, rx.try_recv_obj, rx.peek_obj, lambda: rx.codec):
            with pytest.raises(CodecError):
                call()
        if content != "codec nobodys":
            tx.codec = rx.codec = "pickle"
            tx.send_obj(1)
            assert rx.recv_obj(0) == 1


@pytest.mark.parametrize(("mode", "kept"), [(0o600, True), (0o660, False), (0o602, False), (0o644, True)])
def test_what_runs_code_is_refused_where_others_may_write(tmp_path, mode, kept):
    path = tmp_path / "ring"
    with shmring.create(path, 65536) as ring, ring.producer() as tx, ring.consumer() as rx:
        os.chmod(path, mode)
        tx.send_obj("x")  # sending runs nobody's code
        if not kept:
            for receive in rx.recv_obj, rx.try_recv_obj, rx.peek_obj, lambda: rx.recv_objs(1):
                with pytest.raises(CodecError, match="trust"):
                    receive()
            rx.codec = "pickle"
        assert rx.recv_obj(0) == "x"
        tx.send_array(array_of(8))
        with ring.consumer(lossy=True, start="latest") as observer:
            tx.send_array(array_of(8))
            assert equal(observer.recv_array(0), array_of(8))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_what_runs_code_is_refused_where_another_user_owns_the_ring(tmp_path):
    path = tmp_path / "ring"
    shmring.create(path, 65536, content="codec pickle").close()
    os.chown(path, 12345, 12345)
    with shmring.open(path, trust=12345) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send_obj(1)
        with pytest.raises(CodecError, match="user 12345"):
            rx.recv_obj()
        rx.codec = "pickle"
        assert rx.recv_obj(0) == 1


@pytest.mark.parametrize("size", [10, 100_000])
def test_ctrl_c_while_unpacking_loses_no_message(pair, size):
    tx, rx = pair

    class Interrupted:
        name = "interrupted"
        times = 0

        def pack(self, obj):
            return obj

        def unpack(self, data, *, borrow=False):
            self.times += 1
            if self.times == 2:
                raise KeyboardInterrupt
            return bytes(data)

    tx.codec = rx.codec = Interrupted()
    sent = [b"%d" % number + bytes(size) for number in range(4)]
    for receive in rx.recv_obj, rx.try_recv_obj, lambda: rx.recv_objs(4, 0):
        rx.codec.times = 0
        tx.send_objs(sent)
        got = []
        while len(got) < len(sent):
            try:
                more = receive()
                got += more if isinstance(more, list) else [more]
            except KeyboardInterrupt:
                pass
        assert got == sent and rx.try_recv() is None


@pytest.mark.parametrize("members", [1, 2])
def test_large_objects_are_unpacked_where_they_lie(ring, members, monkeypatch):
    """Whoever shares the group, and whether they were waited for or not; small ones are not."""
    seen = []

    class Looking:
        name = "looking"

        def pack(self, obj):
            return obj

        def unpack(self, data, *, borrow=False):
            seen.append(type(data))
            return bytes(data)

    with ring.producer() as tx, ring.consumer() as rx, ring.consumer("default" if members == 2 else "other"):
        tx.codec = rx.codec = Looking()
        for size, kind in (100, bytes), (100_000, memoryview):
            for receive in rx.recv_obj, rx.try_recv_obj:
                tx.send(bytes(size))
                assert receive() == bytes(size)
            later = threading.Timer(0.02, tx.send, (bytes(size),))
            later.start()
            assert rx.recv_obj() == bytes(size)
            later.join()
            assert seen == [kind] * 3
            seen.clear()
        assert rx.try_recv_obj() is None and rx.stats.pins == []
