"""Every public call as something that can be made again and again, errors included: what test_references.py measures.

The key is "Class.method", or a function's name, and after a colon what is special about the call. Each leaves its stage as it
found it.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import pickle

import shmring
from shmring import Mapping, WaitPolicy

CALLS: dict[str, object] = {}
ROOM = bytes(1000)


class Stage:
    """What the calls are made on: a full ring, an empty one, one of each handle, a mapping."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.path = folder / "not a ring"
        self.path.write_bytes(bytes(100_000))
        self.ring = shmring.create(name, 4096, max_participants=6, max_groups=3)
        self.tx, self.rx = self.ring.producer(), self.ring.consumer()
        self.observer = self.ring.consumer(lossy=True)
        self.full = shmring.anonymous(4096, producers="single", max_participants=3, max_groups=2)
        self.stuck = self.full.producer()
        while self.stuck.try_send(ROOM):
            pass
        self.over = shmring.anonymous(4096)
        self.ended, self.behind = self.over.producer(), self.over.consumer()
        self.over.shutdown()
        self.closed_ring = shmring.anonymous(4096)
        self.closed = self.closed_ring.producer(), self.closed_ring.consumer(), self.closed_ring.consumer(lossy=True)
        self.closed_ring.close()
        self.mapping = Mapping.memfd(8192)
        self.readonly = shmring.open(name, readonly=True)
        self.blind = self.readonly.consumer(lossy=True)
        self.buffer = bytearray(4096)

    def close(self):
        for each in (self.blind, self.readonly, self.ring, self.full, self.over, self.mapping):
            each.close()
        shmring.unlink(self.name)

    def one(self):
        """A message on its way."""
        self.tx.send(b"one")

    def settle(self):
        """After a call: nothing is on its way."""
        for rx in (self.rx, self.observer):
            while rx.try_recv() is not None:
                pass


def call(*names):
    def enter(function):
        for name in names:
            CALLS[name] = function
        return function

    return enter


def failing(name, error, function):
    def fails(stage):
        try:
            function(stage)
        except error:
            return
        raise AssertionError(f"{name}: no error")

    CALLS[name] = fails


# ---- functions -----------------------------------------------------------------------------------------------------


@call("create", "open", "unlink", "Ring.close", "Ring.__enter__", "Ring.__exit__")
def create(stage):
    path = stage.folder / "ring"
    with shmring.create(path, 4096), shmring.open(path), shmring.create(path, 4096, exist_ok=True):
        pass
    shmring.unlink(path)


@call("anonymous")
def anonymous(stage):
    shmring.anonymous("4 KiB").close()


CALLS["get_include"] = lambda stage: shmring.get_include()
CALLS["wait"] = lambda stage: shmring.wait([stage.tx, stage.observer], 0)


@call("wait: in vain")
def wait_in_vain(stage):
    try:
        shmring.wait([stage.rx], 0.0001)
    except OSError as error:
        assert error.errno == errno.ENOSYS  # an old kernel, or valgrind


failing("wait: nothing", ValueError, lambda stage: shmring.wait([]))
failing("wait: closed", ValueError, lambda stage: shmring.wait([stage.tx, stage.closed[0]]))
failing("wait: no handle", TypeError, lambda stage: shmring.wait([1]))
CALLS["wait: blind"] = lambda stage: shmring.wait([stage.blind], 0.0005)
failing("unlink: no ring", shmring.LayoutMismatch, lambda stage: shmring.unlink("/proc/self/status"))
failing("create: taken", shmring.RingExists, lambda stage: shmring.create(stage.name, 4096))
failing("create: another shape", shmring.Error, lambda stage: shmring.create(stage.name, 8192, exist_ok=True))
failing("create: no shape", ValueError, lambda stage: shmring.create("x", "no size"))
failing("create: no folder", OSError, lambda stage: shmring.create(stage.folder / "none" / "ring", 4096))
failing("open: nothing", shmring.RingNotFound, lambda stage: shmring.open(stage.folder / "none"))
failing("open: in vain", shmring.RingNotFound, lambda stage: shmring.open(stage.folder / "none", timeout=0.0001))
failing("open: no ring", shmring.LayoutMismatch, lambda stage: shmring.open(stage.path))
failing("unlink: nothing", FileNotFoundError, lambda stage: shmring.unlink(stage.folder / "none"))
failing("anonymous: no shape", ValueError, lambda stage: shmring.anonymous(4096, align=5))

