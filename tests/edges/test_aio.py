"""`await rx.arecv()`, `async for`, `await tx.asend()`: in asyncio and uvloop, between tasks, loops and processes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from contextlib import contextmanager

import pytest
from event_loops import ROOM_BELL, parked, way  # noqa: F401

import shmring
from shmring import WaitPolicy, aio

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
LONG = 120
pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine in a loop of that make."""
    make = asyncio.new_event_loop
    if request.param == "uvloop":
        make = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install uvloop").new_event_loop

    def run(main):
        loop = make()
        try:
            return loop.run_until_complete(asyncio.wait_for(main, LONG))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())  # close() would not wait for its threads
            loop.close()

    return run


@contextmanager
def handles(path, wait=PATIENT, **options):
    with shmring.create(path, 4096, **options) as ring, ring.producer(wait=wait) as tx, ring.consumer(wait=wait) as rx:
        yield ring, tx, rx


@pytest.fixture(params=["park", "adaptive", "spin"])
def policy(request):
    return PATIENT if request.param == "park" else request.param


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_messages_are_awaited_and_sent_in_order(run, tmp_path, policy):
    async def writer(tx):
        for each in range(300):
            await tx.asend(b"%d" % each * 20)
        assert await tx.asend_many([b"%d" % each * 20 for each in range(300, 600)]) == 300

    async def main(tx, rx):
        task = asyncio.create_task(writer(tx))
        got = [await rx.arecv() for _ in range(200)]
        while len(got) < 600:
            got += await rx.arecv_many(7)
        await task
        assert got == [b"%d" % each * 20 for each in range(600)]

    with handles(tmp_path / "ring", policy) as (_, tx, rx):
        run(main(tx, rx))


def test_objects_are_awaited_and_sent(run, tmp_path, policy):
    things = [None, {"id": 1}, [1, 2.5, "three"], b"x" * 3000, *range(200)]

    async def main(tx, rx):
        async def writer():
            for each in things:
                await tx.asend_obj(each)

        task = asyncio.create_task(writer())
        assert [await rx.arecv_obj() for _ in things] == things
        await task

    with handles(tmp_path / "ring", policy) as (_, tx, rx):
        run(main(tx, rx))


def test_async_for_ends_after_shutdown_and_with_the_producers(run, tmp_path):
    async def main(ring, tx, rx):
        ending = ring.consumer("ending", end_with_producers=True, wait=PATIENT)
        watcher = ring.consumer(lossy=True, wait=PATIENT)

        async def everything(handle):
            return [message async for message in handle]

        tasks = [asyncio.create_task(everything(each)) for each in (rx, ending, watcher)]
        for each in range(5):
            await tx.asend(b"%d" % each)
            await asyncio.sleep(0)
        await until(lambda: parked(ring.name))
        tx.close()
        assert await tasks[1] == [b"0", b"1", b"2", b"3", b"4"]
        ring.shutdown()
        assert await tasks[0] == await tasks[2] == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(shmring.ShutDown):
            await rx.arecv()
        with pytest.raises(shmring.ShutDown):
            await rx.arecv_many(3)

    with handles(tmp_path / "ring") as (ring, tx, rx):
        run(main(ring, tx, rx))


def test_a_sender_is_woken_by_room_and_by_shutdown(run, tmp_path):
    async def main(ring, tx, rx):
        while tx.try_send(bytes(1000)):
            pass
        sender = asyncio.create_task(tx.asend(b"x" * 3000))
        await until(lambda: parked(ring.name, ROOM_BELL))
        for _ in range(3):
            assert not sender.done()
            rx.recv()
        await sender
        rest = asyncio.create_task(tx.asend_many([b"y" * 3000] * 3))
        await until(lambda: parked(ring.name, ROOM_BELL))
        while rx.recv() != b"x" * 3000:
            pass
        assert await rx.arecv() == b"y" * 3000
        assert await rx.arecv() == b"y" * 3000
        ring.shutdown()
        with pytest.raises(shmring.ShutDown) as caught:
            await rest
        assert caught.value.sent in (2, 3)

    with handles(tmp_path / "ring") as (ring, tx, rx):
        run(main(ring, tx, rx))


