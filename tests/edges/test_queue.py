"""shmring's queues beyond what CPython's own tests ask of them (those: test_queue_as_cpython.py)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import queue
import threading
from multiprocessing import reduction, resource_sharer

import pytest

import shmring
from shmring import queue_ends

KINDS = (shmring.SimpleQueue, shmring.Queue, shmring.JoinableQueue)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def take(q, count):
    return [q.get() for _ in range(count)]


class Refusing:
    def __reduce__(self):
        return int, ("no number",)


# ---- objects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obj", [None, 0, "text", b"", {"a": [1, 2.5]}, b"x" * 1_000_000])
def test_objects_arrive_equal(kind, obj):
    with kind() as q:
        q.put(obj)
        assert q.get() == obj and q.empty()


def test_an_object_is_what_it_was_when_put_returned(kind):
    with kind() as q:
        obj = [1]
        q.put(obj)
        obj.append(2)
        assert q.get() == [1]


def test_what_cannot_be_pickled_raises_in_put_and_leaves_the_queue_as_it_was():
    with shmring.Queue(1) as q:
        with pytest.raises((AttributeError, pickle.PicklingError)):
            q.put(lambda: None)
        with pytest.raises((AttributeError, pickle.PicklingError)):
            q.put_many([1, lambda: None])
        assert q.empty()
        q.put(2)
        assert q.get() == 2


def test_what_belongs_to_a_process_is_put_as_multiprocessing_does():
    """A connection's pickle without its reductions is a number that means something else in another process."""
    here, there = multiprocessing.Pipe()
    with shmring.Queue() as q:
        q.put(there)
        q.put_many([1, there])
        there.close()
        others = take(q, 3)
        for other in others[0], others[2]:
            other.send("hello")
            assert here.recv() == "hello"
            other.close()
    here.close()
    resource_sharer.stop()


class Nested:
    """Puts another object while it is pickled itself."""

    def __init__(self, q):
        self.q = q

    def __reduce__(self):
        self.q.put("inner")
        return str, ("outer",)


def test_pickling_an_object_may_put_another_one():
    with shmring.Queue() as q:
        q.put([Nested(q), "x" * 100_000, "end"])
        assert take(q, 2) == ["inner", ["outer", "x" * 100_000, "end"]]


def test_a_reduction_that_is_registered_later_is_used():
    class Late:
        pass

    with shmring.Queue() as q:
        q.put(1)
        reduction.register(Late, lambda late: (str, ("late",)))
        try:
            q.put(Late())
        finally:
            del reduction.ForkingPickler._extra_reducers[Late]
        assert take(q, 2) == [1, "late"]


def test_an_object_larger_than_the_ring_is_refused(kind):
    with kind(capacity="4 KiB") as q:
        with pytest.raises(shmring.MessageTooLarge, match="4096"):
            q.put(bytes(5000))
        q.put(1)
        assert q.get() == 1


@pytest.mark.parametrize("kind", [shmring.Queue, shmring.JoinableQueue])
def test_an_object_that_cannot_be_unpickled_does_not_cost_the_others(kind):
    with kind() as q:
        q.put_many([1, Refusing(), 2])
        with pytest.raises(ValueError, match="no number") as caught:
            q.get_many(9)
        assert caught.value.objects == [1, 2] and q.qsize() == 0
        if kind is shmring.JoinableQueue:
            for _ in range(3):
                q.task_done()
            q.join(10)


def test_many_objects_keep_their_order():
    with shmring.Queue() as q:
        q.put_many(range(10))
        q.put_many([])
        q.put(10)
        assert q.get_many(4) == [0, 1, 2, 3]
        assert q.get_many(100) == [4, 5, 6, 7, 8, 9, 10]
        with pytest.raises(queue.Empty):
            q.get_many(1, False)
        with pytest.raises(queue.Empty):
            q.get_many(1, timeout=0.01)
        with pytest.raises(ValueError, match="limit"):
            q.get_many(0)


