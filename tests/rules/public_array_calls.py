"""The calls of public_calls.py for rings of records: what test_references.py and test_memory_errors.py measure."""

from __future__ import annotations

import copy
import pickle

import numpy
from public_calls import CALLS, Stage, call, failing

import shmring

__all__ = ["CALLS", "ArrayStage"]
DTYPE = numpy.dtype([("number", "<i8"), ("rest", "V24")])
ONE, FEW, WRONG = numpy.zeros(1, DTYPE), numpy.zeros(5, DTYPE), numpy.zeros(3, "<f4")


class ArrayStage(Stage):
    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.arrays = shmring.anonymous(4096, dtype=DTYPE)
        self.atx, self.arx = self.arrays.producer(), self.arrays.consumer()
        self.aobserver = self.arrays.consumer(lossy=True)
        self.afull = shmring.anonymous(4096, dtype=DTYPE)
        self.astuck = self.afull.producer()
        while self.astuck.try_write(FEW):
            pass
        self.aclosed = self.arrays.producer(), self.arrays.consumer()
        for each in self.aclosed:
            each.close()

    def close(self):
        self.arrays.close()
        self.afull.close()
        super().close()

    def settle(self):
        super().settle()
        for rx in (self.arx, self.aobserver):
            while rx.try_read(1000) is not None:
                pass


@call("ArrayRing.close", "ArrayRing.__enter__", "ArrayRing.__exit__", "ArrayRing.shutdown", "ArrayRing.remove_group")
def array_rings(stage):
    path = stage.folder / "arrays"
    with shmring.create(path, 4096, dtype=DTYPE) as ring, shmring.open(path) as same:
        assert same.dtype == DTYPE and repr(same)
        pickle.dumps(ring)
        copy.copy(ring).close()
        ring.remove_group("default")
        ring.shutdown()
    shmring.unlink(path)


@call("ArrayRing.producer", "ArrayProducer.close", "ArrayProducer.__enter__", "ArrayProducer.__exit__")
@call("ArrayRing.consumer", "ArrayConsumer.close", "ArrayConsumer.__enter__", "ArrayConsumer.__exit__")
@call("ArrayObserver.close", "ArrayObserver.__enter__", "ArrayObserver.__exit__")
def array_handles(stage):
    ring = stage.arrays
    with ring.producer() as tx, ring.consumer("g", ephemeral=True) as rx, ring.consumer(lossy=True) as seen:
        assert repr(tx) and repr(rx) and repr(seen)


CALLS["ArrayRing.stats"] = lambda stage: stage.arrays.stats()
CALLS["ArrayRing.repair"] = lambda stage: stage.arrays.repair()
failing("ArrayRing: not made", TypeError, lambda stage: shmring.ArrayRing())
failing("ArrayRing: no dtype", ValueError, lambda stage: shmring.ArrayRing(stage.ring))
failing("create: objects", TypeError, lambda stage: shmring.anonymous(4096, dtype=object))
failing("create: too many fields", ValueError, lambda stage: shmring.anonymous(dtype=[(f"f{n}" * 9, "u1") for n in range(99)]))

CALLS["ArrayProducer.write"] = lambda stage: (stage.atx.write(FEW), stage.atx.write((1, b"")), stage.atx.write(FEW[::2]))
CALLS["ArrayProducer.try_write"] = lambda stage: stage.atx.try_write(FEW)
CALLS["ArrayProducer.try_write: full"] = lambda stage: stage.astuck.try_write(FEW)
failing("ArrayProducer.write: full", TimeoutError, lambda stage: stage.astuck.write(FEW, 0.0001))
failing("ArrayProducer.write: another dtype", TypeError, lambda stage: stage.atx.write(WRONG))
failing("ArrayProducer.write: closed", ValueError, lambda stage: stage.aclosed[0].write(FEW))
failing("ArrayProducer.reserve: too large", shmring.MessageTooLarge, lambda stage: stage.atx.reserve(1000))
failing("ArrayProducer.reserve: full", TimeoutError, lambda stage: stage.astuck.reserve(100, 0))
failing("ArrayProducer: not made", TypeError, lambda stage: shmring.ArrayProducer())
failing("ArrayProducer: pickle", TypeError, lambda stage: pickle.dumps(stage.atx))
failing("ArrayClaim: not made", TypeError, lambda stage: shmring.ArrayClaim())