# ---- rings ---------------------------------------------------------------------------------------------------------


@call("Ring.producer", "Producer.close", "Producer.__enter__", "Producer.__exit__")
def producer(stage):
    with stage.ring.producer(wait="park"):
        pass


@call("Ring.consumer", "Ring.remove_group", "Consumer.close", "Consumer.__enter__", "Consumer.__exit__")
def consumer(stage):
    with stage.ring.consumer("g", wait=WaitPolicy(held=3)):
        pass
    stage.ring.remove_group("g")
    stage.ring.consumer("e", ephemeral=True).close()


@call("Observer.close", "Observer.__enter__", "Observer.__exit__")
def observer(stage):
    for ring in (stage.ring, stage.readonly):
        with ring.consumer(lossy=True, start="latest"):
            pass


@call("Ring.shutdown")
def shutdown(stage):
    with shmring.anonymous(4096) as ring:
        ring.shutdown()


CALLS["Ring.repair"] = lambda stage: stage.ring.repair()
CALLS["Ring.stats"] = lambda stage: stage.ring.stats().as_dict()
CALLS["Ring: repr, copy"] = lambda stage: (repr(stage.ring), copy.copy(stage.ring).close(), pickle.dumps(stage.ring))
failing("Ring: not made", TypeError, lambda stage: shmring.Ring())
failing("Ring: pickle", TypeError, lambda stage: pickle.dumps(stage.full))
failing("Ring.producer: taken", shmring.ProducerTaken, lambda stage: stage.full.producer())
failing("Ring.producer: closed", ValueError, lambda stage: stage.closed_ring.producer())
failing("Ring.producer: read only", ValueError, lambda stage: stage.readonly.producer())
failing("Ring.producer: no policy", ValueError, lambda stage: stage.ring.producer(wait="now"))
failing("Ring.consumer: exclusive", shmring.MemberTaken, lambda stage: stage.ring.consumer(exclusive=True))
failing("Ring.consumer: no name", ValueError, lambda stage: stage.ring.consumer("x" * 1000))
failing("Ring.consumer: other options", ValueError, lambda stage: stage.ring.consumer(redeliver=False))
failing("Ring.remove_group: nothing", (KeyError, shmring.Error, ValueError), lambda stage: stage.ring.remove_group("none"))
failing("Ring.remove_group: members", shmring.MemberTaken, lambda stage: stage.ring.remove_group("default"))
failing("Ring.stats: closed", ValueError, lambda stage: stage.closed_ring.stats())


@call("Ring.consumer: too many")
def too_many(stage):
    with contextlib.ExitStack() as stack:
        try:
            while True:
                stack.enter_context(stage.ring.consumer(lossy=True))
        except shmring.TooManyParticipants:
            pass


@call("Ring.consumer: too many groups")
def too_many_groups(stage):
    stage.ring.consumer("1", ephemeral=True)
    with stage.ring.consumer("1", ephemeral=True), stage.ring.consumer("2", ephemeral=True):
        try:
            stage.ring.consumer("3")
        except shmring.TooManyGroups:
            pass


@call("Ring.close: in use")
def close_in_use(stage):
    stage.one()
    with stage.rx.peek(0) as view, memoryview(view.data):
        for each in (stage.ring, stage.rx):
            try:
                each.close()
                raise AssertionError("closed")
            except BufferError:
                pass


# ---- producers -----------------------------------------------------------------------------------------------------