def test_a_message_too_large_says_how_many_were_sent(run, tmp_path):
    async def main(tx):
        with pytest.raises(shmring.MessageTooLarge):
            await tx.asend(bytes(5000))
        with pytest.raises(shmring.MessageTooLarge) as caught:
            await tx.asend_many([b"a", b"b", bytes(5000)])
        assert caught.value.sent == 2

    with handles(tmp_path / "ring") as (_, tx, rx):
        run(main(tx))
        assert rx.recv_many(5) == [b"a", b"b"]
        for limit in (0, -1):
            with pytest.raises(ValueError):
                run(rx.arecv_many(limit))


def test_those_who_await_one_handle_are_served_in_the_order_in_which_they_came(run, tmp_path, policy):
    async def main(tx, rx):
        served = []

        async def one(number):
            served.append((number, await rx.arecv()))

        tasks = [asyncio.create_task(one(number)) for number in range(20)]
        await asyncio.sleep(0.01)
        tasks[3].cancel()
        tasks[0].cancel()
        for number in range(18):
            tx.send(b"%d" % number)
            if number % 3 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        order = [number for number in range(20) if number not in (0, 3)]
        assert served == [(number, b"%d" % index) for index, number in enumerate(order)]

    with handles(tmp_path / "ring", policy) as (_, tx, rx):
        run(main(tx, rx))


def test_messages_that_are_always_there_leave_other_tasks_their_turn(run, tmp_path):
    async def main(tx, rx):
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(1000):
            await tx.asend(b"x")
            await rx.arecv()
        task.cancel()
        assert turns >= 10

    with handles(tmp_path / "ring") as (_, tx, rx):
        run(main(tx, rx))


def test_ready_is_for_what_has_no_coroutine(run, tmp_path):
    async def main(ring, tx, rx):
        waiting = asyncio.create_task(aio.ready(rx))
        await until(lambda: parked(ring.name))
        assert not waiting.done()
        tx.send(b"x")
        await waiting
        with rx.peek(0) as view:
            assert bytes(view.data) == b"x"
        await aio.ready(tx)
        while tx.try_send(bytes(1000)):
            pass
        waiting = asyncio.create_task(aio.ready(tx))
        await until(lambda: parked(ring.name, ROOM_BELL))
        rx.recv()
        await waiting
        tx.reserve(1000, 0).abort()

    with handles(tmp_path / "ring") as (ring, tx, rx):
        run(main(ring, tx, rx))


def test_there_is_no_wait_without_a_loop(tmp_path):
    with handles(tmp_path / "ring") as (_, _, rx):
        coroutine = rx.arecv()
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)


# ---- closing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["a task", "a thread", "the ring"])
def test_a_handle_that_is_closed_while_it_is_awaited_is_a_value_error(run, tmp_path, who):
    async def main(ring, rx):
        tasks = [asyncio.create_task(rx.arecv()) for _ in range(3)]
        await until(lambda: parked(ring.name))
        close = ring.close if who == "the ring" else rx.close
        if who == "a thread":
            await asyncio.to_thread(close)
        else:
            close()
        for each in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(each, ValueError) and "closed" in str(each)
        assert not parked(tmp_path / "ring")
        with pytest.raises(ValueError, match="closed"):
            await rx.arecv()

    with handles(tmp_path / "ring") as (ring, _, rx):
        run(main(ring, rx))


def test_a_loop_that_is_closed_under_those_who_await_leaves_the_handle_to_the_next(run, tmp_path):
    with handles(tmp_path / "ring") as (ring, tx, rx):
        for each in range(3):
            loop = asyncio.new_event_loop()
            tasks = [loop.create_task(rx.arecv()) for _ in range(2)]
            loop.run_until_complete(until(lambda: parked(ring.name)))
            loop.close()
            for task in tasks:
                task._log_destroy_pending = False
            del task

            async def next_one(each=each, tasks=tasks):
                waiting = asyncio.create_task(rx.arecv())
                await asyncio.sleep(0)  # it has begun, so that the bit is its own
                await until(lambda: parked(ring.name))
                tasks.clear()  # their coroutines end while somebody else awaits the handle
                gc.collect()
                assert parked(ring.name)
                tx.send(b"%d" % each)
                return await waiting

            assert run(next_one()) == b"%d" % each


def test_one_handle_in_two_loops_at_once_is_a_runtime_error(tmp_path):
    async def main(rx):
        task = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0.01)

        def elsewhere():
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(rx.arecv())

        await asyncio.to_thread(elsewhere)
        tx.send(b"x")
        assert await task == b"x"
        tx.send(b"y")
        assert await asyncio.to_thread(asyncio.run, rx.arecv()) == b"y"

    with handles(tmp_path / "ring") as (_, tx, rx):
        asyncio.run(main(rx))


