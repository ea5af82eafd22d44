"""What the tests of many producers share."""

from __future__ import annotations

import itertools

import pytest

from shmring import WaitPolicy, creation


@pytest.fixture
def topology():
    return "multi"


PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
HEADER = 16

WRITER = """
    import random
    tx = shmring.open(sys.argv[1]).producer(wait=sys.argv[4])
    me, count = int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(me)
    say("attached")
    hear()
    def message(i): return b"%d %d " % (me, i) + bytes(rng.randrange(120))
    i = 0
    while i < count:
        how = rng.randrange(4)
        if how == 0:
            tx.send(message(i))
        elif how == 1:
            some = [message(j) for j in range(i, min(count, i + rng.randrange(1, 12)))]
            assert tx.send_many(some) == len(some)
            i += len(some) - 1
        elif how == 2:
            body = message(i)
            with tx.reserve(len(body) + rng.randrange(40)) as claim:
                claim.view[:len(body)] = body
                claim.commit(len(body))
        else:
            tx.reserve(rng.randrange(100)).abort()
            tx.send(bytearray(message(i)))
        i += 1
    say("done")
"""


def origin_of(message: bytes) -> tuple[int, int]:
    """Who sent it, and which of theirs it is."""
    who, number, *_ = message.split(b" ")
    return int(who), int(number)


def assert_complete(received: list[bytes], producers: int, count: int):
    """Every message of every producer, once, and each one's in its order."""
    for who in range(producers):
        assert [number for each, number in map(origin_of, received) if each == who] == list(range(count))
    assert len(received) == producers * count


def drain(rx) -> list[bytes]:
    got = []
    while (message := rx.try_recv()) is not None:
        got.append(message)
    return got


@pytest.fixture
def multi_at():
    """Make an anonymous ring of many producers whose first record has a chosen position (a multiple of 64)."""
    made = []

    def make(origin, capacity=4096, align=16, max_participants=12, max_groups=4):
        shape = creation._Shape(capacity, "multi", max_participants, max_groups, align, origin=origin)
        made.append(creation._make_anonymous(shape, True))
        return made[-1]

    yield make
    for each in made:
        each.close()


def talk(ring, rng, producers, readers, steps):
    """Producers take turns in every way of sending; all readers must see the order of the calls."""
    expected = []
    serial = itertools.count()

    def message(most=300):
        return (b"%d." % next(serial)) * rng.randrange(1, 40) + bytes(rng.randrange(most))

    for _ in range(steps):
        tx = rng.choice(producers)
        how = rng.choice(["send", "try", "many", "mixed", "claim", "abort"])
        try:
            if how == "send":
                expected.append(message())
                tx.send(expected[-1], timeout=0)
            elif how == "try":
                body = message()
                if tx.try_send(body):
                    expected.append(body)
            elif how in ("many", "mixed"):
                batch = [message(100) for _ in range(rng.randrange(1, 9))]
                shown = [bytearray(each) if how == "mixed" and rng.random() < 0.4 else each for each in batch]
                expected += batch[: tx.send_many(shown, timeout=0)]
            elif how == "claim":
                body = message()
                claim = tx.reserve(len(body) + rng.randrange(100), timeout=0)
                claim.view[: len(body)] = body
                claim.commit(len(body))
                expected.append(body)
            else:
                tx.reserve(rng.randrange(1500), timeout=0).abort()
        except TimeoutError:
            if how == "send":
                expected.pop()
            for each in readers:
                assert_next(each, expected)
        if rng.random() < 0.1:
            assert_next(rng.choice(readers), expected)
    for each in readers:
        assert_next(each, expected)
    return len(expected)


class Reader:
    def __init__(self, rx):
        self.rx, self.seen = rx, 0


def assert_next(reader, expected):
    got = drain(reader.rx)
    assert got == expected[reader.seen : reader.seen + len(got)]
    reader.seen += len(got)
    assert reader.seen == len(expected)
