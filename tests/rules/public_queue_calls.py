"""Every public call of the queues, for test_references.py: as public_calls.py has those of rings."""

from __future__ import annotations

import contextlib
import pickle
import queue

from public_calls import call, failing

import shmring

KINDS = {kind.__name__: kind for kind in (shmring.SimpleQueue, shmring.Queue, shmring.JoinableQueue)}
_made = {}


def queues(stage):
    """Name -> a queue of that kind which holds one object at most; made once for a stage."""
    if stage not in _made:
        _made.clear()
        bounds = {"SimpleQueue": (), "Queue": (1,), "JoinableQueue": (1,)}
        _made[stage] = {name: kind(*bounds[name], capacity=4096) for name, kind in KINDS.items()}
    return _made[stage]


def of_all(*names, kinds=("SimpleQueue", "Queue", "JoinableQueue")):
    """Register a call for each kind of queue."""

    def register(use):
        for kind in kinds:
            covered = [f"{kind}.{name}" for name in names]
            call(*covered)(lambda stage, kind=kind: use(queues(stage)[kind]))
        return use

    return register


def done(q):
    if isinstance(q, shmring.JoinableQueue):
        q.task_done()


@of_all("put", "get", "empty", "ring")
def put_and_get(q):
    q.put({"a": [1, 2]})
    assert not q.empty() and q.ring.capacity == 4096
    assert q.get() == {"a": [1, 2]}
    done(q)


@of_all("put_nowait", "get_nowait", "put_many", "get_many", "qsize", "full", "maxsize", kinds=("Queue", "JoinableQueue"))
def every_other_way(q):
    q.put_nowait(1)
    assert q.full() and q.qsize() == q.maxsize == 1
    for put in (q.put_nowait, lambda one: q.put(one, timeout=0.0001), lambda one: q.put_many([one], False)):
        with contextlib.suppress(queue.Full):
            put(2)
            raise AssertionError
    assert q.get_nowait() == 1
    done(q)
    q.put_many([3])
    assert q.get_many(5) == [3]
    done(q)
    for get in (q.get_nowait, lambda: q.get(timeout=0.0001), lambda: q.get_many(5, False)):
        with contextlib.suppress(queue.Empty):
            get()
            raise AssertionError


def large_queues(stage):
    if (stage, "large") not in _made:
        made = shmring.Queue(3, capacity="1 MiB"), shmring.SimpleQueue(capacity="1 MiB")
        _made[stage, "large"] = {type(each).__name__: each for each in made}
    return _made[stage, "large"]


@call("Queue.put: large", "Queue.get: large", "Queue.put_many: large", "Queue.get_many: large")
def large_objects(stage):
    q, content = large_queues(stage)["Queue"], bytearray(20_000)
    q.put(pickle.PickleBuffer(content))
    assert q.get() == content
    q.put_many([1, pickle.PickleBuffer(content), pickle.PickleBuffer(content)])
    with contextlib.suppress(queue.Full):
        q.put(pickle.PickleBuffer(content), False)
        raise AssertionError
    got = q.get_many(2)
    got += q.get_many(3 - len(got))
    assert got == [1, content, content]


@call("SimpleQueue.put: large", "SimpleQueue.get: damaged")
def large_and_damaged(stage):
    q = large_queues(stage)["SimpleQueue"]
    q.put([pickle.PickleBuffer(bytearray(20_000))])
    assert len(q.get()[0]) == 20_000
    for message in b"\x01pk5" + bytes(10), b"\x01pk5" + b"\xff" * 20_000:
        q._send(message)
        with contextlib.suppress(shmring.CodecError):
            q.get()
            raise AssertionError


@of_all("task_done", "join", "redelivered", kinds=("JoinableQueue",))
def tasks(q):
    q.put("task")
    with contextlib.suppress(TimeoutError):
        q.join(0)
        raise AssertionError
    q.get()
    assert not q.redelivered
    q.task_done()
    q.join()
    with contextlib.suppress(ValueError):
        q.task_done()
        raise AssertionError


@of_all("put: not to be pickled", "put: too large")
def refused(q):
    for obj in (lambda: None, bytes(5000)):
        with contextlib.suppress(AttributeError, pickle.PicklingError, shmring.MessageTooLarge):
            q.put(obj)
            raise AssertionError
    assert q.empty()


for name, kind in KINDS.items():

    @call(*[f"{name}.{method}" for method in ("open", "close", "unlink", "__enter__", "__exit__")])
    def lifetime(stage, kind=kind):
        with kind(name=f"{stage.name}-queue", capacity=4096) as q:
            q.put(1)
            with kind.open(f"{stage.name}-queue") as same:
                assert same.get() == 1
                done(same)
            q.unlink()
        q.close()

    failing(f"{name}.open: none", shmring.RingNotFound, lambda stage, kind=kind: kind.open(f"{stage.name}-none"))
    failing(f"{name}.open: a ring", shmring.LayoutMismatch, lambda stage, kind=kind: kind.open(stage.name))
    failing(f"{name}: pickle", RuntimeError, lambda stage, kind=kind: pickle.dumps(kind(capacity=4096)))


@call(*[f"{name}.{method}" for name in ("Queue", "JoinableQueue") for method in ("join_thread", "cancel_join_thread")])
def threads(stage):
    for kind in shmring.Queue, shmring.JoinableQueue:
        q = kind(capacity=4096)
        q.put(1)
        q.cancel_join_thread()
        q.close()
        q.join_thread()
