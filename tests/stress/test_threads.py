"""What docs/threads.md says of each handle: several threads on one, switched as often as the interpreter can."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import shmring
from shmring import WaitPolicy

THREADS, EACH = 4, 600
SLEEPY = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=5)


@pytest.fixture(autouse=True)
def many_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=["single", "multi"])
def ring(request):
    with shmring.anonymous(8192, producers=request.param) as ring:
        yield ring


def together(*works):
    """Run each in a thread; the first error of any is raised."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def name_of(thread, number):
    return b"%d:%d" % (thread, number)


def sending(tx, thread):
    """Every way to send, in turn; a claim of another thread's is in the way now and then."""

    def send(way, message):
        if way == 0:
            tx.send(message)
        elif way == 1:
            assert tx.send_many([message]) == 1
        elif way == 2:
            tx.try_send(message) or tx.send(message)
        else:
            claim(tx, message)

    def work():
        for number in range(EACH):
            while True:
                try:
                    send(number % 4, name_of(thread, number))
                    break
                except shmring.ClaimOpen:
                    pass

    return work


def claim(tx, message):
    with tx.reserve(len(message)) as room:
        room.view[:] = message


def receiving(rx, got, stop):
    """Every way to receive, in turn, until `stop` messages are there."""

    def work():
        buffer, step = bytearray(100), 0
        while len(got) < stop:
            step += 1
            try:
                if step % 5 == 0:
                    got.append(rx.recv(0.01))
                elif step % 5 == 1:
                    got.extend(rx.recv_many(7, 0.01))
                elif step % 5 == 2:
                    # Another thread may use its own buffer at the same time; one buffer belongs to one thread.
                    length = rx.recv_into(buffer, 0.01)
                    got.append(bytes(buffer[:length]))
                elif step % 5 == 3:
                    with rx.peek(0.01) as view:
                        got.append(bytes(view.data))
                elif (message := rx.try_recv()) is not None:
                    got.append(message)
            except TimeoutError:
                pass

    return work


def everything():
    return Counter(name_of(thread, number) for thread in range(THREADS) for number in range(EACH))


def test_threads_share_a_producer_and_a_consumer(ring):
    """Each message arrives once, whoever sends and whoever receives it."""
    got = []
    with ring.producer(wait=SLEEPY) as tx, ring.consumer(wait=SLEEPY) as rx:
        together(
            *(sending(tx, thread) for thread in range(THREADS)),
            *(receiving(rx, got, THREADS * EACH) for _ in range(THREADS)),
        )
    assert Counter(got) == everything()


def test_threads_with_handles_of_their_own_share_a_ring():
    got = []
    with shmring.anonymous(8192) as ring:

        def send(thread):
            with ring.producer(wait=SLEEPY) as tx:
                sending(tx, thread)()

        def receive():
            with ring.consumer(wait=SLEEPY) as rx:
                receiving(rx, got, THREADS * EACH)()

        def look():
            while len(got) < THREADS * EACH:
                assert ring.stats().used <= ring.capacity
                ring.repair()
                with ring.consumer("passing", ephemeral=True) as rx:
                    rx.try_recv()

        together(*(lambda thread=thread: send(thread) for thread in range(THREADS)), *([receive] * THREADS), look)
    # Members that leave with a view open leave its record to the others; here none does.
    assert Counter(got) == everything()


def test_threads_share_an_observer(ring):
    """What it returns is whole and comes once; what is missing is counted."""
    got, done = [], threading.Event()
    ring.remove_group("default")
    with ring.producer() as tx, ring.consumer(lossy=True, wait=SLEEPY) as rx:

        def send():
            for number in range(THREADS * EACH):
                tx.send(b"%08d" % number * 8)
            done.set()

        def watch():
            while True:
                is_last = done.is_set()
                try:
                    got.append(rx.recv(0.01))
                except TimeoutError:
                    if is_last:
                        return

        together(send, *([watch] * THREADS))
        assert len(got) + rx.lost == THREADS * EACH
    assert all(message == message[:8] * 8 for message in got) and len(set(got)) == len(got)