@call("ArrayProducer.write: in parts")
def in_parts(stage):
    assert stage.atx.write(numpy.zeros(1000, DTYPE), 0) < 1000


@call("ArrayProducer.reserve", "ArrayClaim.array", "ArrayClaim.nrecords", "ArrayClaim.commit", "ArrayClaim.__len__")
@call("ArrayClaim.__enter__", "ArrayClaim.__exit__", "ArrayClaim.abort")
def array_claims(stage):
    with stage.atx.reserve(5) as claim:
        claim.array[: len(claim)] = FEW
        claim.commit(claim.nrecords - 1)
    for wrong in (lambda: claim.array, claim.commit, claim.__enter__):
        try:
            wrong()
            raise AssertionError
        except ValueError:
            pass
    stage.atx.reserve(5).abort()
    stage.atx.reserve(5)  # dropped


for cls, handle in ("ArrayConsumer", "arx"), ("ArrayObserver", "aobserver"):

    def of(work, handle=handle):
        def there_and_back(stage):
            stage.atx.write(FEW)
            work(getattr(stage, handle))

        return there_and_back

    def views(rx):
        with rx.borrow(2, 0) as view:
            assert len(view.array) == len(view) == 2 and view.valid and not view.redelivered and view.sequence >= 0
        view.release()
        for wrong in (lambda: view.array, view.__enter__):
            try:
                wrong()
                raise AssertionError
            except ValueError:
                pass
        rx.borrow(1, 0)  # dropped

    CALLS[f"{cls}.read"] = of(lambda rx: rx.read(3, 0))
    CALLS[f"{cls}.try_read"] = of(lambda rx: rx.try_read(9))
    CALLS[f"{cls}.read_into"] = of(lambda rx: rx.read_into(numpy.empty(3, DTYPE), 0))
    CALLS[f"{cls}.borrow"] = of(views)
    CALLS[f"{cls}.__iter__"] = CALLS[f"{cls}.__next__"] = of(lambda rx: next(iter(rx)))
    CALLS[f"{cls}.try_read: nothing"] = lambda stage, handle=handle: getattr(stage, handle).try_read(3)
    for name, take in {
        "read": lambda rx: rx.read(3, 0.0001),
        "read_into": lambda rx: rx.read_into(numpy.empty(3, DTYPE), 0),
        "borrow": lambda rx: rx.borrow(3, 0),
    }.items():
        in_vain = lambda stage, take=take, handle=handle: take(getattr(stage, handle))  # noqa: E731
        failing(f"{cls}.{name}: nothing", TimeoutError, in_vain)
    failing(f"{cls}.read: none", ValueError, lambda stage, handle=handle: getattr(stage, handle).read(0))
    failing(f"{cls}: pickle", TypeError, lambda stage, handle=handle: pickle.dumps(getattr(stage, handle)))
    failing(f"{cls}: not made", TypeError, lambda stage, cls=cls: getattr(shmring, cls)())
CALLS["ArrayObserver.latest"] = of(lambda rx: rx.latest(2, 0))
failing("ArrayObserver.latest: nothing", TimeoutError, lambda stage: stage.aobserver.latest(1, 0))
failing("ArrayConsumer.read: closed", ValueError, lambda stage: stage.aclosed[1].read(1))
failing("RecordsView: not made", TypeError, lambda stage: shmring.RecordsView())
for each in ("array", "sequence", "redelivered", "valid", "release", "__len__", "__enter__", "__exit__"):
    CALLS[f"RecordsView.{each}"] = CALLS["ArrayConsumer.borrow"]


@call("ArrayConsumer.read: no block")
def no_block(stage):
    with stage.arrays.ring.producer() as raw:
        raw.send(b"bytes")
    for rx in stage.arx, stage.aobserver:
        try:
            rx.read(1, 0)
            raise AssertionError
        except shmring.CorruptRing:
            pass


PROPERTIES = {
    "ArrayRing": lambda stage: stage.arrays,
    "ArrayProducer": lambda stage: stage.atx,
    "ArrayConsumer": lambda stage: stage.arx,
    "ArrayObserver": lambda stage: stage.aobserver,
}
for cls, target in PROPERTIES.items():
    for name in dir(getattr(shmring, cls)):
        kind = type(getattr(getattr(shmring, cls), name)).__name__
        if not name.startswith("_") and kind in ("getset_descriptor", "member_descriptor", "property"):
            CALLS.setdefault(f"{cls}.{name}", lambda stage, target=target, name=name: getattr(target(stage), name))
