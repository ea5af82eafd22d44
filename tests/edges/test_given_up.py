"""Waits for event loops that end in another way than by a message: cancelled, closed, dropped, left to a child, over already.

Each of these tests holds one line of watch.pyx or sleeper.pyx that nothing else holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import threading
import time

import pytest
from event_loops import parked, way  # noqa: F401

import shmring
from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
LONG = 120
FIRST_LOOK = 0.2  # seconds until a wait first looks for the dead: shmring/waiter.pyx
FUTEX_WAITV = 449
pytestmark = pytest.mark.usefixtures("way")


def is_readable(fd, seconds=0.0) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def waiting_descriptors() -> dict[str, str]:
    """Those of this process that a kernel object for waits is behind."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            target = os.readlink(f"/proc/self/fd/{fd}")
            if "io_uring" in target or "eventfd" in target:
                found[fd] = target
    return found


def sleepers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "shmring-sleeper"]


def call_of(thread) -> list[int]:
    """The system call that a thread is asleep in, and its arguments; nothing while it runs."""
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
        words = file.read().split()
    return [int(word, 0) for word in words] if len(words) > 2 else []


def sleeps_on_both(sleeper) -> bool:
    """The waiter thread, on the words of two handles and its own."""
    call = call_of(sleeper)
    return call[:1] == [FUTEX_WAITV] and call[2] == 3


def when(condition) -> None:
    while not condition():
        time.sleep(0)


@contextlib.contextmanager
def kept_from_running(threads):
    """They share this thread's CPU, and do not take it from this thread when they are woken."""
    mine, (cpu, *_) = os.sched_getaffinity(0), os.sched_getaffinity(0)
    everybody = [0, *(each.native_id for each in threads)]
    try:
        for each in everybody:
            os.sched_setaffinity(each, {cpu})
            if each:
                os.sched_setscheduler(each, os.SCHED_BATCH, os.sched_param(0))
        yield
    finally:
        for each in everybody:
            if each:
                os.sched_setscheduler(each, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(each, mine)


def test_a_forked_child_has_none_of_the_descriptors_open():
    before = waiting_descriptors()
    with shmring.anonymous(4096) as ring, ring.consumer("asked", wait=PATIENT) as asked, ring.consumer("awaited") as awaited:

        async def main():
            task = asyncio.create_task(awaited.arecv())
            await asyncio.sleep(0)
            asked.fileno()
            assert len(waiting_descriptors()) == len(before) + 2
            pid = os.fork()
            if pid == 0:
                os._exit(42 if waiting_descriptors() == before else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
            task.cancel()

        asyncio.run(main())


def test_what_is_awaited_leaves_a_descriptor_that_was_asked_for_readable_while_there_is_more(tmp_path):
    """It is readable until a call finds nothing: whoever selects on it has not been told of the second message."""

    async def main(ring, tx, rx):
        fd = rx.fileno()
        for each in range(10):
            task = asyncio.create_task(rx.arecv())
            await asyncio.sleep(0)  # it looks once, and waits
            tx.send_many([b"%d" % each, b"more"])
            assert await task == b"%d" % each
            assert is_readable(fd, LONG)
            assert rx.try_recv() == b"more" and rx.try_recv() is None and not is_readable(fd)

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        asyncio.run(main(ring, tx, rx))


def test_a_wait_whose_time_is_over_when_it_begins_is_readable():
    """Two looks for the dead were due: the call made one of them, and the wait that it begins has the other one to make."""
    with shmring.anonymous(4096) as ring, ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        fd = tx.fileno()
        for _ in range(3):
            while tx.try_send(bytes(1000)):
                pass
            over = time.monotonic() + FIRST_LOOK * 1.5
            while time.monotonic() < over:
                is_readable(fd, 0.1)
            assert not tx.try_send(bytes(1000))
            # Nobody takes anything, and nobody asks again: it is the time alone that makes it readable.
            assert is_readable(fd, LONG)
            rx.recv()


@pytest.mark.parametrize("then", ["is cancelled", "is cancelled and closed", "is closed"])
def test_a_wake_that_comes_to_a_wait_that_was_given_up_is_passed_on(tmp_path, way, then):
    """Whoever waits for a handle may still be in the kernel when its wait ends, and first in the line for a wake."""
    path = tmp_path / "ring"

    async def main(ring, tx):
        watcher = shmring.anonymous(4096).consumer(wait=PATIENT)
        watcher.fileno()  # so that the waiter thread stays
        for each in range(10):
            first, heir = ring.consumer(wait=PATIENT), ring.consumer(wait=PATIENT)
            task = None
            if then == "is closed":
                first.fileno()
            else:
                task = asyncio.create_task(first.arecv())
            while parked(path).bit_count() != 1 or not all(map(sleeps_on_both, sleepers())):
                await asyncio.sleep(0)
                watcher.fileno()  # a look for the dead may have ended the wait
                if task is None:
                    first.fileno()
            got = []
            thread = threading.Thread(
                target=lambda heir=heir, got=got: got.append(heir.recv())
            )  # a time-out would find it at its end
            thread.start()
            when(lambda thread=thread: parked(path).bit_count() == 2 and call_of(thread))
            with kept_from_running(sleepers()):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                if "closed" in then:
                    first.close()
                tx.send(b"%d" % each)
            await asyncio.to_thread(thread.join, LONG)
            assert got == [b"%d" % each]
            first.close()
            heir.close()
        watcher.close()

    with shmring.create(path, 4096) as ring, ring.producer() as tx:
        asyncio.run(main(ring, tx))


def test_a_handle_that_is_dropped_while_it_is_waited_for_is_closed():
    with shmring.anonymous(4096) as ring:
        rx = ring.consumer(wait=PATIENT)
        fd = rx.fileno()
        for sleeper in sleepers():
            when(lambda sleeper=sleeper: call_of(sleeper)[:1] == [FUTEX_WAITV])
        del rx
        gc.collect()
        assert ring.stats().participants == []
        with pytest.raises(OSError):
            os.fstat(fd)


CLOSES = """
    from shmring import aio
    aio.use(sys.argv[1])
    patient = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    asked = threading.current_thread
    def slowly():                           # the waiter thread gets as far as it can meanwhile
        time.sleep(0.005)
        return asked()
    def sleeps(thread):                     # on the word of rx and on its own
        words = open(f"/proc/self/task/{thread.native_id}/syscall").read().split()
        return words[0] == "449" and int(words[2], 0) == 2
    ring, other = shmring.anonymous(4096), shmring.anonymous(4096)
    for _ in range(20):
        rx, keeper = ring.consumer(wait=patient), other.consumer("keeper", wait=patient)
        if sys.argv[2] == "not the last":   # the waiter thread stays, for one that is readable already: it sleeps for nobody
            with other.producer() as tx: tx.send(b"x")
            keeper.fileno()
        rx.fileno()
        while not all(sleeps(each) for each in threading.enumerate() if each.name == "shmring-sleeper"):
            rx.fileno()                     # a look for the dead may have ended the wait
        threading.current_thread = slowly
        rx.close()
        threading.current_thread = asked
        keeper.close()
    say("closed")
"""


@pytest.mark.parametrize("which", ["the last", "not the last"])
def test_a_handle_can_be_closed_while_its_waiter_thread_goes_on(peer, way, which):
    """It was a segmentation fault if that was the last one and the thread had ended; a hang if it slept for nobody by then."""
    other = peer(CLOSES, way, which)
    other.expect("closed")
    other.finish()