def test_a_handle_whose_descriptor_was_asked_for_can_be_awaited_too(run, tmp_path):
    async def main(ring, tx, rx):
        rx.fileno()
        for each in range(20):
            task = asyncio.create_task(rx.arecv())
            await until(lambda: parked(ring.name))
            tx.send(b"%d" % each)
            assert await task == b"%d" % each

    with handles(tmp_path / "ring") as (ring, tx, rx):
        run(main(ring, tx, rx))


# ---- between processes -------------------------------------------------------------------------------------------

ECHO = """
    import asyncio
    from shmring import aio
    aio.use(sys.argv[3])
    policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    there, back = shmring.open(sys.argv[1]), shmring.open(sys.argv[2])
    async def main():
        with there.consumer(wait=policy) as rx, back.producer(wait=policy) as tx:
            say("attached")
            async for message in rx:
                await tx.asend(message)
    asyncio.run(main())
    say("ended")
"""


def test_no_wake_up_is_lost_between_two_loops(run, unique_name, peer, way):
    """Slices of an hour: a lost wake would stop it."""

    async def main(there, back):
        with there.producer(wait=PATIENT) as tx, back.consumer(wait=PATIENT) as rx:
            for each in range(3000):
                message = b"%d" % each * (500 if each % 5 == 0 else 1)
                await tx.asend(message)
                assert await rx.arecv() == message
            sent = [b"%d" % each * 50 for each in range(5000)]
            task = asyncio.create_task(tx.asend_many(sent))
            got = []
            while len(got) < len(sent):
                got += await rx.arecv_many(100)
            await task
            assert got == sent

    with shmring.create(unique_name + "1", 4096) as there, shmring.create(unique_name + "2", 4096) as back:
        other = peer(ECHO, unique_name + "1", unique_name + "2", way)
        other.expect("attached")
        run(main(there, back))
        there.shutdown()
        other.expect("ended")
        other.finish()


def test_members_in_several_loops_share_the_messages(unique_name, peer, way):
    """Each wake reaches one member, and the members pass it on while there is more."""
    member = """
        import asyncio
        from shmring import aio
        aio.use(sys.argv[2])
        policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
        async def main():
            with shmring.open(sys.argv[1]).consumer(wait=policy) as rx:
                say("attached")
                return [int(message) async for message in rx]
        say(*asyncio.run(main()))
    """
    with shmring.create(unique_name, 4096) as ring:
        peers = [peer(member, unique_name, way) for _ in range(3)]
        for each in peers:
            each.expect("attached")
        with ring.producer(wait=PATIENT) as tx:
            for each in range(3000):
                tx.send(b"%d" % each)
        ring.shutdown()
        got = [int(word) for each in peers for word in each.hear().split()]
        assert sorted(got) == list(range(3000))
        for each in peers:
            each.finish()


def test_a_forked_child_awaits_its_own_handles(tmp_path):
    with handles(tmp_path / "ring") as (ring, _, rx):

        async def main():
            task = asyncio.create_task(rx.arecv())
            await until(lambda: parked(ring.name))
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    asyncio._set_running_loop(None)

                    async def child():
                        with ring.consumer("child", start="latest") as mine, ring.producer() as other:
                            receiving = asyncio.create_task(mine.arecv())
                            await asyncio.sleep(0.01)
                            await other.asend(b"child")
                            return await receiving

                    loop = asyncio.new_event_loop()
                    code = 42 if loop.run_until_complete(child()) == b"child" else 2
                finally:
                    os._exit(code)
            assert await asyncio.to_thread(lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) == 42
            return await task

        assert asyncio.run(main()) == b"child"


def test_handles_that_are_awaited_cost_no_thread_where_the_kernel_waits(run, tmp_path, way):
    async def main(ring, tx, rx):
        before = threading.active_count()
        tasks = [asyncio.create_task(rx.arecv()), *(asyncio.create_task(each.arecv()) for each in observers)]
        await until(lambda: parked(ring.name).bit_count() == 11)
        assert threading.active_count() - before == (1 if way == "thread" else 0)
        await tx.asend(b"x")
        assert await asyncio.gather(*tasks) == [b"x"] * 11

    with handles(tmp_path / "ring") as (ring, tx, rx):
        observers = [ring.consumer(lossy=True, wait=PATIENT) for _ in range(10)]
        run(main(ring, tx, rx))
        assert aio.backend() == way
