"""`recv_array(out=)` with an `out` that does not fit: the caller is told, and the message comes again."""

from __future__ import annotations

import signal
import threading

import pytest

import shmring

np = pytest.importorskip("numpy", reason="arrays need NumPy")

NUMBERS = np.arange(6.0).reshape(2, 3)
WRONG = {
    "shape": np.zeros((3, 2)), "dtype": np.zeros((2, 3), "f4"), "order of bytes": np.zeros((2, 3), ">f8"), "size": np.zeros(0),
}  # fmt: skip


@pytest.fixture(params=["single", "multi"])
def ring(request):
    with shmring.anonymous("64 KiB", content="codec ndarray", producers=request.param) as made:
        yield made


@pytest.fixture(params=["alone", "with others", "observer", "readonly"])
def pair(request, ring, named):
    """A producer and a receiver, which may have company in its group, or be none of it."""
    if request.param == "readonly":
        with (
            named.create("64 KiB", content="codec ndarray") as made, made.producer() as tx,
            shmring.open(named.name, readonly=True) as seen, seen.consumer(lossy=True) as rx,
        ):  # fmt: skip
            yield tx, rx
        return
    with ring.producer() as tx, ring.consumer(lossy=request.param == "observer") as rx:
        others = [ring.consumer() for _ in range(2)] if request.param == "with others" else []
        yield tx, rx
        for each in others:
            each.close()


@pytest.mark.parametrize("out", WRONG.values(), ids=WRONG)
def test_a_message_that_out_does_not_fit_is_the_next_one_again(pair, out):
    """It was lost."""
    tx, rx = pair
    for number in range(3):
        tx.send_array(NUMBERS + number)
    assert np.array_equal(rx.recv_array(0), NUMBERS)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"float64 array of shape \(2, 3\), out one of"):
            rx.recv_array(0, out=out)
    fits = np.zeros((2, 3))
    assert rx.recv_array(0, out=fits) is fits and np.array_equal(fits, NUMBERS + 1)
    assert np.array_equal(rx.recv_array(0), NUMBERS + 2)
    assert rx.try_recv() is None


@pytest.mark.parametrize("call", ["recv", "recv_many", "recv_into", "peek", "recv_obj", "peek_array", "for"])
def test_any_call_gets_it(pair, call):
    tx, rx = pair
    if call == "peek_array" and isinstance(rx, shmring.Observer):
        pytest.skip("observers lend no arrays")
    tx.send_array(NUMBERS)
    with pytest.raises(ValueError, match="out one of"):
        rx.recv_array(0, out=np.zeros(1))
    if call == "recv_obj":
        got = rx.recv_obj(0)
    elif call == "peek_array":
        with rx.peek_array(0) as view:
            got = view.array.copy()
    else:
        if call == "peek":
            with rx.peek(0) as view:
                message = bytes(view.data)
        else:
            memory = bytearray(4096)
            message = {
                "recv": lambda: rx.recv(0), "recv_many": lambda: rx.recv_many(9, 0)[0], "for": lambda: next(rx),
                "recv_into": lambda: memory[: rx.recv_into(memory, 0)],
            }[call]()  # fmt: skip
        got = shmring.codecs.get("ndarray").unpack(message)
    assert np.array_equal(got, NUMBERS) and rx.try_recv() is None


@pytest.mark.parametrize("out", [[0.0] * 6, bytearray(48), 7, NUMBERS.tolist()], ids=["list", "bytearray", "int", "lists"])
def test_what_is_no_array_is_refused_before_a_message_is_taken(pair, out):
    tx, rx = pair
    tx.send_array(NUMBERS)
    with pytest.raises(TypeError, match=type(out).__name__):
        rx.recv_array(0, out=out)
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="cannot be written"):
        rx.recv_array(0, out=frozen)
    with rx.peek(0) as view:
        assert not view.redelivered


def test_others_go_on_with_what_lies_behind_it_and_get_it_when_its_member_leaves(ring):
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer() as other:
        tx.send_array(NUMBERS)
        tx.send_array(NUMBERS + 1)
        with pytest.raises(ValueError, match="out one of"):
            rx.recv_array(0, out=np.zeros(1))
        assert np.array_equal(other.recv_array(0), NUMBERS + 1)
        assert other.try_recv() is None
        rx.close()
        with other.peek_array() as view:
            assert np.array_equal(view.array, NUMBERS) and view.redelivered


