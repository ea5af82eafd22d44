"""fileno(): a handle's descriptor in select, poll, epoll, multiprocessing.connection.wait, asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys
import threading
from multiprocessing import connection

import pytest
from event_loops import ROOM_BELL, forget_parked, parked, way  # noqa: F401

import shmring
from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
pytestmark = pytest.mark.usefixtures("way")
LONG = 120  # seconds, for what has to come


def is_readable(handle, seconds=0.0) -> bool:
    """Of the descriptor alone: asking the handle for it would arm it again."""
    fd = handle if isinstance(handle, int) else handle.fileno()
    return bool(select.select([fd], [], [], seconds)[0])


def by_select(rx):
    assert select.select([rx], [], [], LONG)[0] == [rx]


def by_poll(rx):
    poll = select.poll()
    poll.register(rx, select.POLLIN)
    assert poll.poll(LONG * 1000) == [(rx.fileno(), select.POLLIN)]


def by_epoll(rx):
    with select.epoll() as epoll:
        epoll.register(rx, select.EPOLLIN)
        assert epoll.poll(LONG) == [(rx.fileno(), select.EPOLLIN)]


def by_selectors(rx):
    with selectors.DefaultSelector() as selector:
        selector.register(rx, selectors.EVENT_READ, "mine")
        assert [key.data for key, _ in selector.select(LONG)] == ["mine"]


def by_connection_wait(rx):
    here, there = connection.Pipe()
    with here, there:
        assert connection.wait([here, rx], LONG) == [rx]


async def reading(rx):
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(rx.fileno(), came.set)
    await asyncio.wait_for(came.wait(), LONG)
    loop.remove_reader(rx.fileno())


def by_asyncio(rx):
    asyncio.run(reading(rx))


def by_uvloop(rx):
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install uvloop")
    loop = uvloop.new_event_loop()
    loop.run_until_complete(reading(rx))
    loop.close()


def by_trio(rx):
    trio = pytest.importorskip("trio", reason="trio is not installed: pip install trio")

    async def main():
        with trio.fail_after(LONG):
            await trio.lowlevel.wait_readable(rx.fileno())

    trio.run(main)


EVERY_LOOK = [by_select, by_poll, by_epoll, by_selectors, by_connection_wait, by_asyncio, by_uvloop, by_trio]


def when_parked(path, then, bell=0):
    """Run `then` in a thread as soon as somebody sleeps."""

    def watch():
        while not (parked(path, bell) if bell else parked(path)):
            pass
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("look", EVERY_LOOK)
def test_every_kind_of_loop_is_woken(look, tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        for each in (b"one", b"two"):
            thread = when_parked(path, lambda each=each: tx.send(each))
            look(rx)
            thread.join()
            assert rx.try_recv() == each
            assert rx.try_recv() is None and not is_readable(rx)


def test_it_is_readable_while_there_is_something_and_quiet_after_a_call_that_found_nothing(tmp_path):
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        fd = rx.fileno()
        assert not is_readable(fd)
        calls = [rx.try_recv, lambda: rx.recv(0), lambda: rx.recv_many(5, 0), lambda: rx.peek(0)]
        calls.append(lambda: rx.recv_into(bytearray(9), 0))
        for call in calls:
            tx.send_many([b"x", b"y"])
            for _ in range(2):
                assert is_readable(fd, LONG) and is_readable(fd)
                rx.recv(0)
            assert is_readable(fd)  # nobody has looked and found nothing
            try:
                assert call() is None
            except TimeoutError:
                pass
            assert not is_readable(fd)
        assert rx.fileno() == fd


def test_one_call_for_each_time_that_it_is_readable_gets_every_message():
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        fd, got, sent = rx.fileno(), [], 0
        for burst in (1, 3, 1, 1, 20, 2):
            tx.send_many([b"%d" % (sent + each) for each in range(burst)])
            sent += burst
            while len(got) < sent:
                assert is_readable(fd, LONG)
                if (message := rx.try_recv()) is not None:
                    got.append(int(message))
                    if len(got) % 4 == 0 and sent < 60:
                        tx.send(b"%d" % sent)
                        sent += 1
        assert got == list(range(sent))


def test_a_wake_that_was_looked_up_before_anybody_was_told_of_it_is_forgotten():
    """Nobody else of this process runs until this thread waits, so who waits for the descriptor hears of the wake too late."""
    with (
        shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx,
        shmring.anonymous(4096) as another, another.producer() as sender, another.consumer(wait=PATIENT) as sign,
    ):  # fmt: skip
        fd, later = rx.fileno(), sign.fileno()
        for _ in range(20):
            interval = sys.getswitchinterval()
            sys.setswitchinterval(60)
            try:
                tx.send(b"x")
                assert rx.try_recv() == b"x" and rx.try_recv() is None
            finally:
                sys.setswitchinterval(interval)
            sender.send(b"y")
            assert is_readable(later, LONG) and sign.try_recv() == b"y" and sign.try_recv() is None
            assert not is_readable(fd)


def test_asking_for_it_looks_as_well():
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        tx.send(b"before")
        assert is_readable(rx) and rx.recv() == b"before"
        assert not is_readable(rx)


def test_an_observer_and_the_members_of_two_groups_are_all_woken(unique_name):
    with shmring.create(unique_name, 4096) as ring, ring.producer() as tx:
        handles = [ring.consumer("a", wait=PATIENT), ring.consumer("b", wait=PATIENT), ring.consumer(lossy=True, wait=PATIENT)]
        descriptors = [each.fileno() for each in handles]
        tx.send(b"x")
        for handle, fd in zip(handles, descriptors, strict=True):
            assert is_readable(fd, LONG) and handle.try_recv() == b"x" and handle.try_recv() is None and not is_readable(fd)


def test_a_producers_is_readable_when_the_message_that_did_not_fit_does(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        fd = tx.fileno()
        assert is_readable(fd)  # there is room
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4
        assert not tx.try_send(bytes(2032))
        while is_readable(fd):  # its looks for the dead: 4 ms, 8 ms, ...
            assert not tx.try_send(bytes(2032))
        rx.recv()
        assert not tx.try_send(bytes(2032))
        thread = when_parked(path, rx.recv, ROOM_BELL)
        assert is_readable(fd, LONG)
        thread.join()
        while not tx.try_send(bytes(2032)):
            assert is_readable(fd, LONG)


def test_shutdown_makes_every_handles_readable():
    with shmring.anonymous(4096) as ring, ring.consumer(wait=PATIENT) as rx, ring.consumer(lossy=True, wait=PATIENT) as watcher:
        descriptors = [rx.fileno(), watcher.fileno()]
        assert not any(map(is_readable, descriptors))
        ring.shutdown()
        for fd, call in zip(descriptors, (rx.try_recv, watcher.try_recv), strict=True):
            assert is_readable(fd, LONG)
            with pytest.raises(shmring.ShutDown):
                call()
    with shmring.anonymous(4096) as ring, ring.producer(wait=PATIENT) as tx:
        while tx.try_send(bytes(1000)):
            pass
        fd = tx.fileno()
        ring.shutdown()
        assert is_readable(fd, LONG)
        with pytest.raises(shmring.ShutDown):
            tx.try_send(b"x")


def test_the_last_producer_that_leaves_makes_it_readable():
    with shmring.anonymous(4096) as ring, ring.consumer(end_with_producers=True, wait=PATIENT) as rx:
        with ring.producer() as tx:
            fd = rx.fileno()
            tx.send(b"x")
            assert is_readable(fd, LONG) and rx.try_recv() == b"x"
            while rx.try_recv() is None and is_readable(fd):
                pass
        while True:
            assert is_readable(fd, LONG)
            try:
                assert rx.try_recv() is None
            except shmring.ProducersGone:
                break


@pytest.mark.parametrize("doing", ["a claim", "nothing"])
def test_a_producer_that_is_killed_makes_it_readable(unique_name, peer, doing):
    """Nobody is woken for a death: the descriptor becomes readable for the looks that a wait makes."""
    with shmring.create(unique_name, 4096) as ring, ring.consumer(end_with_producers=True, wait=PATIENT) as rx:
        other = peer(
            """
            tx = shmring.open(sys.argv[1]).producer()
            claim = tx.reserve(10) if sys.argv[2] == "a claim" else None
            say("ready"); hear()
            """,
            unique_name,
            doing,
        )
        other.expect("ready")
        fd = rx.fileno()
        assert rx.try_recv() is None
        other.kill()
        looks = 0
        with pytest.raises(shmring.ProducerDied):
            while looks < 100:  # each waits twice as long for the next; the first version found it by counting calls
                assert is_readable(fd, LONG) and rx.try_recv() is None
                looks += 1


def test_a_message_whose_notifier_died_before_the_wake_is_found_in_a_later_slice(tmp_path):
    path, policy = tmp_path / "ring", WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=20)
    with shmring.create(path, 4096) as ring, ring.producer() as tx, ring.consumer(wait=policy) as rx:
        fd = rx.fileno()
        while is_readable(fd):
            assert rx.try_recv() is None
        forget_parked(path)
        tx.send(b"untold")
        message = None
        while message is None:
            assert is_readable(fd, LONG)
            message = rx.try_recv()
        assert message == b"untold"


def test_a_readonly_observers_becomes_readable_by_itself(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx, shmring.open(path, readonly=True) as again:
        rx = again.consumer(lossy=True)
        fd = rx.fileno()
        for each in (b"one", b"two"):
            tx.send(each)
            got = None
            while got is None:
                assert is_readable(fd, LONG)
                got = rx.try_recv()
            assert got == each


def test_a_blocking_call_is_not_left_asleep_by_a_descriptor_that_nobody_looks_at(unique_name, peer):
    """A wake goes to one sleeper of a group: it must not be the armed descriptor of the same handle."""
    with shmring.create(unique_name, 4096) as ring, ring.consumer(wait=PATIENT) as rx:
        other = ring.consumer("wait", wait=PATIENT)
        rx.fileno(), other.fileno()
        answers = []

        def blocking():
            answers.append(rx.recv(LONG))
            answers.append(shmring.wait([other], LONG) == [other])

        thread = threading.Thread(target=blocking)
        before = {each.slot: each.parks for each in ring.stats().participants}
        thread.start()
        while {each.slot: each.parks for each in ring.stats().participants} == before:
            pass
        with ring.producer() as tx:
            tx.send(b"x")
            thread.join()
        assert answers == [b"x", True]


def test_closing_passes_the_wake_on(tmp_path):
    """The member that was woken leaves without having looked: another one of its group is told."""
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as heir:
        first = ring.consumer(wait=PATIENT)
        first.fileno()
        thread = threading.Thread(target=lambda: got.append(heir.recv(LONG)))
        got = []
        thread.start()
        while parked(path).bit_count() != 2:
            pass
        tx.send(b"x")
        first.close()
        thread.join()
        assert got == [b"x"]


def test_closing_it_gives_the_descriptor_back_and_nothing_is_parked(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring:
        rx = ring.consumer(wait=PATIENT)
        fd = rx.fileno()
        assert parked(path)
        rx.close()
        assert not parked(path)
        with pytest.raises(OSError):
            os.fstat(fd)
        with pytest.raises(ValueError, match="closed"):
            rx.fileno()
        dropped = ring.consumer(wait=PATIENT)
        fd = dropped.fileno()
        del dropped
        assert not parked(path)
        with pytest.raises(OSError):
            os.fstat(fd)


def test_a_forked_child_has_none_of_it(unique_name):
    with shmring.create(unique_name, 4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        fd = rx.fileno()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    rx.fileno()
                except shmring.WrongProcess:
                    code = 2
                with ring.consumer("child", wait=PATIENT) as mine, ring.producer() as other:
                    own = mine.fileno()
                    other.send(b"child")
                    assert is_readable(own, LONG) and mine.try_recv() == b"child"
                rx.close()
                code += 40
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
        ring.remove_group("child")
        assert is_readable(fd, LONG) and rx.try_recv() == b"child" and rx.try_recv() is None and not is_readable(fd)
        tx.send(b"x")
        assert is_readable(fd, LONG) and rx.recv() == b"x"


def test_it_may_be_armed_in_one_thread_and_looked_at_in_another():
    """With io_uring a wait belongs to the thread that began it, and ends with it."""
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        for each in range(20):
            thread = threading.Thread(target=rx.fileno)
            thread.start()
            thread.join()
            tx.send(b"%d" % each)
            assert is_readable(rx, LONG)
            assert rx.try_recv() == b"%d" % each
        fd = rx.fileno()
        stop = threading.Event()
        got = []

        def look():
            while not stop.is_set():
                if is_readable(fd, 0.01) and (message := rx.try_recv()) is not None:
                    got.append(int(message))

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for each in range(300):
            tx.send(b"%d" % each)
        while len(got) < 300:
            pass
        stop.set()
        for thread in threads:
            thread.join()
        assert sorted(got) == list(range(300))


def test_several_hundred_handles_are_armed_at_once(way):
    """More than futex_waitv takes in one call."""
    with shmring.anonymous(1 << 16, max_participants=200, max_groups=16) as ring, ring.producer() as tx:
        handles = [ring.consumer(lossy=True, wait=PATIENT) for _ in range(150)]
        descriptors = [each.fileno() for each in handles]
        threads = [each for each in threading.enumerate() if each.name == "shmring-sleeper"]
        assert len(threads) == (2 if way == "thread" else 0)
        tx.send(b"x")
        for handle, fd in zip(handles, descriptors, strict=True):
            assert is_readable(fd, LONG) and handle.try_recv() == b"x"
        for handle in handles:
            handle.close()
        assert not [each for each in threading.enumerate() if each.name == "shmring-sleeper"]
