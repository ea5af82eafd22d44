"""The public calls that need a codec, as public_calls.py has the others: they are added to its CALLS."""

from __future__ import annotations

import contextlib

import numpy as np
from public_calls import CALLS, ROOM, call, failing

import shmring

ARRAY = np.arange(100.0)
SMALL = {"id": 1, "name": "x"}
LENT = ("data", "redelivered", "release", "sequence", "valid", "__enter__", "__exit__")
LARGE = {"array": ARRAY, "text": "x"}


@call("Producer.send_obj", "Producer.try_send_obj", "Producer.send_objs", "Consumer.recv_obj", "Consumer.recv_objs")
@call("Consumer.try_recv_obj", "Producer.codec", "Consumer.codec")
def objects(stage):
    for obj in SMALL, LARGE:
        stage.tx.send_obj(obj)
        assert stage.tx.try_send_obj(obj) and stage.tx.send_objs([obj]) == 1
        assert len(stage.rx.recv_obj(0)) == len(stage.rx.try_recv_obj()) == len(stage.rx.recv_objs(9, 0)[0]) == 2
    assert stage.rx.try_recv_obj() is None and stage.rx.codec is stage.tx.codec


@call("Observer.recv_obj", "Observer.try_recv_obj", "Observer.recv_objs", "Observer.recv_array", "Observer.codec")
def observed(stage):
    stage.tx.send_objs([SMALL, LARGE, SMALL])
    assert len(stage.observer.recv_obj(0)) == len(stage.observer.try_recv_obj()) == len(stage.observer.recv_objs(1, 0)[0]) == 2
    stage.tx.send_array(ARRAY)
    assert len(stage.observer.recv_array(0)) == 100


@call("Consumer.peek_obj", "Consumer.stats", "ConsumerStats.as_dict")
@call("ObjectView.obj", *(f"ObjectView.{name}" for name in LENT))
def peeked(stage):
    stage.tx.send_obj(LARGE)
    with stage.rx.peek_obj(0) as view:
        assert len(view.data) > 800 and view.sequence >= 0 and view.valid and not view.redelivered
        kept = view.obj["array"]
    assert len(kept) == len(stage.rx.stats.as_dict()["pins"]) * 100
    view.release()


@call("Producer.send_array", "Consumer.peek_array", "Consumer.recv_array", "Consumer.borrow_limit")
@call("ArrayView.array", *(f"ArrayView.{name}" for name in LENT))
def arrays(stage):
    for _ in range(3):
        stage.tx.send_array(ARRAY)
    try:
        stage.rx.recv_array(0, out=np.empty(99))
    except ValueError:
        stage.rx.recv_array(0, out=np.empty(100))
    with stage.rx.peek_array(0) as view:
        assert view.valid and view.sequence >= 0 and not view.redelivered and len(view.data) == 864
        assert np.mean(view) == view.array.mean() and len(np.from_dlpack(view)) == 100
    assert len(stage.rx.recv_array(0)) == 100


def refused(receive):
    def refuses(stage):
        stage.tx.send(b"neither")
        try:
            receive(stage.rx)
        except shmring.CodecError:
            return
        raise AssertionError("no error")

    return refuses


for name, receive in {
    "recv_obj": lambda rx: rx.recv_obj(0),
    "recv_objs": lambda rx: rx.recv_objs(1, 0),
    "peek_obj": lambda rx: rx.peek_obj(0),
    "recv_array": lambda rx: rx.recv_array(0),
    "peek_array": lambda rx: rx.peek_array(0),
}.items():
    CALLS[f"Consumer.{name}: neither"] = refused(receive)
    failing(f"Consumer.{name}: nothing", TimeoutError, lambda stage, receive=receive: receive(stage.rx))
failing("Producer.send_obj: no pickle", Exception, lambda stage: stage.tx.send_obj(lambda: None))
failing("Producer.send_obj: full", TimeoutError, lambda stage: stage.stuck.send_obj(ROOM, 0))
failing("Producer.send_array: full", TimeoutError, lambda stage: stage.stuck.send_array(ARRAY, 0))
failing("Producer.send_array: objects", TypeError, lambda stage: stage.tx.send_array([None]))
failing("Producer.send_objs: partly", Exception, lambda stage: stage.tx.send_objs([1, lambda: None]))
failing("Producer.codec: unknown", shmring.UnknownCodec, lambda stage: setattr(stage.tx, "codec", "none"))
CALLS["Producer.try_send_obj: full"] = lambda stage: stage.stuck.try_send_obj(ROOM) or stage.stuck.try_send_obj(LARGE)


@call("Consumer.recv: borrowed too long")
def borrowed_too_long(stage):
    stage.rx.borrow_limit = 100
    stage.tx.send(bytes(100))
    with stage.rx.peek(0) as view:
        kept = np.frombuffer(view.data, "u1")
    with contextlib.suppress(shmring.BorrowedTooLong):
        stage.rx.recv()
        raise AssertionError("no error")
    del kept
    stage.rx.borrow_limit = 0.5