CALLS["Producer.send"] = lambda stage: (stage.tx.send(b"x"), stage.tx.send(bytearray(b"x"), 1))
CALLS["Producer.try_send"] = lambda stage: stage.tx.try_send(memoryview(b"x"))
CALLS["Producer.try_send: full"] = lambda stage: stage.stuck.try_send(ROOM)
CALLS["Producer.send_many"] = lambda stage: stage.tx.send_many(iter([b"1", bytearray(2), b"3"]))
CALLS["Producer: repr"] = lambda stage: repr(stage.tx)
failing("Producer.send: full", TimeoutError, lambda stage: stage.stuck.send(ROOM, timeout=0.0001))
failing("Producer.send: too large", shmring.MessageTooLarge, lambda stage: stage.tx.send(bytes(5000)))
failing("Producer.send: no bytes", TypeError, lambda stage: stage.tx.send("text"))
failing("Producer.send: no time-out", ValueError, lambda stage: stage.tx.send(b"", timeout=-1))
failing("Producer.send: the end", shmring.ShutDown, lambda stage: stage.ended.send(b""))
failing("Producer.send: closed", ValueError, lambda stage: stage.closed[0].send(b""))
failing("Producer.try_send: too large", shmring.MessageTooLarge, lambda stage: stage.tx.try_send(bytes(5000)))
failing("Producer.try_send: no bytes", TypeError, lambda stage: stage.tx.try_send(None))
failing("Producer.send_many: full", TimeoutError, lambda stage: stage.stuck.send_many([ROOM, ROOM], timeout=0))
failing("Producer.send_many: no list", TypeError, lambda stage: stage.tx.send_many(3))
failing("Producer.send_many: the end", shmring.ShutDown, lambda stage: stage.ended.send_many([b""]))
call("Producer.drain")(lambda stage: stage.tx.drain())
failing("Producer.drain: not empty", TimeoutError, lambda stage: stage.stuck.drain(0))
failing("Producer.reserve: full", TimeoutError, lambda stage: stage.stuck.reserve(1000, 0))
failing("Producer.reserve: too large", shmring.MessageTooLarge, lambda stage: stage.tx.reserve(5000))
failing("Producer.reserve: negative", ValueError, lambda stage: stage.tx.reserve(-1))
failing("Producer: pickle", TypeError, lambda stage: pickle.dumps(stage.tx))
failing("Producer: not made", TypeError, lambda stage: shmring.Producer())
failing("Claim: not made", TypeError, lambda stage: shmring.Claim())


@call("Producer.send_many: partly")
def partly(stage):
    try:
        stage.tx.send_many([b"1", bytearray(1), "no bytes"])
    except TypeError as error:
        assert error.sent == 2
    assert len(stage.rx.recv_many(2, 0)) == 2


@call("Producer.reserve", "Claim.view", "Claim.nbytes", "Claim.sequence", "Claim.commit", "Claim.__enter__", "Claim.__exit__")
def reserve(stage):
    with stage.tx.reserve(100) as claim:
        claim.view[: claim.nbytes] = bytes(100)
        assert claim.sequence % 16 == 0
        for wrong in (lambda: claim.commit(101), lambda: stage.tx.send(b"")):
            try:
                wrong()
                raise AssertionError
            except (ValueError, shmring.ClaimOpen):
                pass
        claim.commit(3)


@call("Claim.abort")
def abort(stage):
    claim = stage.tx.reserve(100)
    memoryview(claim.view).release()
    claim.abort()
    claim.abort()
    try:
        claim.commit()
    except ValueError:
        pass
    stage.tx.reserve(5)  # dropped
    assert stage.rx.try_recv() is None


# ---- consumers and observers -----------------------------------------------------------------------------------------


def views(handle):
    def peeking(stage):
        stage.one()
        rx = getattr(stage, handle)
        with rx.peek(0) as view, memoryview(view.data) as data:
            assert len(view) == len(data) and view.sequence >= 0 and view.valid and not view.redelivered
        view.release()
        for wrong in (lambda: view.data, view.__enter__):
            try:
                wrong()
                raise AssertionError
            except ValueError:
                pass

    return peeking


