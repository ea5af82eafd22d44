"""Signal handlers, finalizers and other threads in the middle of everything. Each test is named after what went wrong once."""

from __future__ import annotations

import gc
import os
import signal
import struct
import subprocess
import sys
import threading

import pytest

import shmring
from shmring import WaitPolicy

LONG = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)


def run(code, *arguments):
    """In a process of its own, as these used to crash or hang."""
    program = "import faulthandler, sys; faulthandler.dump_traceback_later(200, exit=True)\n" + code
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_close_in_a_signal_handler_ends_the_wait_that_it_interrupted():
    output = run("""
import signal, threading, os, shmring
with shmring.anonymous(4096) as ring:
    rx = ring.consumer(wait="park")
    signal.signal(signal.SIGUSR1, lambda *_: rx.close())
    def later():
        while not any(each.parks for each in ring.stats().participants): pass
        os.kill(os.getpid(), signal.SIGUSR1)
    threading.Thread(target=later).start()
    try:
        rx.recv()
    except ValueError as error:
        print(error)
    ring.consumer().close()
""")
    assert "closed" in output


def test_ring_closed_under_a_waiting_thread_does_not_unmap_it():
    with shmring.anonymous(4096) as ring:
        rx = ring.consumer(wait=LONG)
        errors = []

        def wait():
            try:
                rx.recv()
            except ValueError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not ring.stats().participants[0].parks:
            pass
        ring.close()
        thread.join()
        assert len(errors) == 1


def test_slices_of_views_in_a_garbage_cycle_are_collected_safely():
    for lend in ("rx.peek()", "tx.reserve(3)"):
        run(f"""
import gc, shmring
with shmring.anonymous(4096) as ring:
    tx, rx = ring.producer(), ring.consumer()
    tx.send(b"abc")
    class Cycle: pass
    cycle = Cycle(); cycle.me = cycle; cycle.lent = {lend}
    memory = cycle.lent.view if hasattr(cycle.lent, "view") else cycle.lent.data
    cycle.slice = memory[1:]
    del cycle, memory
    gc.collect()
    tx.close(); rx.close()
""")


def test_claim_of_a_closed_producer_lends_nothing(ring):
    tx = ring.producer()
    claim = tx.reserve(10)
    ring.close()
    with pytest.raises(ValueError, match="committed or aborted"):
        claim.view  # noqa: B018


def test_the_memory_taken_out_of_a_view_lends_nothing_afterwards_and_stays_mapped(ring):
    with ring.producer() as tx:
        tx.send(b"abc")
    with ring.consumer() as rx:
        view = rx.peek(timeout=0)
        data = view.data
        memory = data.obj
        data.release()
        view.release()
        with pytest.raises(ValueError, match="ended"):
            memoryview(memory)
        with pytest.raises(BufferError):
            ring.close()
        del data, memory


@pytest.mark.parametrize("lend", ["rx.peek()", "watcher.peek()", "tx.reserve(3)"])
def test_an_array_over_a_buffer_does_not_crash_when_the_ring_is_closed(lend):
    """numpy.ndarray(buffer=memory) gives the buffer back at once and keeps what it came from; it was unmapped under it."""
    output = run(f"""
import gc, numpy, shmring
ring = shmring.anonymous(4096)
tx, rx, watcher = ring.producer(), ring.consumer(), ring.consumer(lossy=True)
tx.send(b"abc")
lent = {lend}
array = numpy.ndarray((3,), "u1", buffer=lent.view if hasattr(lent, "view") else lent.data)
del lent
gc.collect()
try:
    ring.close()
except BufferError as error:
    print(error, array.sum())
del array
ring.close()
""")
    assert "still in use" in output


def test_handle_dropped_while_another_is_attached_does_not_wait_for_itself(ring):
    ring.consumer("a")  # dropped at once
    gc.collect()
    with ring.consumer("a") as rx:
        assert rx.try_recv() is None


def test_commit_after_shutdown_is_refused(pair):
    tx, rx = pair
    claim = tx.reserve(3)
    tx.ring.shutdown()
    assert list(rx) == []
    with pytest.raises(shmring.ShutDown):
        claim.commit()
    with pytest.raises(shmring.ShutDown):
        rx.try_recv()