def test_it_is_neither_counted_twice_nor_pinned_by_the_error(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_array(NUMBERS)
        nbytes = ring.stats().used - 16
        with pytest.raises(ValueError, match="out one of") as caught:
            rx.recv_array(0, out=np.zeros(1))
        assert rx.stats.pins == [] and caught.tb is not None
        assert ring.stats().used - 16 == nbytes
        assert np.array_equal(rx.recv_array(0), NUMBERS)
        (me,) = [each for each in ring.stats().participants if each.role == "consumer"]
        assert me.messages == 1 and ring.stats().used == 0


def test_views_before_and_behind_it_keep_their_records_and_their_order(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        for number in range(4):
            tx.send_array(NUMBERS + number)
        first = rx.peek_array(0)
        with pytest.raises(ValueError, match="out one of"):
            rx.recv_array(0, out=np.zeros(1))
        second, third = rx.peek_array(0), rx.peek_array(0)
        first.release()
        with pytest.raises(ValueError, match="out one of"):
            rx.recv_array(0, out=np.zeros(1))
        assert [np.array_equal(view.array, NUMBERS + n) for n, view in ((1, second), (2, third))] == [True, True]
        third.release()
        second.release()
        assert np.array_equal(rx.recv_array(0), NUMBERS + 3)
        assert ring.stats().used == 0


def test_producers_go_on_once_it_was_taken_at_last(ring):
    """A range that is held for ever would stop them after a lap."""
    with ring.producer() as tx, ring.consumer() as rx:
        for number in range(2000):
            tx.send_array(NUMBERS + number, timeout=0)
            if number % 3 == 0:
                with pytest.raises(ValueError, match="out one of"):
                    rx.recv_array(0, out=np.zeros(1))
            assert rx.recv_array(0)[0, 0] == number


def test_a_message_that_is_no_array_is_received_all_the_same():
    """It would come again for ever."""
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"no array")
        tx.send_array(NUMBERS)
        with pytest.raises(shmring.CodecError):
            rx.recv_array(0, out=np.zeros((2, 3)))
        assert np.array_equal(rx.recv_array(0), NUMBERS)


@pytest.mark.parametrize("call", ["recv_array", "recv_array out", "peek_array", "peek_obj"])
def test_ctrl_c_in_the_middle_of_it_loses_no_message(ring, call, monkeypatch):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_array(NUMBERS)
        codec = shmring.codecs.get("ndarray")
        unpack = type(codec).unpack

        def interrupted(self, *args, **options):
            made = unpack(self, *args, **options)
            signal.raise_signal(signal.SIGINT)
            return made

        assert rx.codec is codec
        with monkeypatch.context() as patch:
            patch.setattr(type(codec), "unpack", interrupted)
            with pytest.raises(KeyboardInterrupt):
                {
                    "recv_array": lambda: rx.recv_array(0), "recv_array out": lambda: rx.recv_array(0, out=np.zeros((2, 3))),
                    "peek_array": lambda: rx.peek_array(0), "peek_obj": lambda: rx.peek_obj(0),
                }[call]()  # fmt: skip
        assert np.array_equal(rx.recv_array(0), NUMBERS) and rx.try_recv() is None


def test_a_thread_that_waits_with_the_same_handle_gets_it(ring, monkeypatch):
    """It sleeps for an hour, and the message had woken the other one."""
    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    with ring.producer() as tx, ring.consumer(wait=patient) as rx:
        got = []
        thread = threading.Thread(target=lambda: got.append(rx.recv_array()))

        from shmring import objects

        check = objects.array_into

        def slowly(array, out):
            thread.start()
            while not any(each.parked for each in ring.stats().participants):
                pass
            return check(array, out)

        monkeypatch.setattr(objects, "array_into", slowly)
        tx.send_array(NUMBERS)
        with pytest.raises(ValueError, match="out one of"):
            rx.recv_array(0, out=np.zeros(1))
        thread.join()
        assert np.array_equal(got[0], NUMBERS)


def test_what_another_thread_has_taken_behind_it_does_not_come_twice(ring, monkeypatch):
    """Then the message itself is let go: which of two faults of the caller is the smaller one."""
    from shmring import objects

    with ring.producer() as tx, ring.consumer() as rx:
        check = objects.array_into
        later = []

        def meanwhile(array, out):
            later.append(rx.peek(0))
            return check(array, out)

        monkeypatch.setattr(objects, "array_into", meanwhile)
        tx.send_array(NUMBERS)
        tx.send_array(NUMBERS + 1)
        with pytest.raises(ValueError, match="out one of"):
            rx.recv_array(0, out=np.zeros(1))
        assert rx.try_recv() is None
        assert not later[0].redelivered
        later[0].release()
        assert ring.stats().used == 0