for each in ("data", "sequence", "valid", "redelivered", "release", "__len__", "__enter__", "__exit__"):
    CALLS[f"View.{each}"] = views("rx")
    CALLS[f"ObservedView.{each}"] = views("observer")
CALLS["Consumer.peek"], CALLS["Observer.peek"] = views("rx"), views("observer")
for cls, handle in ("Consumer", "rx"), ("Observer", "observer"):

    def of(take, handle=handle):
        def there_and_back(stage):
            stage.one()
            take(getattr(stage, handle), stage)

        return there_and_back

    CALLS[f"{cls}.recv"] = of(lambda rx, stage: rx.recv(0))
    CALLS[f"{cls}.try_recv"] = of(lambda rx, stage: rx.try_recv())
    CALLS[f"{cls}.recv_many"] = of(lambda rx, stage: rx.recv_many(5, 0))
    CALLS[f"{cls}.recv_into"] = of(lambda rx, stage: rx.recv_into(stage.buffer, 0))
    CALLS[f"{cls}.__iter__"] = CALLS[f"{cls}.__next__"] = of(lambda rx, stage: next(iter(rx)))
    CALLS[f"{cls}: repr"] = lambda stage, handle=handle: repr(getattr(stage, handle))
    CALLS[f"{cls}.try_recv: nothing"] = lambda stage, handle=handle: getattr(stage, handle).try_recv()
    for name, work in {
        "recv": lambda rx, stage: rx.recv(0.0001),
        "recv_many": lambda rx, stage: rx.recv_many(5, 0),
        "recv_into": lambda rx, stage: rx.recv_into(stage.buffer, 0),
        "peek": lambda rx, stage: rx.peek(0),
    }.items():
        index = 1 if handle == "rx" else 2
        in_vain = lambda stage, work=work, handle=handle: work(getattr(stage, handle), stage)  # noqa: E731
        too_late = lambda stage, work=work, index=index: work(stage.closed[index], stage)  # noqa: E731
        failing(f"{cls}.{name}: nothing", TimeoutError, in_vain)
        failing(f"{cls}.{name}: closed", ValueError, too_late)
    failing(f"{cls}.recv_many: none", ValueError, lambda stage, handle=handle: getattr(stage, handle).recv_many(0))
    failing(f"{cls}: pickle", TypeError, lambda stage, handle=handle: pickle.dumps(getattr(stage, handle)))
CALLS["Observer.latest"] = of(lambda rx, stage: rx.latest(0))
failing("Observer.latest: nothing", TimeoutError, lambda stage: stage.observer.latest(0))
failing("Observer.peek: blind, nothing", TimeoutError, lambda stage: (stage.blind.latest(0), stage.blind.peek(0)))
failing("Consumer.recv: the end", shmring.ShutDown, lambda stage: stage.behind.recv())
failing("Consumer.__next__: the end", StopIteration, lambda stage: next(stage.behind))
failing("Consumer.try_recv: the end", shmring.ShutDown, lambda stage: stage.behind.try_recv())
for each in ("Consumer", "Observer", "View", "ObservedView"):
    failing(f"{each}: not made", TypeError, lambda stage, each=each: getattr(shmring, each)())


@call("Consumer.recv_into: too small", "Observer.recv_into: too small")
def too_small(stage):
    stage.tx.send(bytes(100))
    for rx in (stage.rx, stage.observer):
        for wrong in (bytearray(3), b"read only buffer" * 10, None):
            try:
                rx.recv_into(wrong, 0)
                raise AssertionError
            except (ValueError, TypeError, BufferError, shmring.Error):
                pass


@call("Consumer.peek: many views")
def many_views(stage):
    stage.tx.send_many([b"x"] * 40)
    held = [stage.rx.peek(0) for _ in range(40)]
    for view in held[::2]:
        view.release()


@call("Observer.recv: lapped", "Observer.peek: lapped")
def lapped(stage):
    with stage.ring.consumer(lossy=True) as slow:
        stage.settle()
        stage.one()
        view = slow.peek(0)
        stage.rx.recv(0)
        for _ in range(10):
            stage.tx.send(bytes(900))
            stage.rx.recv(0)
        assert not view.valid
        try:
            view.data  # noqa: B018
        except shmring.Lapped:
            pass
        slow.recv(0)
        assert slow.lost