def test_idle_member_in_between_does_not_forget_what_was_handed_out(ring):
    with ring.producer() as tx:
        tx.send_many([b"a", b"b", b"c"])
    with ring.consumer() as rx:
        views = [rx.peek(timeout=0) for _ in range(2)]
    del views
    ring.consumer().close()
    with ring.consumer() as rx:
        assert [rx.peek(timeout=0).redelivered for _ in range(3)] == [True, True, False]


def test_failing_to_join_leaves_no_group_behind(backing):
    with backing.create(4096, max_participants=1) as ring, ring.producer() as tx:
        with pytest.raises(shmring.TooManyParticipants):
            ring.consumer("x")
        assert [group.name for group in ring.stats().groups] == ["default"]
        ring.remove_group("default")
        for _ in range(100):
            tx.send(bytes(1000), timeout=0)


def test_batches_without_any_group_do_not_overtake_themselves(ring):
    ring.remove_group("default")
    with ring.producer() as tx:
        assert tx.send_many([bytes(64)] * 10_000, timeout=0) == 10_000
        with ring.consumer("late") as rx:
            tx.send_many([b"%d" % number for number in range(20)], timeout=0)
            assert rx.recv_many(100) == [b"%d" % number for number in range(20)]


def test_wake_counts_reach_the_table(pair):
    tx, _ = pair
    got = []
    with tx.ring.consumer("parked", wait=LONG) as sleeper:
        for number in range(1, 21):  # one that is stopped on its way into the kernel sees the message itself, and is not woken
            thread = threading.Thread(target=lambda: got.append(sleeper.recv()))
            thread.start()
            while sum(each.parks for each in tx.ring.stats().participants) < number:
                pass
            tx.send(b"wake up")
            thread.join()
        assert got == [b"wake up"] * 20
        assert 1 <= tx.ring.stats().participants[0].wakes <= 20


def test_wait_passes_on_a_wake_that_was_for_a_thread_in_recv(pair):
    tx, _ = pair
    with tx.ring.consumer("shared handle", wait=LONG) as rx:
        got = []
        thread = threading.Thread(target=lambda: got.append(rx.recv()))
        thread.start()
        while not any(each.parks for each in tx.ring.stats().participants):
            pass
        for _ in range(100):
            assert shmring.wait([rx], timeout=0.0005) in ([], [rx])
        tx.send(b"one")
        thread.join()
        assert got == [b"one"]


def test_threads_that_wait_for_different_room_are_all_woken(ring):
    with ring.producer(wait=LONG) as tx, ring.consumer() as rx:
        tx.send_many([bytes(1008)] * 4)
        threads = [threading.Thread(target=tx.send, args=(bytes(size),)) for size in (3000, 2000, 16)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while ring.stats().participants[0].parks < number:
                pass
        sizes = [len(rx.recv(timeout=50)) for _ in range(7)]
        assert sorted(sizes[4:]) == [16, 2000, 3000]
        for thread in threads:
            thread.join()


def test_dangling_link_at_the_name_is_an_error_and_no_loop(tmp_path):
    path = tmp_path / "ring"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(shmring.RingExists):
        shmring.create(path, 4096, exist_ok=True, trust=os.getuid())


def test_wait_bits_beyond_the_table_are_not_followed(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=3) as ring, ring.producer() as tx, ring.consumer() as rx:
        everybody = struct.pack("<Q", 2**64 - 1)
        with open(path, "r+b") as file:
            for bell in (5120, 5504):
                for words in (0, 128):  # armed, parked
                    os.pwrite(file.fileno(), everybody, bell + words)
        for number in range(1000):
            tx.send(b"%d" % number)
            assert rx.recv() == b"%d" % number


def test_wild_member_word_is_not_followed(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=3) as ring:
        with open(path, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("<I", 0x7FFFFFFF), 8192 + 8)
        ring.remove_group("default")
        assert ring.stats().groups == []


def test_hidden_processes_are_not_taken_for_dead(monkeypatch):
    from shmring import evidence

    me = evidence.own_identity()

    def refuse(path, *_):
        raise FileNotFoundError(path)

    monkeypatch.setattr("builtins.open", refuse)  # /proc mounted with hidepid=2 says the same
    assert not evidence.is_gone(me)


def test_signal_handler_may_close_while_its_thread_changes_the_tables(ring):
    rx = ring.consumer("a")
    previous = signal.signal(signal.SIGALRM, lambda *_: rx.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while not rx.closed:
            ring.repair()
    finally:
        signal.signal(signal.SIGALRM, previous)
    ring.consumer("a").close()