@pytest.mark.parametrize("kind", [shmring.Queue, shmring.JoinableQueue], ids=lambda kind: kind.__name__)
def test_full_says_how_many_of_many_were_put(kind):
    with kind(3) as q:
        q.put(0)
        for options in {"block": False}, {"timeout": 0.01}:
            with pytest.raises(queue.Full) as caught:
                q.put_many([1, 2, 3], **options)
            assert caught.value.put == 3 - 1
            assert q.full() and q.qsize() == 3 and take(q, 3) == [0, 1, 2]
            q.put(0)
        assert q.get() == 0


def test_a_negative_timeout_is_none_at_all(kind):
    if kind is shmring.SimpleQueue:
        pytest.skip("has no timeout")
    with kind(1) as q:
        with pytest.raises(queue.Empty):
            q.get(timeout=-1)
        q.put(1, timeout=-1)
        with pytest.raises(queue.Full):
            q.put(2, timeout=-1)


# ---- no room -----------------------------------------------------------------------------------------------------------


def test_put_without_maxsize_never_waits_and_keeps_the_order():
    with shmring.Queue(capacity="4 KiB") as q:
        for number in range(1000):
            q.put(number, False)
        q.put_many(range(1000, 2000), False)
        assert q.qsize() in (2000, 2001) and not q.full()  # one is counted twice while it is on its way
        assert take(q, 2000) == list(range(2000))
        q.put("after")
        assert q.get() == "after" and q.empty()


def test_threads_that_find_no_room_keep_their_own_order():
    with shmring.Queue(capacity="4 KiB") as q:
        threads = [threading.Thread(target=lambda me=me: [q.put((me, n)) for n in range(500)]) for me in range(4)]
        for thread in threads:
            thread.start()
        got = take(q, 2000)
        for thread in threads:
            thread.join()
        assert all([n for who, n in got if who == me] == list(range(500)) for me in range(4))


def test_a_bounded_queue_is_full_as_well_when_its_bytes_are():
    with shmring.Queue(100, capacity="4 KiB") as q:
        with pytest.raises(queue.Full):
            for _ in range(100):
                q.put(bytes(1000), False)
        assert not q.full()


def fill_and_leave(q, cancel):
    for number in range(1000):
        q.put(number)
    if cancel:
        q.cancel_join_thread()


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_process_ends_when_what_it_put_is_in_the_ring(method):
    with shmring.Queue(capacity="4 KiB") as q:
        child = multiprocessing.get_context(method).Process(target=fill_and_leave, args=(q, False), daemon=True)
        child.start()
        assert take(q, 1000) == list(range(1000))
        child.join()
        assert child.exitcode == 0
        child.close()


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_cancel_join_thread_lets_a_process_end_without(method):
    with shmring.Queue(capacity="4 KiB") as q:
        child = multiprocessing.get_context(method).Process(target=fill_and_leave, args=(q, True), daemon=True)
        child.start()
        child.join()
        assert child.exitcode == 0 and 0 < q.qsize() < 1000
        child.close()


def test_the_main_program_ends_when_what_it_put_is_in_the_ring(peer, unique_name):
    with shmring.Queue(name=unique_name, capacity="4 KiB") as q:
        program = peer("q = shmring.Queue.open(sys.argv[1]); q.put_many(range(1000)); say('put')", unique_name)
        program.expect("put")
        assert take(q, 1000) == list(range(1000))
        program.finish()
        q.unlink()


def test_a_forked_child_leaves_its_parents_overflow_to_the_parent():
    with shmring.Queue(capacity="4 KiB") as q:
        q.put_many(range(1000))
        child = multiprocessing.get_context("fork").Process(target=q.put, args=("child",), daemon=True)
        child.start()
        got = take(q, 1001)
        child.join()
        assert [each for each in got if each != "child"] == list(range(1000))


# ---- names -------------------------------------------------------------------------------------------------------------


