"""Large arrays through the queues: each goes from its own memory into the ring, and from there into memory of its own."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import queue
import threading
import tracemalloc

import pytest

np = pytest.importorskip("numpy", reason="arrays need NumPy (the extra shmring[numpy])")

import shmring  # noqa: E402
from shmring import queue_pickle  # noqa: E402

KINDS = (shmring.SimpleQueue, shmring.Queue, shmring.JoinableQueue)
LARGE = 100_000  # bytes; not a multiple of 64
BEYOND = 16384  # from here on a buffer is large, and so is a message


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def array_of(nbytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


def take(q, count):
    return [q.get() for _ in range(count)]


def peak_of(call):
    """The most bytes that were allocated on top of what was before, while it ran."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SHAPES = {
    "C": lambda: np.arange(30_000.0).reshape(300, 100),
    "Fortran": lambda: np.asfortranarray(np.arange(30_000.0).reshape(300, 100)),
    "strided": lambda: np.arange(60_000.0).reshape(300, 200)[::2, ::-2],
    "reversed": lambda: np.arange(30_000.0)[::-1],
    "empty": lambda: np.empty((0, 3)),
    "scalar": lambda: np.array(1.5),
    "structured": lambda: np.ones(9_000, [("a", "<i4"), ("b", "f8")]),
    "dates": lambda: np.arange("2000-01-01", "2030-01-01", dtype="M8[D]"),
    "objects": lambda: np.array([{"n": n} for n in range(10_000)], object),
    "big-endian": lambda: np.arange(30_000, dtype=">u4"),
    "subclass": lambda: np.arange(30_000.0).view(np.matrix),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_arrive_as_they_were_and_may_be_written_to(kind, shape):
    sent = SHAPES[shape]()
    with kind() as q:
        q.put(sent)
        got = q.get()
        assert type(got) is type(sent) and got.dtype == sent.dtype and got.shape == sent.shape
        assert (got == sent).all() and got.flags.writeable
        assert got.flags.f_contiguous == sent.flags.f_contiguous or shape in ("strided", "reversed")
        got[...] = got[..., :1] if got.ndim else 0


@pytest.mark.parametrize("nbytes", [0, 1, BEYOND - 1, BEYOND, BEYOND + 1, 1_000_000])
def test_every_size_arrives(kind, nbytes):
    with kind() as q:
        q.put(array_of(nbytes))
        q.put("behind")
        assert (q.get() == array_of(nbytes)).all() and q.get() == "behind"


def test_a_read_only_array_stays_read_only(kind):
    sent = array_of(LARGE)
    sent.flags.writeable = False
    with kind() as q:
        q.put(sent)
        got = q.get()
        assert (got == sent).all() and not got.flags.writeable


@pytest.mark.parametrize("nbytes", [10, LARGE])
def test_other_buffers_arrive_as_the_types_that_pickle_makes_of_them(kind, nbytes):
    content = array_of(nbytes).tobytes()
    for sent in content, bytearray(content), pickle.PickleBuffer(content), pickle.PickleBuffer(bytearray(content)):
        with kind() as q:
            q.put(sent)
            got, expected = q.get(), pickle.loads(pickle.dumps(sent, 5))
            assert type(got) is type(expected) and got == expected == content


def test_a_buffer_that_is_not_in_one_piece_raises_in_put(kind):
    with kind() as q:
        with pytest.raises(pickle.PicklingError, match="contiguous"):
            q.put(pickle.PickleBuffer(memoryview(bytes(LARGE))[::2]))
        q.put(1)
        assert q.get() == 1


class Holder(bytearray):
    """The recipe of Python's documentation for objects with buffers, which asks for the object behind the memory."""

    def __reduce_ex__(self, protocol):
        return type(self)._reconstruct, (pickle.PickleBuffer(self),), None

    @classmethod
    def _reconstruct(cls, obj):
        with memoryview(obj) as m:
            obj = m.obj
            return obj if type(obj) is cls else cls(obj)


def test_each_buffer_comes_back_as_an_object_of_its_own(kind):
    sent = [Holder(array_of(LARGE, seed).tobytes()) for seed in range(3)]
    with kind() as q:
        q.put(sent)
        got = q.get()
        assert got == sent and all(type(each) is Holder for each in got)


def test_objects_keep_their_arrays_and_what_is_the_same_stays_the_same(kind):
    large, small = array_of(LARGE), array_of(10)
    with kind() as q:
        q.put({"a": large, "b": [small, large], "view": large[10:], "n": 1})
        got = q.get()
        assert got["a"] is got["b"][1] and (got["a"] == large).all() and got["n"] == 1
        assert (got["b"][0] == small).all() and (got["view"] == large[10:]).all()
        got["a"][:] = 0
        assert (got["view"] == large[10:]).all(), "received arrays have memory of their own"


