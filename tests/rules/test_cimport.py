"""`cimport shmring` works from an extension outside the package."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading

import pytest
from sources import ROOT

import shmring
from shmring.mapping import Mapping

pytest.importorskip("Cython", reason="an extension that cimports shmring needs Cython to build")

ENVIRONMENT = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(shmring.__file__)))
SETUP = """
import shmring
from Cython.Build import cythonize
from setuptools import Extension, setup

extension = Extension("outside", ["outside.pyx"], include_dirs=[shmring.get_include()])
setup(name="outside", ext_modules=cythonize([extension], quiet=True))
"""


def build(folder):
    """`python setup.py build_ext --inplace` there, as a user would."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=folder, env=dict(ENVIRONMENT, CFLAGS="-O1"), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr


@contextlib.contextmanager
def imported(folder, name):
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The extension, built in a folder of its own."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copy(ROOT / "tests" / "rules" / "outside" / "outside.pyx", folder)
    (folder / "setup.py").write_text(SETUP)
    build(folder)
    with imported(folder, "outside") as module:
        yield module


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Folder of examples/cython_consumer, built."""
    folder = tmp_path_factory.mktemp("example") / "cython_consumer"
    shutil.copytree(ROOT / "examples" / "cython_consumer", folder, ignore=shutil.ignore_patterns("*.c", "*.so", "build"))
    build(folder)
    return folder


@pytest.fixture(scope="module")
def loops(example):
    with imported(example, "loops") as module:
        yield module


@pytest.fixture
def ring():
    with shmring.anonymous("64 KiB") as ring:
        yield ring


def test_the_include_folder_has_the_headers():
    assert {"atomic.h", "futex.h", "layout.h"} <= set(os.listdir(os.path.join(shmring.get_include(), "shmring")))


def test_an_outside_extension_sends_and_receives_without_the_gil(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        assert outside.send_range(tx, 1000) == 1000
        assert int.from_bytes(rx.recv(timeout=0), "little") == 0
        assert outside.sum_all(rx) == (sum(range(1000)), 999)
        tx.send((7).to_bytes(8, "little"))
        assert outside.sum_all(rx) == (7, 1)


def test_an_outside_extension_stops_when_the_ring_is_full(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        sent = outside.send_range(tx, 10_000)
        assert sent == ring.capacity // 32
        assert not tx.try_send(bytes(8))
        assert outside.sum_all(rx) == (sum(range(sent)), sent)
        assert outside.send_range(tx, 1) == 1


def test_an_outside_extension_gets_the_handles_errors(outside, ring):
    tx = ring.producer()
    ring.shutdown()
    with pytest.raises(shmring.ShutDown):
        outside.send_range(tx, 1)
    tx.close()
    with pytest.raises(ValueError, match="closed"):
        outside.send_range(tx, 1)
    with pytest.raises(TypeError):
        outside.send_range(ring, 1)


def test_an_outside_extension_calls_the_ports_methods(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        outside.send_through_the_port(tx, b"hello")
        assert rx.recv(timeout=0) == b"hello"
    assert outside.capacity_of(ring)[0] == ring.capacity


# ---- _core/linger.pxd --------------------------------------------------------------------------------------------------


def test_who_lingers_in_vain_lets_twice_as_many_waits_go_by(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"the only one")
        tries = []
        while len(tries) < 13:
            had = outside.patience_of(rx)[0]
            skip, _ = outside.linger_once(rx)
            if had == 0:
                tries.append(skip)
            else:
                assert skip == had - 1
        assert tries == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023]


def test_a_stream_makes_lingering_worth_it_again(outside, loops, ring):
    """A producer without the GIL, and a consumer that looks how much comes in a moment, until it saw the stream."""

    def stream():
        with contextlib.suppress(shmring.ShutDown):
            while True:
                loops.send_numbers(tx, 1 << 40)

    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(bytes(8))
        while outside.linger_once(rx)[1] < 7:
            pass
        sender = threading.Thread(target=stream)
        sender.start()
        while outside.linger_once(rx)[1]:
            rx.recv_many(1000, timeout=None)
        ring.shutdown()
        sender.join()
        assert outside.patience_of(rx) == (0, 0)


def test_a_wait_that_spins_lingers_and_others_do_not(outside, ring):
    patient = shmring.WaitPolicy(held=0, spin_us=1e9)
    with ring.producer() as tx, ring.consumer(wait=patient) as rx:
        got = []
        waiting = threading.Thread(target=lambda: got.append(rx.recv()))
        waiting.start()
        while not any(participant.waits for participant in ring.stats().participants):
            pass
        tx.send(b"after a while")
        waiting.join()
        assert got == [b"after a while"]
        assert outside.patience_of(rx) == (0, 1)
        tx.send(b"there already")
        rx.recv()
        assert outside.patience_of(rx) == (0, 1)
    for policy, expected in (("adaptive", True), ("spin", False), ("park", False)):
        with ring.consumer("other", wait=policy) as rx:
            assert outside.lingers(rx) is expected


# ---- shmring.nogil, a step at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_a_closed_producer_shows_nothing_any_more(outside, producers):
    """It moved the tail of a single producer back behind what its successor had sent."""
    with shmring.anonymous("64 KiB", producers=producers) as ring, ring.consumer() as rx:
        tx = ring.producer()
        outside.commit_only(tx, b"committed")
        tx.close()
        with ring.producer() as successor:
            successor.send_many([b"after it"] * 3)
            with pytest.raises(ValueError, match="closed"):
                outside.reserve_only(tx, 8)
            if producers == "single":               # many: it was shown when it was committed
                with pytest.raises(ValueError, match="closed"):
                    outside.publish(tx)
            expected = [b"committed"] * (producers == "multi") + [b"after it"] * 3
            assert rx.recv_many(10, timeout=0) == expected


def test_a_forked_producer_shows_nothing_of_its_parents(outside, ring):
    def play(tx):
        with pytest.raises(shmring.WrongProcess):
            outside.reserve_only(tx, 8)

    with shmring.anonymous("64 KiB", producers="single") as ring, ring.producer() as tx, ring.consumer() as rx:
        outside.commit_only(tx, b"committed")
        child = multiprocessing.get_context("fork").Process(target=play, args=(tx,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert rx.try_recv() is None
        outside.publish(tx)
        assert rx.try_recv() == b"committed"


def test_a_closed_ring_is_an_error_and_no_crash(outside):
    ring = shmring.anonymous("64 KiB")
    tx, rx = ring.producer(), ring.consumer()
    ring.close()
    for call in (lambda: outside.receive_batch(rx), lambda: outside.reserve_only(tx, 8), lambda: outside.abort(tx)):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("producers", ["single", "multi"])
def test_what_was_reserved_and_never_committed_is_given_up(outside, producers, abort):
    """With many producers it stayed a gap that nobody owned, and every reader called the ring damaged."""
    with shmring.anonymous("64 KiB", producers=producers) as ring, ring.producer() as tx, ring.consumer() as rx:
        outside.reserve_only(tx, 100)
        if abort:
            outside.abort(tx)
        outside.commit_only(tx, bytes(1000))
        outside.publish(tx)
        outside.reserve_only(tx, 500)
        tx.send(b"in what was reserved")
        tx.send(bytes(2000))
        assert [len(message) for message in rx.recv_many(10, timeout=0)] == [1000, 20, 2000]
        assert ring.stats().used == 0 and rx.try_recv() is None


def test_a_commit_that_is_refused_leaves_the_open_claim_alone(outside, ring):
    """It gave up the claim's room under its user, whose commit then stamped a record where nothing was reserved."""
    with ring.producer() as tx, ring.producer() as other, ring.consumer() as rx:
        outside.reserve_only(tx, 100)
        claim = tx.reserve(10)
        with pytest.raises(shmring.ClaimOpen):
            outside.finish_only(tx, 5)
        other.send(b"other")
        claim.view[:] = b"c" * 10
        claim.commit()
        tx.send(b"later")
        assert rx.recv_many(10, timeout=0) == [b"c" * 10, b"other", b"later"]