def test_an_unrelated_program_opens_a_queue_by_name(kind, peer, unique_name):
    with kind(name=unique_name) as q:
        done = "q.task_done()" if kind is shmring.JoinableQueue else ""  # else it goes back with the end of the program
        program = peer(f"q = shmring.{kind.__name__}.open(sys.argv[1]); q.put(q.get() + 1); say('put'); {done}", unique_name)
        q.put(1)
        program.expect("put")
        assert q.get() == 2
        program.finish()
        q.unlink()
        with pytest.raises(shmring.RingNotFound):
            kind.open(unique_name)


def test_a_name_is_taken_once_and_exist_ok_opens_the_same(unique_name):
    with shmring.Queue(5, name=unique_name) as q:
        with pytest.raises(shmring.RingExists):
            shmring.Queue(5, name=unique_name)
        with shmring.Queue(5, name=unique_name, exist_ok=True) as same:
            q.put(1)
            assert same.get() == 1 and same.maxsize == 5
        for other in {"maxsize": 6}, {"maxsize": 5, "capacity": "4 KiB"}:
            with pytest.raises(shmring.RingExists):
                shmring.Queue(**other, name=unique_name, exist_ok=True)
        with shmring.Queue.open(unique_name) as opened:
            assert opened.maxsize == 5 and unique_name in repr(opened)
        q.unlink()


def test_what_is_no_such_queue_is_not_opened_as_one(unique_name):
    with shmring.Queue(name=unique_name) as q, shmring.create(f"{unique_name}-ring", "4 KiB"):
        for name in unique_name, f"{unique_name}-ring":
            with pytest.raises(shmring.LayoutMismatch, match=r"no shmring\.JoinableQueue"):
                shmring.JoinableQueue.open(name)
        q.unlink()
        shmring.unlink(f"{unique_name}-ring")


def test_a_named_queue_pickles_anywhere_and_an_anonymous_one_to_children_only(unique_name):
    with shmring.Queue(name=unique_name) as q, shmring.Queue() as nameless:
        q.put(1)
        with pickle.loads(pickle.dumps(q)) as other:
            assert other.get() == 1
        with pytest.raises(RuntimeError, match="inheritance"):
            pickle.dumps(nameless)
        with pytest.raises(ValueError, match="no name"):
            nameless.unlink()
        with pytest.raises(TypeError, match="mode"):
            shmring.Queue(mode=0o666)
        q.unlink()


# ---- the end -----------------------------------------------------------------------------------------------------------


def test_a_closed_queue_says_so(kind):
    q = kind()
    q.put(1)
    q.close()
    q.close()
    for call in q.get, lambda: q.put(1), q.__enter__:
        with pytest.raises(OSError if kind is shmring.SimpleQueue else ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        q.empty()


def test_closing_ends_the_waits_of_other_threads(kind):
    q = kind()
    ended = []

    def wait():
        with pytest.raises(ValueError, match="closed"):
            q.get()
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    while not q.ring.stats().participants or not q.ring.stats().participants[0].parks:
        pass
    q.close()
    thread.join()
    assert ended


def test_nothing_is_left_of_a_queue_that_was_dropped(kind):
    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for closes in True, False:
        q = kind()
        q.put(1)
        q.get()
        if closes:
            q.close()
        del q
        gc.collect(0)
        assert descriptors() == before


def test_more_users_than_a_queue_has_room_for_are_told(monkeypatch):
    monkeypatch.setattr(queue_ends, "MAX_PARTICIPANTS", 4)  # not 1024: each of them looks whether the others live
    with shmring.Queue() as q:
        others = [q.ring.consumer() for _ in range(4)]
        with pytest.raises(shmring.TooManyParticipants, match="4 participants"):
            q.put(1)
        others.pop().close()
        q.put(1)
        for each in others:
            each.close()


def test_a_queue_that_could_not_be_made_is_dropped_silently(kind, unique_name, capsys):
    """A JoinableQueue used to print an AttributeError of its finalizer."""
    with kind(name=unique_name, capacity=4096) as made:
        with pytest.raises(shmring.RingExists):
            kind(name=unique_name, capacity=4096)
        gc.collect()
        made.unlink()
    assert capsys.readouterr().err == ""
