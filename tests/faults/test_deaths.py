"""kill -9 of a single producer or of the only consumer: what the survivors see, and who may take over."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys

import pytest

import shmring
from shmring import evidence

WRITER = """
    tx = shmring.open(sys.argv[1]).producer()
    count = int(sys.argv[2])
    for i in range(count): tx.send(b"%d" % i)
    say("sent")
    hear()
"""

READER = """
    rx = shmring.open(sys.argv[1]).consumer()
    say("reading")
    hear()
"""


@pytest.fixture
def shared(named):
    with named.create(4096, producers="single", max_participants=6) as ring:
        yield ring


def test_the_next_producer_takes_over_where_the_dead_one_stopped(shared, named, peer):
    writer = peer(WRITER, named.name, 3)
    writer.expect("sent")
    with pytest.raises(shmring.ProducerTaken, match=str(writer.pid)):
        shared.producer()
    writer.kill()
    with shared.producer() as tx, shared.consumer() as rx:
        tx.send(b"after")
        assert rx.recv_many(9) == [b"0", b"1", b"2", b"after"]


def test_nothing_half_published_is_visible(shared, named, peer):
    writer = peer(
        """
        tx = shmring.open(sys.argv[1]).producer()
        tx.send(b"whole")
        claim = tx.reserve(100)
        claim.view[:] = b"h" * 100
        say("claimed")
        hear()
    """,
        named.name,
    )
    writer.expect("claimed")
    writer.kill()
    with shared.consumer() as rx, shared.producer() as tx:
        assert rx.recv_many(9) == [b"whole"]
        tx.send(b"next")
        assert rx.recv_many(9) == [b"next"]


def test_a_successor_gets_the_record_that_the_dead_one_was_looking_at(shared, named, peer):
    with shared.producer() as tx:
        tx.send_many([b"a", b"b", b"c"])
        reader = peer(
            """
            rx = shmring.open(sys.argv[1]).consumer()
            rx.recv()
            view, second = rx.peek(), rx.peek()
            say("looking")
            hear()
        """,
            named.name,
        )
        reader.expect("looking")
        reader.kill()
        tx.send(b"d")
        with shared.consumer() as rx:
            got = []
            for _ in range(3):
                with rx.peek(0) as view:
                    got.append((bytes(view.data), view.redelivered))
            assert got == [(b"b", True), (b"c", True), (b"d", False)]


def test_redelivered_survives_a_second_death(shared, named, peer):
    """The first member had both records. Its successor died before it looked at the second: that is still
    redelivered."""
    with shared.producer() as tx:
        tx.send_many([b"a", b"b"])
        for views in (2, 1, 0):
            reader = peer(
                """
                rx = shmring.open(sys.argv[1]).consumer()
                views = [rx.peek() for _ in range(int(sys.argv[2]))]
                say("looking")
                hear()
            """,
                named.name,
                views,
            )
            reader.expect("looking")
            reader.kill()
        with shared.consumer() as rx:
            for message in (b"a", b"b"):
                with rx.peek(0) as view:
                    assert (bytes(view.data), view.redelivered) == (message, True)


def test_a_consumer_killed_between_messages_loses_none(shared, named, peer):
    with shared.producer() as tx:
        tx.send_many([b"%d" % i for i in range(9)])
        for i in range(0, 9, 3):
            reader = peer(
                """
                rx = shmring.open(sys.argv[1]).consumer()
                for _ in range(3): say(rx.recv().decode())
                hear()
            """,
                named.name,
            )
            assert [reader.hear() for _ in range(3)] == [str(i + j) for j in range(3)]
            reader.kill()


@pytest.mark.parametrize("program", [WRITER, READER], ids=["producer", "consumer"])
def test_a_stopped_participant_is_alive(shared, named, peer, program):
    other = peer(program, named.name, 0)
    other.hear()
    other.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
    assert shared.repair() == 0
    assert [each.alive for each in shared.stats().participants] == [True]
    if program is WRITER:
        with pytest.raises(shmring.ProducerTaken, match=str(other.pid)):
            shared.producer()
    else:
        assert shared.stats().groups[0].members == [other.pid]
    other.kill()
    assert shared.repair() == 1
    assert shared.stats().participants == []


@pytest.mark.parametrize("program", [WRITER, READER], ids=["producer", "consumer"])
def test_a_zombie_is_dead(shared, named, peer, program):
    other = peer(program, named.name, 0)
    other.hear()
    other.signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has reaped it
    assert [each.alive for each in shared.stats().participants] == [False]
    assert shared.repair() == 1
    assert shared.stats().participants == []
    (shared.producer if program is WRITER else shared.consumer)().close()


def test_repair_frees_what_the_dead_left(shared, named, peer):
    others = [peer(WRITER, named.name, 0), peer(READER, named.name)]
    for other in others:
        other.hear()
    assert shared.repair() == 0
    for other in others:
        other.kill()
    stats = shared.stats()
    assert [each.alive for each in stats.participants] == [False, False]
    assert stats.groups[0].members == []
    assert shared.repair() == 2
    assert shared.repair() == 0
    assert shared.stats().participants == []


def test_slots_of_the_dead_are_used_again_without_repair(shared, named, peer):
    """The table has six slots; ten readers die in it."""
    with shared.producer() as tx:
        for i in range(10):
            reader = peer(READER, named.name)
            reader.expect("reading")
            reader.kill()
            tx.send(b"%d" % i)
        with shared.consumer() as rx:
            assert len(rx.recv_many(99)) == 10


def test_a_group_of_the_dead_gates_until_it_is_removed(shared, named, peer):
    with shared.producer() as tx:
        reader = peer(READER, named.name)
        reader.expect("reading")
        tx.send(bytes(4080))
        with pytest.raises(TimeoutError, match=str(reader.pid)):
            tx.send(b"x", timeout=0)
        with pytest.raises(shmring.MemberTaken, match=str(reader.pid)):
            shared.remove_group("default")
        reader.kill()
        shared.remove_group("default")
        tx.send(b"x", timeout=0)


@pytest.mark.parametrize("how", ["os.fork", "C fork"])
def test_a_child_that_inherited_everything_does_not_keep_a_dead_parents_role(shared, named, peer, how):
    """A fork in C runs none of Python's hooks, so the child holds the very descriptor whose lock proves its
    parent's life."""
    parent = peer(
        """
        import ctypes
        ring = shmring.open(sys.argv[1])
        tx, rx = ring.producer(), ring.consumer()
        tx.send(b"left")
        child = os.fork() if sys.argv[2] == "os.fork" else ctypes.CDLL(None).fork()
        if child == 0:
            signal.pause()
        say(child)
        hear()
    """,
        named.name,
        how,
    )
    child = int(parent.hear())
    try:
        with pytest.raises(shmring.ProducerTaken, match=str(parent.pid)):
            shared.producer()
        parent.process.kill()
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        with shared.producer() as tx, shared.consumer() as rx:
            tx.send(b"next")
            assert rx.recv_many(9) == [b"left", b"next"]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_whose_first_thread_ended_is_alive(shared, named, peer):
    """Its entry in /proc says zombie, but the process goes on in other threads and holds its lock."""
    other = peer(
        """
        import ctypes
        tx = shmring.open(sys.argv[1]).producer()
        def work():
            state = f"/proc/{os.getpid()}/stat"
            while open(state).read().rpartition(")")[2].split()[0] != "Z": pass
            tx.send(b"alive")
            say("alone")
            hear()
            tx.send(b"still alive")
            say("sent")
            hear()
        threading.Thread(target=work).start()
        ctypes.CDLL(None).pthread_exit(None)
    """,
        named.name,
    )
    other.expect("alone")
    with pytest.raises(shmring.ProducerTaken, match=str(other.pid)):
        shared.producer()
    other.say()
    other.expect("sent")


