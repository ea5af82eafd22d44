"""A program of a user who runs `mypy --strict`: every call of the interface, with the types it promises. Not run."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy

import shmring
from shmring import Claim, Consumer, ConsumerStats, Mapping, ObjectView, Producer, Ring, Stats, View, WaitPolicy
from shmring.codecs import Codec
from shmring.codecs.msgpack import MsgspecCodec


def make() -> Ring:
    ring: Ring = shmring.create(Path("quotes"), "16 MiB", mode=0o640, exist_ok=True, max_groups=4, align=64, reserve=False)
    other: Ring = shmring.open("quotes", timeout=1.5, readonly=True, trust=[1000, 1001])
    numbers: int = ring.capacity + ring.align + ring.max_message + ring.max_groups + ring.max_participants
    name: str | None = other.name
    print(numbers, name, ring.uuid.hex(), ring.is_shutdown or ring.closed)
    shmring.unlink("quotes")
    return shmring.anonymous(1 << 20)


def send(tx: Producer) -> int:
    tx.send(b"bytes")
    tx.send(bytearray(3), timeout=None)
    tx.send(array("d", [1.0]), timeout=0.5)
    sent: bool = tx.try_send(memoryview(b"abc"))
    count: int = tx.send_many([b"a", bytearray(b"b")], timeout=1)
    with tx.reserve(100) as claim:
        claim.view[:3] = b"abc"
        claim.commit(3)
    other: Claim = tx.reserve(10, timeout=0)
    other.abort()
    return count + int(sent)


def receive(rx: Consumer) -> list[bytes]:
    messages: list[bytes] = [rx.recv(), *rx.recv_many(10, timeout=1.0), *rx]
    maybe: bytes | None = rx.try_recv()
    length: int = rx.recv_into(bytearray(10))
    with rx.peek(timeout=0) as view:
        kept: bytes = bytes(view.data)
    late: View = rx.peek()
    late.release()
    print(maybe, length, kept, late.sequence, late.redelivered, rx.lag, rx.lost, rx.group, rx.ring.name)
    return messages


def exchange(tx: Producer, rx: Consumer) -> None:
    tx.send_obj({"id": 1}, timeout=1.0)
    tx.send_array([1.0, 2.0])
    sent: int = tx.send_objs(range(3), timeout=None) + int(tx.try_send_obj("x"))
    objs: list[object] = [rx.recv_obj(), rx.try_recv_obj(default=0), *rx.recv_objs(3, timeout=0.5)]
    with rx.peek_array() as view:
        kept = view.array.copy()
    lent: ObjectView = rx.peek_obj(timeout=0)
    lent.release()
    rx.borrow_limit, rx.codec = "1 MiB", MsgspecCodec("quotes", dict[str, int])
    stats: ConsumerStats = rx.stats
    seconds: list[float] = [pin.seconds for pin in stats.pins]
    codec: Codec = shmring.codecs.get("pickle")
    print(sent, objs, kept, rx.recv_array(out=kept).shape, seconds, rx.borrow_limit, codec.pack(1), tx.codec.name)


async def awaits(tx: Producer, rx: Consumer) -> str:
    message: bytes = await rx.arecv()
    batch: list[bytes] = await rx.arecv_many(10)
    await tx.asend(memoryview(message))
    sent: int = await tx.asend_many(batch)
    async for each in rx:
        length: int = len(each) + sent + rx.fileno() + tx.fileno()
        print(length)
    await tx.asend_obj({"id": await rx.arecv_obj()})
    await shmring.aio.ready(tx)
    shmring.aio.use(None)
    return shmring.aio.backend()


def run() -> None:
    with make() as ring, ring.producer(wait="park") as tx, ring.consumer("all", start="latest", wait=WaitPolicy(held=5)) as rx:
        producers: list[Producer] = shmring.wait([tx], timeout=0)
        consumers: list[Consumer] = shmring.wait([rx])
        both: list[Producer | Consumer] = shmring.wait([tx, rx], None)
        print(send(tx), receive(rx), producers, consumers, both, WaitPolicy.spin.held)
        stats: Stats = ring.stats()
        lag: int = stats.groups[0].lag
        exchange(tx, rx)
        pids: list[int] = stats.groups[0].members
        print(lag, pids, [each.role for each in stats.participants], stats.as_dict())
        ring.remove_group("all")
        repaired: int = ring.repair()
        ring.shutdown()
        print(repaired)


def queues(q: shmring.Queue[int]) -> shmring.JoinableQueue[str]:
    q.put(1)
    q.put_many([2, 3], timeout=0.5)
    one: int = q.get() + q.get_nowait()
    some: list[int] = q.get_many(10, block=False)
    print(one, some, q.qsize(), q.full(), q.empty(), q.maxsize, q.ring.capacity)
    simple: shmring.SimpleQueue[bytes] = shmring.SimpleQueue(capacity="1 MiB", wait="park")
    simple.put(b"bytes")
    with shmring.Queue[float](5, name="jobs", exist_ok=True, mode=0o660) as named:
        named.put(1.5)
        named.unlink()
    return shmring.JoinableQueue.open("tasks", timeout=1)


def arrays() -> None:
    dtype = numpy.dtype([("time", "<i8"), ("price", "<f8")])
    with shmring.create("typed", "1 MiB", dtype=dtype) as ring, ring.producer() as tx, ring.consumer() as rx:
        written: int = tx.write(numpy.zeros(3, dtype), timeout=1.0) + tx.try_write([(1, 2.0)])
        with tx.reserve(10) as claim:
            claim.array["time"] = 7
            claim.commit(claim.nrecords - 1)
        block = rx.read(10, timeout=1)
        some = rx.try_read(10)
        with rx.borrow(5) as view:
            total: float = view.array["price"].sum()
        print(written, block.dtype, some, total, rx.lag, ring.stats().used, shmring.wait([rx], timeout=0))
        print(ring.consumer(lossy=True).latest(1), [each.shape for each in rx], ring.ring.consumer().recv())


def memory() -> None:
    with Mapping.file("data", 4096, create=True, access="write", populate=True) as mapping:
        mapping[0] = 7
        mapping[1:3] = b"ab"
        byte: int = mapping[0]
        some: bytes = mapping[1:3]
        view: memoryview = mapping.view
        mapping.flush(wait=False)
        mapping.advise("willneed")
        mapping.resize(8192)
        print(byte, some, view, memoryview(mapping).nbytes, mapping.wasted, mapping.fileno())
    print(len(Mapping.anonymous(10, mirrored=True)), Mapping.memfd(10, huge=True).huge, Mapping.shm("name").kind)


def fail() -> None:
    try:
        run()
    except (shmring.ProducerTaken, shmring.RingTruncated, FileNotFoundError) as error:
        print(error.errno)
    except shmring.Lapped as error:
        print(error.args)
    except shmring.Error:
        print(shmring.get_include(), shmring.__version__)
