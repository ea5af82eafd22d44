"""Cancellation: no message is lost, nobody is left asleep, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import threading

import pytest
from cycles import lent_bytes
from event_loops import ROOM_BELL, parked, way  # noqa: F401

import shmring
from shmring import WaitPolicy, aio

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
LONG = 120
pytestmark = pytest.mark.usefixtures("way")


def run(main):
    return asyncio.run(asyncio.wait_for(main, LONG * 2))


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("policy", [PATIENT, "adaptive", "spin"], ids=["park", "adaptive", "spin"])
def test_a_message_that_comes_in_the_moment_of_a_cancellation_is_the_next_ones(tmp_path, turns, policy):
    """However far the task that awaits it has come by then: the message is its result, or is still there."""

    async def main(ring, tx, rx):
        for each in range(200):
            task = asyncio.create_task(rx.arecv())
            await asyncio.sleep(0)
            if policy is PATIENT:
                await until(lambda: parked(ring.name))
            tx.send(b"%d" % each)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                message = await task
            except asyncio.CancelledError:
                message = await rx.arecv()
            assert message == b"%d" % each

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer() as tx, ring.consumer(wait=policy) as rx:
        run(main(ring, tx, rx))


def test_time_outs_at_any_moment_lose_nothing(tmp_path):
    """Of several tasks that receive with short time-outs, while a thread sends: each message is received once."""
    count, got, chance = 3000, [], random.Random(1)
    done = threading.Event()

    def send(ring):
        with ring.producer() as tx:
            for each in range(count):
                tx.send(b"%d" % each)
                if each % 10 == 0:
                    done.wait(chance.random() * 0.002)

    async def receiver(rx):
        while len(got) < count:
            try:
                got.append(int(await asyncio.wait_for(rx.arecv(), chance.random() * 0.002)))
            except asyncio.TimeoutError:
                pass

    async def main(ring):
        handles = [ring.consumer(wait=PATIENT), ring.consumer(wait=PATIENT)]
        thread = threading.Thread(target=send, args=(ring,))
        thread.start()
        await asyncio.gather(*(receiver(rx) for rx in handles for _ in range(3)))
        await asyncio.to_thread(thread.join)
        for rx in handles:
            rx.close()

    with shmring.create(tmp_path / "ring", 4096) as ring:
        run(main(ring))
    assert sorted(got) == list(range(count))


def test_a_cancelled_member_that_was_woken_passes_the_wake_on(tmp_path):
    """Two members sleep, the first one is woken, and its task is cancelled before it takes the message."""

    async def main(ring, tx):
        first, heir = ring.consumer(wait=PATIENT), ring.consumer(wait=PATIENT)
        for each in range(50):
            task = asyncio.create_task(first.arecv())
            await until(lambda: parked(ring.name).bit_count() == 1)
            got = []
            thread = threading.Thread(target=lambda got=got: got.append(heir.recv(LONG)))
            thread.start()
            await until(lambda: parked(ring.name).bit_count() == 2)
            tx.send(b"%d" % each)
            for _ in range(each % 3):
                await asyncio.sleep(0)
            if not task.cancel():
                tx.send(await task)
            try:
                tx.send(await task)
            except asyncio.CancelledError:
                pass
            await asyncio.to_thread(thread.join)
            assert got == [b"%d" % each]
        first.close()
        heir.close()

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer() as tx:
        run(main(ring, tx))


def test_a_cancelled_sender_has_sent_nothing_and_the_next_one_goes_on(tmp_path):
    async def main(ring, tx, rx):
        while tx.try_send(bytes(1000)):
            pass
        first, second = asyncio.create_task(tx.asend(b"first" * 300)), asyncio.create_task(tx.asend(b"second"))
        many = asyncio.create_task(tx.asend_many([b"many" * 100] * 40))
        await until(lambda: parked(ring.name, ROOM_BELL))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        while (message := await rx.arecv()) == bytes(1000):
            pass
        assert message == b"second"
        await second
        assert await rx.arecv() == b"many" * 100
        await until(lambda: parked(ring.name, ROOM_BELL))
        many.cancel()
        with pytest.raises(asyncio.CancelledError):
            await many
        rest = rx.recv_many(100, 0)
        assert 1 <= len(rest) < 39 and set(rest) == {b"many" * 100}

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        run(main(ring, tx, rx))


def test_ten_thousand_waits_and_cancellations_leave_nothing(tmp_path):
    async def cancelled(call, path, bell):
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        assert parked(path, bell)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        raise AssertionError("it was not cancelled")

    async def main(ring, tx, rx):
        while tx.try_send(bytes(500)):
            pass
        while rx.try_recv() is not None and parked(ring.name, ROOM_BELL):
            pass
        empty = ring.consumer("empty", start="latest", wait=PATIENT)

        async def both(count):
            for _ in range(count):
                await cancelled(lambda: tx.asend(bytes(500)), ring.name, ROOM_BELL)
                await cancelled(empty.arecv, ring.name, 5120)
                assert not parked(ring.name) and not parked(ring.name, ROOM_BELL)

        await both(300)
        before = state()
        await both(5000)
        after = state()
        for what in ("descriptors", "threads", "mappings"):
            assert after[what] == before[what], what
        assert after["blocks"] - before["blocks"] < 500 and after["lent"] - before["lent"] < 65536
        empty.close()

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer(wait=PATIENT) as tx, ring.consumer("full") as rx:
        run(main(ring, tx, rx))


def state():
    gc.collect()
    with open("/proc/self/maps") as maps:
        mappings = sum("io_uring" in line or "ring" in line for line in maps)
    counted = {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
    return counted | {"mappings": mappings, "blocks": sys.getallocatedblocks(), "lent": lent_bytes() or 0}


def test_a_thousand_handles_that_come_and_go_leave_nothing(tmp_path):
    async def one(ring, tx):
        rx = ring.consumer(lossy=True, start="latest", wait=PATIENT)
        task = asyncio.create_task(rx.arecv())
        await asyncio.sleep(0)
        tx.send(b"x")
        assert await task == b"x"
        rx.close()

    async def main(ring, tx):
        ring.remove_group("default")
        for _ in range(100):
            await one(ring, tx)
        before = state()
        for _ in range(1000):
            await one(ring, tx)
        after = state()
        for what in ("descriptors", "threads", "mappings"):
            assert after[what] == before[what], what
        assert after["blocks"] - before["blocks"] < 200 and after["lent"] - before["lent"] < 65536

    with shmring.create(tmp_path / "ring", 4096) as ring, ring.producer() as tx:
        run(main(ring, tx))


def test_an_interpreter_that_ends_while_handles_are_awaited_ends_silently(unique_name, peer, way):
    program = """
        import asyncio, atexit, gc
        from shmring import aio
        from shmring.participant import leave_all
        aio.use(sys.argv[2])
        ring = shmring.open(sys.argv[1])
        rx, tx, other = ring.consumer(), ring.producer(), ring.consumer("other")
        other.fileno()
        awaited = threading.Event()
        async def main():
            await aio.ready(tx)
            task = asyncio.create_task(rx.arecv())
            await asyncio.sleep(0.01)
            awaited.set()
            try:
                while sys.argv[3] == "busy thread":
                    other.try_recv()
                    await asyncio.sleep(0)
            finally:
                task._log_destroy_pending = False
                if sys.argv[3] == "busy thread": loop.stop()
            return task
        loop = asyncio.new_event_loop()
        if sys.argv[3].endswith("thread"):
            thread = threading.Thread(target=lambda: (loop.create_task(main()), loop.run_forever()), daemon=True)
            if sys.argv[3] == "busy thread":        # it goes on calling a handle that is closed by then
                atexit.unregister(leave_all), atexit.register(gc.collect), atexit.register(thread.join, 30)
                atexit.register(leave_all)
            thread.start()
            assert awaited.wait(100)
        elif sys.argv[3] == "run":
            asyncio.run(main())
        else:
            loop.run_until_complete(main())
        say("bye")
    """
    with shmring.create(unique_name, 4096) as ring:
        for how in ("run", "pending", "thread", "busy thread"):
            other = peer(program, unique_name, way, how)
            other.expect("bye")
            _, errors = other.process.communicate()
            assert (other.process.returncode, errors) == (0, "")
            assert ring.stats().participants == [] and ring.stats().repairs == 0, json.dumps(ring.stats().as_dict())
    assert aio.backend() == way
