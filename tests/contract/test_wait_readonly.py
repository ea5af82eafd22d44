"""`shmring.wait` with observers of rings that are open for reading only, whom nobody can wake."""

from __future__ import annotations

import threading

import pytest

import shmring

PATIENT = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)


@pytest.fixture
def seen(named):
    """A ring that nobody holds back, and the same one, open for reading only."""
    with named.create(4096) as ring, shmring.open(named.name, readonly=True) as through:
        ring.remove_group("default")
        yield ring, through


def test_wait_times_out_and_finds_what_is_there(seen):
    ring, through = seen
    with ring.producer() as tx, through.consumer(lossy=True) as rx:
        assert shmring.wait([rx], timeout=0) == shmring.wait([rx], timeout=0.02) == []
        tx.send(b"1")
        assert shmring.wait([rx], timeout=0) == shmring.wait([rx]) == [rx]
        assert rx.recv(0) == b"1" and shmring.wait([rx], timeout=0) == []


@pytest.mark.parametrize("to", ["reader", "member"])
def test_a_message_for_either_ends_a_wait_for_both(seen, to):
    ring, through = seen
    with (
        shmring.anonymous(4096) as other, other.producer() as other_tx, ring.producer() as tx,
        other.consumer(wait=PATIENT) as member, through.consumer(lossy=True, wait=PATIENT) as reader,
    ):  # fmt: skip

        def send():
            while not any(each.parks for each in other.stats().participants):
                pass
            (tx if to == "reader" else other_tx).send(b"x")

        thread = threading.Thread(target=send)
        thread.start()
        assert shmring.wait([member, reader]) == [reader if to == "reader" else member]
        thread.join()


def test_a_member_beside_a_reader_can_be_waited_for_again_and_is_woken(seen):
    """The short slices leave nobody parked, and no wake short."""
    _, through = seen
    with shmring.anonymous(4096) as other, other.consumer(wait=PATIENT) as member, through.consumer(lossy=True) as reader:
        for _ in range(3):
            assert shmring.wait([reader, member], timeout=0.01) == []
        assert [each.parked for each in other.stats().participants] == [False]
        with other.producer() as tx:
            parked = other.stats().participants[0].parks
            thread = threading.Thread(target=lambda: member.recv())
            thread.start()
            while not any(each.parks > parked for each in other.stats().participants):
                pass
            tx.send(b"x")
            thread.join()


def test_the_sleep_is_cut_into_slices_only_with_a_reader(seen):
    """A member alone sleeps once, as its slice is an hour."""
    _, through = seen
    with shmring.anonymous(4096) as other, other.consumer(wait=PATIENT) as member, through.consumer(lossy=True) as reader:

        def parks():
            return other.stats().participants[0].parks

        assert shmring.wait([member], timeout=0.05) == [] and parks() <= 2
        begun, waits = parks(), 0
        while parks() - begun < 5 * max(1, waits):  # how many slices fit is the machine's affair
            waits += 1
            assert shmring.wait([member, reader], timeout=0.1) == []


def test_wait_sees_a_shutdown_and_that_the_producers_left(seen):
    ring, through = seen
    with through.consumer(lossy=True, end_with_producers=True) as ends, through.consumer(lossy=True) as rx:
        with ring.producer():
            assert shmring.wait([ends, rx], timeout=0.01) == []
        assert shmring.wait([ends, rx]) == [ends]
        with pytest.raises(shmring.ProducersGone):
            ends.recv()
        ring.shutdown()
        assert shmring.wait([rx]) == [rx]
        with pytest.raises(shmring.ShutDown):
            rx.recv()


def test_wait_learns_of_a_producers_death_that_nobody_repairs(seen, named, peer):
    """Who may only read has to find the dead by itself: `recv` does."""
    _ring, through = seen
    other = peer("tx = shmring.open(sys.argv[1]).producer(); say('there'); sys.stdin.read()", str(named.name))
    other.expect("there")
    with through.consumer(lossy=True, end_with_producers=True) as rx:
        assert shmring.wait([rx], timeout=0.02) == []
        other.kill()
        assert shmring.wait([rx]) == [rx]
        with pytest.raises(shmring.ProducerDied):
            rx.recv()


def test_an_array_observer_that_only_reads_is_served(named):
    numpy = pytest.importorskip("numpy")
    with (
        named.create(4096, dtype="i4") as ring, ring.producer() as tx,
        shmring.open(named.name, readonly=True) as through, through.consumer(lossy=True) as rx,
    ):  # fmt: skip
        assert shmring.wait([rx], timeout=0.01) == []
        tx.write(numpy.arange(3, dtype="i4"))
        assert shmring.wait([rx]) == [rx] and rx.read(9).tolist() == [0, 1, 2]
        assert shmring.wait([rx], timeout=0.01) == []


@pytest.mark.parametrize("readonly", [False, True])
def test_closing_the_ring_under_a_wait_for_several_is_an_error_there_and_no_crash(named, peer, readonly):
    """The memory was unmapped while it was looked at once more."""
    other = peer(
        """
        import threading
        made = shmring.create(sys.argv[1], 4096)
        for turn in range(10):
            ring = shmring.open(sys.argv[1], readonly=sys.argv[2] == "True")
            rx = ring.consumer(lossy=True, wait=shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000))
            said = []
            def wait():
                said.append(None)
                try: shmring.wait([rx])
                except ValueError as error: said.append("closed" in str(error))
            thread = threading.Thread(target=wait)
            thread.start()
            while not said or not (ring.readonly or made.stats().participants[0].parked): pass
            ring.close()
            thread.join()
            assert said == [None, True], said
        say("fine")
        """,
        str(named.name), str(readonly),
    )  # fmt: skip
    other.expect("fine")
    other.finish()