def test_an_abort_that_is_refused_gives_up_what_was_reserved(outside, ring, tmp_path):
    """After a shutdown it raised ShutDown and kept its room, for which those who drain the ring waited."""
    with ring.producer() as tx, ring.consumer() as rx:
        outside.reserve_only(tx, 100)
        (tmp_path / "cut").write_bytes(bytes(4096))
        with Mapping.file(tmp_path / "cut") as mapping:
            os.truncate(tmp_path / "cut", 0)
            assert bytes(memoryview(mapping)[:1]) == b"\0"  # has the producer look at its own memory
        ring.shutdown()
        with pytest.raises(shmring.ShutDown):
            outside.abort(tx)
        with pytest.raises(shmring.ShutDown):
            rx.recv(0)


def test_a_batch_has_nothing_after_its_release_or_an_error(outside, ring):
    """It kept the notes of what it had last: messages came again."""
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"one", b"two"])
        assert outside.receive_batch(rx, releases=2) == ([b"one", b"two"], [])
        assert [each.messages for each in ring.stats().participants] == [2, 2]
        tx.send(b"three")
        error, rest = outside.receive_in_vain(rx)
        assert isinstance(error, TimeoutError) and rest == []
        tx.send(b"four")
        ring.shutdown()
        assert outside.receive_in_vain(rx) == (None, [])


