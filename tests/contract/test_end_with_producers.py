"""end_with_producers: iteration ends with the last producer, and says so when that one died."""

from __future__ import annotations

import threading

import pytest

import shmring
from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)

# A reader that does not end is interrupted, and the other tests go on.
pytestmark = pytest.mark.timeout(300, method="signal")

WRITER = """
    tx = shmring.open(sys.argv[1]).producer()
    say("attached")
    for i in range(int(sys.argv[2])):
        tx.send(b"%d" % i)
    claim = tx.reserve(100) if sys.argv[3] == "claims" else None
    say("sent")
    if hear() == "leave":
        tx.close()
        say("left")
        hear()
"""

# A member of a group, the same of a shared one, an observer, and one that may only read.
KINDS = ("group", "shared", "observer", "readonly")


SOMEBODY_WRITES = KINDS[:3]  # who may write into the ring finds the dead by itself


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=["single", "multi"])
def ring(request, named):
    with named.create(4096, producers=request.param) as made:
        yield made


@pytest.fixture
def reader(ring, named, kind):
    """Make a reader of the kind that ends with the producers."""
    opened = []

    def make(wait="adaptive"):
        options = {"end_with_producers": True, "wait": wait}
        if kind == "shared":
            opened.append(ring.consumer())
        if kind == "readonly":
            opened.append(shmring.open(named.name, readonly=True))
            return opened[-1].consumer(lossy=True, **options)
        if kind == "observer":
            ring.remove_group("default")
            return ring.consumer(lossy=True, **options)
        return ring.consumer(**options)

    yield make
    for each in opened:
        each.close()


def test_it_ends_when_the_last_producer_left(ring, reader):
    with reader() as rx:
        with ring.producer() as tx:
            tx.send_many([b"a", b"b"])
        assert list(rx) == [b"a", b"b"]
        assert list(rx) == []
        for call in (rx.recv, rx.try_recv, rx.peek, lambda: rx.recv_many(3), lambda: rx.recv_into(bytearray(3))):
            with pytest.raises(shmring.ProducersGone) as caught:
                call()
            assert isinstance(caught.value, shmring.ShutDown)


def test_it_waits_for_the_first_producer(ring, reader):
    with reader() as rx:
        assert rx.try_recv() is None
        for call in (rx.recv, rx.peek):
            with pytest.raises(TimeoutError):
                call(timeout=0.01)
        with ring.producer() as tx:
            assert rx.try_recv() is None
            tx.send(b"x")
        assert list(rx) == [b"x"]


def test_another_producer_lets_it_go_on(ring, reader):
    with reader() as rx:
        for number in range(3):
            with ring.producer() as tx:
                tx.send(b"%d" % number)
                assert rx.recv(0) == b"%d" % number
            with pytest.raises(shmring.ProducersGone):
                rx.recv(0)


@pytest.mark.parametrize("sent", [0, 3])
def test_a_sleeper_is_woken_by_the_last_to_leave(ring, reader, kind, sent):
    """It sleeps for an hour otherwise (readonly ones look by themselves)."""
    with reader(wait=PATIENT) as rx:
        tx = ring.producer()
        got = []
        thread = threading.Thread(target=lambda: got.extend(rx))
        thread.start()
        while kind != "readonly" and not any(each.parks and each.role != "producer" for each in ring.stats().participants):
            pass
        for number in range(sent):
            tx.send(b"%d" % number)
        tx.close()
        thread.join()
        assert got == [b"%d" % number for number in range(sent)]


def test_only_the_last_of_several_ends_it(named):
    with named.create(4096) as ring, ring.consumer(end_with_producers=True) as rx:
        producers = [ring.producer() for _ in range(3)]
        for number, tx in enumerate(producers):
            with pytest.raises(TimeoutError):
                rx.recv(timeout=0)
            tx.send(b"%d" % number)
            assert rx.recv(0) == b"%d" % number
            tx.close()
        assert list(rx) == []