def test_what_get_returned_is_not_in_the_ring(kind):
    with kind(capacity="256 KiB") as q:
        q.put(array_of(LARGE))
        got = q.get()
        if kind is shmring.JoinableQueue:
            q.task_done()
        for seed in range(1, 10):
            q.put(array_of(LARGE, seed))
            assert (q.get() == array_of(LARGE, seed)).all()
            if kind is shmring.JoinableQueue:
                q.task_done()
        assert (got == array_of(LARGE)).all()
    assert (got == array_of(LARGE)).all()


# ---- put as they are when put returns, and once ---------------------------------------------------------------------------


def test_an_array_is_what_it_was_when_put_returned(kind):
    with kind() as q:
        sent = array_of(LARGE)
        q.put(sent)
        sent[:] = 0
        assert (q.get() == array_of(LARGE)).all()


def test_what_the_ring_has_no_room_for_is_what_it_was_when_put_returned():
    with shmring.Queue(capacity="256 KiB") as q:
        sent = np.empty(LARGE, np.uint8)
        for number in range(20):
            sent[:] = number
            q.put({"number": number, "array": sent})
        sent[:] = 100
        q.put_many([sent, sent])
        sent[:] = 0
        for number in range(20):
            got = q.get()
            assert got["number"] == number and (got["array"] == number).all()
        assert all((each == 100).all() for each in take(q, 2))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_put_copies_an_array_into_the_ring_only_and_get_into_one_of_its_own_only(kind):
    sent, nbytes = [array_of(4_000_000), {"a": array_of(3_000_000)}], 7_000_000
    with kind() as q:
        for _ in range(2):  # the first time loads modules
            into = peak_of(lambda: q.put(sent))
            out_of = peak_of(q.get)
        assert into < 100_000
        assert nbytes <= out_of < nbytes + 100_000


@pytest.mark.parametrize("kind", [shmring.Queue, shmring.JoinableQueue], ids=lambda kind: kind.__name__)
def test_put_many_and_get_many_copy_as_often(kind):
    sent, nbytes = [1, array_of(1_000_000), "small", array_of(2_000_000), array_of(1_000_000), 2], 4_000_000
    with kind() as q:
        for _ in range(2):
            into = peak_of(lambda: q.put_many(sent))
            got = []
            out_of = peak_of(lambda got=got: got.extend(q.get_many(6)))
        assert into < 100_000
        assert nbytes <= out_of < nbytes + 100_000 and len(got) == 6


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("kind", [shmring.Queue, shmring.JoinableQueue], ids=lambda kind: kind.__name__)
def test_small_and_large_objects_keep_their_order(kind, members):
    sizes = [10, LARGE, 0, 1, BEYOND, LARGE, 3, BEYOND - 1, BEYOND + 1, 5] * 5
    with kind() as q:
        others = [q.ring.consumer() for _ in range(members - 1)]
        q.put_many([array_of(size, number) for number, size in enumerate(sizes)])
        for size in sizes:
            q.put(array_of(size, size))
        got = []
        while len(got) < 2 * len(sizes):
            got += q.get_many(7)
        assert all((got[n] == array_of(size, n)).all() for n, size in enumerate(sizes))
        assert all((got[len(sizes) + n] == array_of(size, size)).all() for n, size in enumerate(sizes))
        for each in others:
            each.close()


def test_an_object_that_is_pickled_once_is_counted_once():
    """Pickling may have effects: each object of a batch is pickled once, whatever is beside it."""
    counter = []

    class Counted:
        def __reduce__(self):
            counter.append(self)
            return str, ("counted",)

    with shmring.Queue() as q:
        q.put_many([Counted(), array_of(LARGE), Counted(), "x" * 200_000])
        assert len(counter) == 2 and len(q.get_many(4)) == 4


# ---- bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [shmring.Queue, shmring.JoinableQueue], ids=lambda kind: kind.__name__)
def test_maxsize_counts_large_objects_too(kind):
    with kind(3) as q:
        q.put(1)
        q.put(array_of(LARGE))
        with pytest.raises(queue.Full) as caught:
            q.put_many([array_of(LARGE), array_of(LARGE)], timeout=0.01)
        assert caught.value.put == 1 and q.full() and q.qsize() == 3
        for options in {"block": False}, {"timeout": 0.01}:
            with pytest.raises(queue.Full):
                q.put(array_of(LARGE), **options)
        assert q.get() == 1
        q.put(array_of(LARGE), False)
        with pytest.raises(queue.Full):
            q.put(2, False)
        assert q.qsize() == 3
        assert all((each == array_of(LARGE)).all() for each in take(q, 3)) and q.qsize() == 0


@pytest.mark.parametrize("many", [False, True])
def test_each_large_object_that_is_taken_makes_room_for_one(many):
    """Also while others wait, when the number of those that were taken is all that tells."""
    with shmring.Queue(2) as q:
        for seed in range(10):
            q.put(array_of(LARGE, seed), False)
            if seed:
                with pytest.raises(queue.Full):
                    q.put(0, False)
                got = q.get_many(1)[0] if many else q.get()
                assert (got == array_of(LARGE, seed - 1)).all()


