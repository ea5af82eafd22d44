"""Observers under running producers, and of rings that they may only read."""

from __future__ import annotations

import zlib

import pytest
from observing import NOBODY, TOPOLOGIES

import shmring

# ---- under running producers -------------------------------------------------------------------------------

FIREHOSE = """
    import random, zlib
    ring = shmring.open(sys.argv[1])
    tx = ring.producer()
    most, count, rng = int(sys.argv[2]), int(sys.argv[3]), random.Random(1)
    bodies = [rng.randbytes(rng.randrange(most)) for _ in range(64)]
    if len(sys.argv) > 5: bodies = [bytes(ring.max_message - 12)] * 64
    say("attached")
    hear()
    for i in range(count):
        body = i.to_bytes(8, "little") + bodies[i % 64]
        tx.send(zlib.crc32(body).to_bytes(4, "little") + body)
    if len(sys.argv) > 4: ring.shutdown()
    say("done")
    hear()
"""


@pytest.mark.parametrize("producers", TOPOLOGIES)
@pytest.mark.parametrize("readonly", [False, True], ids=["attached", "readonly"])
@pytest.mark.parametrize(
    "capacity, most, count", [(4096, 100, 60_000), (4096, 3900, 30_000), (1 << 16, 30_000, 20_000)], ids=str
)
@pytest.mark.parametrize("how", ["recv", "recv_into", "peek"])
def test_what_is_read_under_a_running_producer_is_whole(
    unique_name, peer, producers, readonly, capacity, most, count, how
):
    received = 0
    buffer = memoryview(bytearray(capacity))
    with shmring.create(unique_name, capacity, producers=producers) as ring, shmring.open(
        unique_name, readonly=readonly
    ) as through:
        ring.remove_group("default")
        hose = peer(FIREHOSE, unique_name, most, count, "to the end")
        hose.expect("attached")
        with through.consumer(lossy=True, wait="spin") as observer:
            hose.say()
            last = -1
            while True:
                try:
                    if how == "peek":
                        with observer.peek() as view:
                            received += 1
                            try:
                                message = bytes(view.data)
                            except shmring.Lapped:
                                message = b""
                            if not view.valid:
                                continue  # counted, if not looked at
                    else:
                        message = buffer[: observer.recv_into(buffer)] if how == "recv_into" else observer.recv()
                        received += 1
                except shmring.ShutDown:
                    break
                assert zlib.crc32(message[4:]) == int.from_bytes(message[:4], "little")
                number = int.from_bytes(message[4:12], "little")
                assert number > last
                last = number
                assert received + observer.lost == last + 1
            assert received + observer.lost == count
            assert last == count - 1  # whoever stops looks at the newest message
        hose.expect("done")


@pytest.mark.parametrize("producers", TOPOLOGIES)
def test_lost_never_goes_back_under_a_producer_of_the_largest_messages(unique_name, peer, producers):
    with shmring.create(unique_name, 4096, producers=producers) as ring:
        ring.remove_group("default")
        hose = peer(FIREHOSE, unique_name, 1, 30_000, "to the end", "largest")
        hose.expect("attached")
        with ring.consumer(lossy=True, wait="spin") as observer:
            hose.say()
            received, last, lost = 0, -1, 0
            for message in observer:
                received += 1
                last = int.from_bytes(message[4:12], "little")
                assert lost <= observer.lost
                lost = observer.lost
                assert received + lost == last + 1
            assert received + observer.lost == 30_000
            assert last == 29_999
        hose.expect("done")


def test_observers_under_several_producers_and_a_group_see_what_the_group_sees(unique_name, peer):
    """A group that reads in step holds the producers back, so that an observer that reads in the same process loses nothing."""
    count = 4000
    with shmring.create(unique_name, 1 << 16) as ring, ring.consumer() as rx, ring.consumer(lossy=True) as observer:
        hoses = [peer(FIREHOSE, unique_name, 60, count) for _ in range(3)]
        for each in hoses:
            each.expect("attached")
        for each in hoses:
            each.say()
        for _ in range(3 * count):
            # The group's next message is still needed, so it is there for the observer, too.
            with rx.peek() as view:
                assert observer.recv() == bytes(view.data)
        assert observer.lost == 0
        for each in hoses:
            each.expect("done")


# ---- for reading only --------------------------------------------------------------------------------------

READONLY = """
    name = sys.argv[1]
    with shmring.open(name, readonly=True) as ring, ring.consumer(lossy=True) as observer:
        observer.recv()
        ring.stats()        # whatever is imported late is there before we may read little else
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(int(sys.argv[2]))
        os.setuid(int(sys.argv[2]))
    path = name if "/" in name else "/dev/shm/" + name
    try:
        os.close(os.open(path, os.O_RDWR))
    except PermissionError:
        say("may not write")
    ring = shmring.open(name, readonly=True)
    observer = ring.consumer(lossy=True)
    say(observer.recv().decode())
    with observer.peek() as view: say(bytes(view.data).decode())
    ring.stats()
    for refused in (ring.producer, ring.consumer, ring.shutdown, ring.repair, lambda: ring.remove_group("default")):
        try: refused()
        except ValueError: pass
        else: say("not refused")
    maps = [line.split() for line in open("/proc/self/maps") if path in line]
    say(" ".join(sorted({line[1] for line in maps})), len(maps))
    flags = [int(line.split()[1], 8) for fd in os.listdir("/proc/self/fd") if path in os.path.realpath("/proc/self/fd/" + fd)
             for line in open("/proc/self/fdinfo/" + fd) if line.startswith("flags")]
    say({each & os.O_ACCMODE for each in flags} == {os.O_RDONLY})
    say(observer.recv().decode())
    say(list(observer))
"""


@pytest.mark.parametrize("producers", TOPOLOGIES)
@pytest.mark.parametrize("kind", ["path", "name"])
def test_an_observer_needs_no_more_than_to_read(unique_name, peer, producers, kind):
    """A process that may only read the file, and has nothing mapped but for reading."""
    name = unique_name if kind == "name" else f"/dev/shm/{unique_name}"
    with shmring.create(name, 4096, producers=producers, mode=0o444) as ring, ring.producer() as tx:
        tx.send_many([b"one", b"two"])
        reader = peer(READONLY, name, NOBODY)
        reader.expect("may not write")
        reader.expect("one")
        reader.expect("two")
        kinds, number = reader.hear().split()
        assert kinds == "r--s" and int(number) >= 2
        reader.expect("True")
        tx.send(b"three")
        reader.expect("three")
        ring.shutdown()
        reader.expect("[]")
        reader.finish()