def test_who_finds_nothing_does_not_linger(outside, ring):
    with ring.producer(), ring.consumer() as rx:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                outside.receive_batch(rx)
        assert outside.patience_of(rx) == (0, 0)


# ---- shmring.nogil: examples/cython_consumer ---------------------------------------------------------------------------


def test_the_example_runs(example):
    result = subprocess.run([sys.executable, "main.py"], cwd=example, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"1000000 numbers, together {sum(range(1_000_000))}\n"


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_loops_without_the_gil_move_every_message(loops, producers):
    """Two threads, each in its own loop; the ring is full and empty again and again."""
    messages = [bytes([number]) * 60 for number in range(61)]
    with shmring.anonymous("64 KiB", producers=producers) as ring, ring.producer() as tx, ring.consumer() as rx:
        sender = threading.Thread(target=loops.send_copies, args=(tx, messages, 100_000))
        sender.start()
        assert loops.check_copies(rx, messages, 100_000) == 0
        sender.join()
        assert ring.stats().used == 0
        spoiled = [*messages[:-1], bytes(60)]
        tx.send_many(messages)
        assert loops.check_copies(rx, spoiled, 61) == 1


def test_loops_without_the_gil_raise_what_the_handles_raise(loops):
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        with pytest.raises(TimeoutError, match="full"):
            loops.send_numbers(tx, 1000, 0)
        assert len(rx.recv_many(1000)) == 128
        with pytest.raises(shmring.MessageTooLarge):
            loops.send_copies(tx, [bytes(5000)], 1)
        loops.send_numbers(tx, 3)
        ring.shutdown()
        with pytest.raises(shmring.ShutDown):
            loops.send_numbers(tx, 1)
        assert loops.sum_numbers(rx) == (3, 3)
        assert loops.sum_numbers(rx) == (0, 0)
        tx.close()
        rx.close()
        with pytest.raises(ValueError, match="closed"):
            loops.send_numbers(tx, 1)
        with pytest.raises(ValueError, match="closed"):
            loops.sum_numbers(rx)


def test_loops_without_the_gil_get_what_others_left(loops):
    """A view that a member closed with, and members of the same group."""
    with shmring.anonymous(4096) as ring, ring.producer() as tx:
        loops.send_numbers(tx, 10)
        with ring.consumer() as leaving:
            leaving.recv()
            views = [leaving.peek(), leaving.peek()]
        with ring.consumer() as rx, ring.consumer():
            ring.shutdown()
            assert loops.sum_numbers(rx) == (sum(range(1, 10)), 9)
        assert not any(view.valid for view in views)


def test_a_loop_without_the_gil_is_woken_and_interrupted(loops):
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait="park") as rx:
        got = []
        waiting = threading.Thread(target=lambda: got.append(loops.sum_numbers(rx)))
        waiting.start()
        for number in range(20):
            tx.send(number.to_bytes(8, "little"))
        ring.shutdown()
        waiting.join()
        assert got == [(sum(range(20)), 20)]
    with shmring.anonymous(4096) as ring, ring.consumer() as rx:
        child = multiprocessing.get_context("fork").Process(target=forked, args=(loops, rx))
        child.start()
        child.join()
        assert child.exitcode == 0


def forked(loops, rx):
    with pytest.raises(shmring.WrongProcess):
        loops.sum_numbers(rx)


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_messages_that_are_published_together_wake_who_sleeps_for_the_first(loops, producers):
    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=600_000)
    with shmring.anonymous("64 KiB", producers=producers) as ring, ring.producer() as tx, ring.consumer(wait=patient) as rx:
        got = []
        waiting = threading.Thread(target=lambda: got.append(rx.recv(300)))
        waiting.start()
        while not any(participant.parks for participant in ring.stats().participants):
            pass
        loops.send_copies(tx, [b"first", b"other"], 2)
        waiting.join()
        assert got == [b"first"]