@pytest.mark.parametrize("survivor", ["producer", "consumer"])
def test_a_survivor_goes_on_with_its_dead_peers_successor(shared, named, peer, survivor):
    """Ten peers in a row die in the middle of their work; the survivor never reattaches."""
    if survivor == "producer":
        with shared.producer() as tx:
            for i in range(10):
                reader = peer(
                    """
                    rx = shmring.open(sys.argv[1]).consumer()
                    while True: say(rx.recv().decode())
                """,
                    named.name,
                )
                tx.send(b"%d" % i)
                heard = reader.hear()
                while heard != str(i):
                    heard = reader.hear()
                reader.kill()
    else:
        with shared.consumer() as rx:
            for i in range(10):
                writer = peer(
                    """
                    tx = shmring.open(sys.argv[1]).producer()
                    tx.send(sys.argv[2].encode())
                    hear()
                """,
                    named.name,
                    i,
                )
                assert rx.recv() == b"%d" % i
                writer.kill()


# ---- evidence ----------------------------------------------------------------------------------------------


def test_another_start_time_is_another_process():
    me = evidence.own_identity()
    assert me.pid == os.getpid()
    assert not evidence.is_gone(me)
    assert evidence.is_gone(me._replace(start_time=me.start_time - 1))


def test_a_pid_without_a_process_is_gone():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert evidence.is_gone(evidence.own_identity()._replace(pid=ended.pid))


def test_what_cannot_be_told_is_not_gone():
    me = evidence.own_identity()
    elsewhere = me._replace(pid=1 << 22, pid_namespace=me.pid_namespace + 1)
    assert not evidence.is_gone(elsewhere)
    assert not evidence.is_gone(elsewhere._replace(pid_namespace=0))


def test_another_boot_is_the_end_of_everybody():
    me = evidence.own_identity()
    assert evidence.is_gone(me._replace(boot_id=bytes(15) + b"\1"))
    assert not evidence.is_gone(me._replace(boot_id=bytes(16), pid_namespace=0))


def test_threads_under_an_emulator_that_answers_for_proc_self_are_not_taken_for_dead(monkeypatch):
    """qemu-user makes up /proc/self/stat, with another start time in each thread: living participants were buried."""
    real, answers = evidence.start_time(os.getpid()), itertools.count(1)

    def emulated(path, mode):
        if path in ("/proc/self/stat", f"/proc/{os.getpid()}/stat"):
            return io.BytesIO(b"%d (python) 0" % os.getpid() + b" 0" * 18 + b" %d 0" % next(answers))
        return open(path, mode)

    monkeypatch.setattr(evidence, "open", emulated, raising=False)
    assert [evidence.start_time(os.getpid()) for _ in range(2)] == [real, real]
