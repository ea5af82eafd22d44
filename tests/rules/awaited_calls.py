"""The calls for event loops, for the table of public_calls.py: those that await, and fileno."""

from __future__ import annotations

import asyncio

from public_calls import CALLS, Stage, call

import shmring

LOOP = asyncio.new_event_loop()  # one for all: a loop of its own costs each call more than what is looked for


async def in_vain(coroutine) -> None:
    task = asyncio.ensure_future(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("it found something")


def receivers(stage: Stage) -> tuple:
    return stage.rx, stage.observer


@call("Consumer.arecv", "Observer.arecv", "Producer.asend")
def arecv(stage):
    LOOP.run_until_complete(stage.tx.asend(b"one"))
    for each in receivers(stage):
        assert LOOP.run_until_complete(each.arecv()) == b"one"


@call("Consumer.arecv_many", "Observer.arecv_many", "Producer.asend_many")
def arecv_many(stage):
    assert LOOP.run_until_complete(stage.tx.asend_many([b"one", b"two"])) == 2
    for each in receivers(stage):
        assert LOOP.run_until_complete(each.arecv_many(5)) == [b"one", b"two"]


@call("Consumer.arecv_obj", "Observer.arecv_obj", "Producer.asend_obj")
def arecv_obj(stage):
    LOOP.run_until_complete(stage.tx.asend_obj({"one": 1}))
    for each in receivers(stage):
        assert LOOP.run_until_complete(each.arecv_obj()) == {"one": 1}


@call("Consumer.arecv: cancelled", "Producer.asend: cancelled")
def cancelled(stage):
    for each in receivers(stage):
        LOOP.run_until_complete(in_vain(each.arecv()))
        LOOP.run_until_complete(in_vain(each.arecv_many(5)))
    LOOP.run_until_complete(in_vain(stage.stuck.asend(bytes(1000))))
    LOOP.run_until_complete(in_vain(stage.stuck.asend_many([bytes(1000)])))


@call("Consumer.arecv: ended")
def ended(stage):
    rx, tx = stage.behind, stage.ended
    for coroutine in (rx.arecv(), rx.arecv_many(1), tx.asend(b"x"), tx.asend_many([b"x"])):
        try:
            LOOP.run_until_complete(coroutine)
            raise AssertionError("no end")
        except shmring.ShutDown:
            pass


@call("Consumer.fileno", "Producer.fileno", "Observer.fileno")
def fileno(stage):
    for make in (stage.ring.producer, stage.ring.consumer, lambda: stage.ring.consumer(lossy=True)):
        with make() as handle:
            assert handle.fileno() == handle.fileno() > 0


@call("Consumer.fileno: closed")
def closed(stage):
    for each in stage.closed:
        try:
            each.fileno()
            raise AssertionError("it has a descriptor")
        except ValueError:
            pass


__all__ = ["CALLS"]