# ---- mappings --------------------------------------------------------------------------------------------------------


@call("Mapping.file", "Mapping.shm", "Mapping.memfd", "Mapping.anonymous", "Mapping.from_fd")
@call("Mapping.close", "Mapping.__enter__")
def mappings(stage):
    with Mapping.file(stage.path) as mapping, Mapping.from_fd(mapping.fileno(), 4096, access="read"):
        pass
    with Mapping.shm(stage.name), Mapping.memfd(4096, mirrored=True), Mapping.anonymous(4096):
        pass


@call("Mapping.__exit__", "Mapping.resize", "Mapping.view", "Mapping.fileno")
def resize(stage):
    with Mapping.memfd(4096) as mapping:
        with memoryview(mapping.view):
            for wrong in (lambda: mapping.resize(8192), mapping.close):
                try:
                    wrong()
                    raise AssertionError
                except BufferError:
                    pass
        mapping.view.release()
        mapping.resize(8192)
        os.fstat(mapping.fileno())


@call("Mapping.read", "Mapping.write", "Mapping.flush", "Mapping.advise", "Mapping.__buffer__", "Mapping.__len__")
def contents(stage):
    mapping = stage.mapping
    mapping.write(b"text", 4090)
    assert mapping.read(4090, 4) == b"text" and len(mapping) == 8192 and bytes(mapping)
    mapping.flush()
    mapping.advise("willneed")
    with memoryview(mapping):
        pass


@call("Mapping.__getitem__", "Mapping.__setitem__")
def items(stage):
    mapping = stage.mapping
    mapping[3] = 7
    mapping[5:9] = b"text"
    assert mapping[3] == 7 and mapping[5:9] == b"text" and repr(mapping)


failing("Mapping.read: outside", (ValueError, IndexError), lambda stage: stage.mapping.read(9000, 1))
failing("Mapping.write: outside", (ValueError, IndexError), lambda stage: stage.mapping.write(bytes(9000)))
failing("Mapping.advise: unknown", ValueError, lambda stage: stage.mapping.advise("nothing"))
failing("Mapping.file: nothing", FileNotFoundError, lambda stage: Mapping.file(stage.folder / "none"))
failing("Mapping.file: no size", (ValueError, TypeError), lambda stage: Mapping.file(stage.folder / "none", create=True))
failing("Mapping.from_fd: no descriptor", OSError, lambda stage: Mapping.from_fd(987654, 4096))
failing("Mapping: not made", TypeError, lambda stage: Mapping())

# ---- the rest --------------------------------------------------------------------------------------------------------



@call("WaitPolicy.spin", "WaitPolicy.park", "WaitPolicy.adaptive")
def policies(stage):
    assert {WaitPolicy(1, 2.0), WaitPolicy.spin, copy.copy(WaitPolicy.park)} and repr(WaitPolicy.adaptive)


CALLS["Stats.as_dict"] = lambda stage: stage.ring.stats().as_dict()
failing("WaitPolicy: wrong", ValueError, lambda stage: WaitPolicy(held=-1))
PROPERTIES = {
    "Ring": lambda stage: stage.ring,
    "Producer": lambda stage: stage.tx,
    "Consumer": lambda stage: stage.rx,
    "Observer": lambda stage: stage.observer,
    "Mapping": lambda stage: stage.mapping,
    "WaitPolicy": lambda stage: WaitPolicy.park,
}
for cls, target in PROPERTIES.items():
    for name in dir(getattr(shmring, cls)):
        kind = type(getattr(getattr(shmring, cls), name)).__name__
        if not name.startswith("_") and kind in ("getset_descriptor", "member_descriptor", "property"):
            CALLS.setdefault(f"{cls}.{name}", lambda stage, target=target, name=name: getattr(target(stage), name))