def test_who_waits_with_a_large_object_gets_its_turn():
    with shmring.Queue(1) as q:
        q.put(array_of(LARGE))
        waiting = threading.Thread(target=lambda: [q.put(array_of(LARGE, 1)), q.put(2)])
        waiting.start()
        got = take(q, 3)
        waiting.join()
        assert (got[1] == array_of(LARGE, 1)).all() and got[2] == 2


@pytest.mark.parametrize("bound", [0, 2])
def test_an_array_larger_than_the_ring_is_refused(kind, bound):
    bounds = () if kind is shmring.SimpleQueue else (bound,)
    with kind(*bounds, capacity="64 KiB") as q:
        with pytest.raises(shmring.MessageTooLarge, match="65536"):
            q.put(array_of(LARGE))
        if kind is not shmring.SimpleQueue:
            with pytest.raises(shmring.MessageTooLarge):
                q.put_many([1, array_of(LARGE)])
        else:
            q.put(1)
        largest = array_of(60_000)
        assert q.get() == 1
        if kind is shmring.JoinableQueue:
            q.task_done()
        q.put(largest)
        assert (q.get() == largest).all()


# ---- others ----------------------------------------------------------------------------------------------------------------


def echo(jobs, results):
    for job in iter(jobs.get, None):
        job["array"] += 1
        results.put(job)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_arrays_go_to_children_and_back(method):
    with shmring.Queue(capacity="1 MiB") as jobs, shmring.Queue(5) as results:
        child = multiprocessing.get_context(method).Process(target=echo, args=(jobs, results), daemon=True)
        child.start()
        for number in range(20):
            jobs.put({"number": number, "array": np.full(LARGE, number, np.uint8)})
        jobs.put(None)
        for number in range(20):
            got = results.get()
            assert got["number"] == number and (got["array"] == number + 1).all()
        child.join()
        assert child.exitcode == 0
        child.close()


def test_threads_share_a_queue_of_large_objects(kind):
    """More of them than a member can hold records apart, and small objects in between."""
    with kind() as q:

        def put(me):
            for number in range(20):
                q.put((me, number, array_of(LARGE, me)))
                q.put((me, number, None))

        def get():
            for _ in range(40):
                me, number, array = q.get()
                assert array is None or (array == array_of(LARGE, me)).all()
                if kind is shmring.JoinableQueue:
                    q.task_done()
                got.append((me, number, array is None))

        got = []
        threads = [threading.Thread(target=put, args=(me,)) for me in range(20)]
        threads += [threading.Thread(target=get) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted((me, n, what) for me in range(20) for n in range(20) for what in (False, True))


def test_a_task_with_an_array_stays_until_it_is_done():
    with shmring.JoinableQueue() as q:
        q.put(array_of(LARGE))
        with q.ring.consumer(), pytest.raises(TimeoutError):
            q.get()
            q.join(0)
        q.task_done()
        q.join(0)


# ---- damage ----------------------------------------------------------------------------------------------------------------


def damaged(change):
    message = bytearray(queue_pickle.snapshot(queue_pickle.pack(array_of(LARGE))))
    change(message)
    return bytes(message)


def set_count(message):
    message[4:8] = (1 << 31).to_bytes(4, "little")


def set_pickle_bytes(message):
    message[8:16] = (1 << 63).to_bytes(8, "little")


def set_buffer_bytes(message):
    message[16:24] = (1 << 40).to_bytes(8, "little")


def set_mark(message):
    message[0] = 0x7F


@pytest.mark.parametrize("change", [set_count, set_pickle_bytes, set_buffer_bytes, set_mark])
@pytest.mark.parametrize("many", [False, True])
def test_a_damaged_message_is_an_error_and_those_behind_it_arrive(kind, many, change):
    with kind() as q:
        q.put(1)
        q._send(damaged(change))
        q.put(2)
        if many and kind is not shmring.SimpleQueue:
            with pytest.raises(shmring.CodecError, match=r"no pickle|buffer|a pickle of") as caught:
                while True:
                    q.get_many(9)
            assert caught.value.objects[-1] == 2
        else:
            assert q.get() == 1
            with pytest.raises(shmring.CodecError, match=r"no pickle|buffer|a pickle of"):
                q.get()
            assert q.get() == 2


def test_a_small_message_that_is_no_pickle_is_an_error(kind):
    with kind() as q:
        for message in b"", b"\x01", b"\x01pk5", b"hello, world, this is no pickle":
            q._send(message) if q._tx else q._produce() or q._send(message)
            with pytest.raises(shmring.CodecError, match="no pickle"):
                q.get()
        q.put(1)
        assert q.get() == 1


class Unlucky:
    def __reduce__(self):
        return io.open, ("/nowhere/to/be/found", "r", -1)


def test_an_object_that_cannot_be_made_does_not_cost_the_others_of_its_batch():
    with shmring.Queue() as q:
        q.put_many([array_of(LARGE), [Unlucky(), array_of(LARGE)], array_of(LARGE, 1)])
        with pytest.raises(FileNotFoundError) as caught:
            while True:
                q.get_many(9)
        assert (caught.value.objects[-1] == array_of(LARGE, 1)).all()