def test_every_member_of_a_group_ends(named):
    with named.create(4096) as ring:
        got = []
        members = [ring.consumer(end_with_producers=True, wait=PATIENT) for _ in range(3)]
        threads = [threading.Thread(target=lambda rx=rx: got.extend(rx)) for rx in members]
        for each in threads:
            each.start()
        with ring.producer() as tx:
            for number in range(500):
                tx.send(b"%d" % number)
        for each in threads:
            each.join()
        assert sorted(map(int, got)) == list(range(500))


def test_who_did_not_ask_for_it_waits_on(ring):
    with ring.consumer() as rx:
        ring.producer().close()
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.01)


# ---- deaths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOMEBODY_WRITES, indirect=True)
@pytest.mark.parametrize("leaves", ["nothing", "claims"])
def test_a_producers_death_is_told_with_its_pid_after_everything_it_sent(ring, named, peer, reader, leaves):
    with reader() as rx:
        writer = peer(WRITER, named.name, 3, leaves)
        writer.expect("attached")
        writer.expect("sent")
        writer.kill()
        got = []
        with pytest.raises(shmring.ProducerDied, match=rf"pid {writer.pid}\b") as caught:
            for message in rx:
                got.append(message)
        assert got == [b"0", b"1", b"2"]
        assert isinstance(caught.value, EOFError) and not isinstance(caught.value, shmring.ShutDown)
        with pytest.raises(shmring.ProducerDied):
            rx.try_recv()


@pytest.mark.parametrize("kind", SOMEBODY_WRITES, indirect=True)
def test_a_sleeper_learns_of_a_death_by_itself(ring, named, peer, reader):
    with reader(wait=PATIENT) as rx:
        writer = peer(WRITER, named.name, 1, "nothing")
        writer.expect("attached")
        writer.expect("sent")
        assert rx.recv() == b"0"
        caught = []

        def wait():
            with pytest.raises(shmring.ProducerDied, match=rf"pid {writer.pid}\b") as error:
                rx.recv()
            caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        writer.kill()
        thread.join()
        assert caught


def test_a_replacement_forgives(ring, named, peer, reader):
    with reader() as rx:
        writer = peer(WRITER, named.name, 2, "claims")
        writer.expect("attached")
        writer.expect("sent")
        writer.kill()
        with ring.producer() as tx:
            tx.send(b"mine")
        assert list(rx) == [b"0", b"1", b"mine"]


def test_an_observer_that_may_only_read_learns_of_a_death(unique_name, peer):
    """Though it cannot repair, and nobody else is there who could."""
    with shmring.create(unique_name, 4096) as ring, shmring.open(unique_name, readonly=True) as through:
        ring.remove_group("default")
        with through.consumer(lossy=True, end_with_producers=True) as rx:
            writer = peer(WRITER, unique_name, 3, "nothing")
            writer.expect("attached")
            writer.expect("sent")
            writer.kill()
            assert [rx.recv() for _ in range(3)] == [b"0", b"1", b"2"]
            with pytest.raises(shmring.ProducerDied, match=rf"pid {writer.pid}\b"):
                rx.recv()


def test_one_death_among_several_is_told_when_the_last_left(named, peer):
    with named.create(4096) as ring, ring.consumer(end_with_producers=True) as rx, ring.producer() as tx:
        writer = peer(WRITER, named.name, 1, "claims")
        writer.expect("attached")
        writer.expect("sent")
        tx.send(b"behind the gap")
        writer.kill()
        assert [rx.recv(), rx.recv()] == [b"0", b"behind the gap"]
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.01)  # there is still a producer
        tx.close()
        with pytest.raises(shmring.ProducerDied, match=rf"pid {writer.pid}\b"):
            rx.recv()


def test_a_producer_that_left_in_order_is_no_death(ring, named, peer, reader):
    with reader() as rx:
        writer = peer(WRITER, named.name, 2, "claims")
        writer.expect("attached")
        writer.expect("sent")
        writer.say("leave")
        writer.expect("left")
        writer.kill()
        assert list(rx) == [b"0", b"1"]


def test_the_end_of_a_process_is_leaving(ring, named, peer, reader):
    """Without close(), but in order: the interpreter's exit."""
    with reader() as rx:
        writer = peer(WRITER, named.name, 2, "claims")
        writer.expect("attached")
        writer.expect("sent")
        writer.say("no more")
        writer.finish()
        assert list(rx) == [b"0", b"1"]