def test_a_claim_and_a_view_may_end_in_another_thread(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        for number in range(50):
            made = tx.reserve(8)
            made.view[:] = b"%08d" % number
            together(made.commit if number % 2 else made.abort)
            if number % 2:
                view = rx.peek(0)
                assert bytes(view.data) == b"%08d" % number
                together(view.release)
                assert not view.valid
        assert ring.stats().used == 0


def test_a_handle_may_be_closed_while_others_use_it(ring):
    for _ in range(20):
        tx, rx = ring.producer(wait=SLEEPY), ring.consumer(wait=SLEEPY)

        def use(call, handle):
            def work():
                try:
                    while True:
                        call(handle)
                except (ValueError, shmring.ShutDown):
                    assert handle.closed
                except TimeoutError:
                    pass

            return work

        together(
            *([use(lambda tx: tx.send(b"x" * 100), tx)] * 2),
            *([use(lambda rx: rx.recv(), rx)] * 2),
            lambda rx=rx, tx=tx: (rx.close(), tx.close()),
        )
        assert tx.closed and rx.closed


def test_threads_share_handles_of_arrays(ring):
    numpy = pytest.importorskip("numpy", reason="rings of arrays need NumPy")
    dtype = numpy.dtype([("thread", "<i4"), ("number", "<i4")])
    seen = []
    arrays = shmring.anonymous(8192, producers=ring.producers, dtype=dtype)
    observer = arrays.consumer(lossy=True)
    with arrays, arrays.producer(wait=SLEEPY) as tx, arrays.consumer(wait=SLEEPY) as rx:

        def write(thread):
            for number in range(0, EACH, 4):
                block = numpy.zeros(4, dtype)
                block["thread"], block["number"] = thread, range(number, number + 4)
                tx.write(block)

        def read(way):
            while len(seen) < THREADS * EACH:
                try:
                    if way % 2:
                        seen.extend(rx.read(3, 0.01).tolist())
                    else:
                        with rx.borrow(3, 0.01) as view:
                            seen.extend(view.array.tolist())
                except TimeoutError:
                    pass

        def watch():
            while len(seen) < THREADS * EACH:
                observer.try_read(50)

        together(
            *(lambda thread=thread: write(thread) for thread in range(THREADS)),
            *(lambda way=way: read(way) for way in range(THREADS)),
            watch,
            watch,
        )
    assert Counter(seen) == Counter((thread, number) for thread in range(THREADS) for number in range(EACH))


@pytest.mark.parametrize("wait", ["spin", "adaptive", "park"])
@pytest.mark.parametrize("who", ["recv", "send", "wait", "read"])
def test_a_wait_leaves_the_interpreter_to_other_threads(wait, who):
    """The main thread runs Python code between the beginning of a wait and what ends it; else this would hang."""
    sys.setswitchinterval(10)           # nobody is asked to let go of the GIL: a wait does it by itself
    options = {"dtype": "<f8"} if who == "read" else {}
    if options:
        pytest.importorskip("numpy", reason="rings of arrays need NumPy")
    with shmring.anonymous(4096, **options) as ring, ring.producer(wait=wait) as tx, ring.consumer(wait=wait) as rx:
        if who == "send":
            tx.send(bytes(ring.max_message))
        begun = threading.Event()
        calls = {
            "recv": lambda: rx.recv(),
            "send": lambda: tx.send(b"x"),
            "wait": lambda: shmring.wait([rx]),
            "read": lambda: rx.read(9),
        }

        def work():
            begun.set()
            calls[who]()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        begun.wait()
        for _ in range(20):
            assert sum(range(10_000)) == 49_995_000 and thread.is_alive()
        if who == "send":
            rx.recv()
        elif who == "read":
            tx.write([1.0])
        else:
            tx.send(b"x")
        thread.join()


def test_a_crash_when_two_threads_mapped_a_ring_at_once(tmp_path):
    def use():
        gate.wait()
        ring.stats()  # uses an address, and has no handle that keeps it mapped
        members.append(ring.consumer())

    for number in range(40):
        path = tmp_path / f"{number}.ring"
        with shmring.create(path, "1 MiB") as ring:
            gate, members = threading.Barrier(THREADS), []
            together(*[use] * THREADS)
            inode = str(os.stat(path).st_ino)
            mapped = sum(inode in line.split()[4:5] for line in Path("/proc/self/maps").read_text().splitlines())
            for each in members:
                each.close()
        assert mapped == 3  # the control pages, and twice the data
