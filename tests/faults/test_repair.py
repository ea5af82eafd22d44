"""What survivors do for dead producers."""

from __future__ import annotations

import itertools
import logging
import signal
import threading

import layout_bytes as at
import pytest
from dying import PATIENT, claimer, drain, member, peeked, ring, stop  # noqa: F401 (fixtures)

# ---- gaps of dead producers --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 2000])
@pytest.mark.parametrize("who", ["reader", "observer", "producer", "repair"])
def test_a_gap_is_closed_by_whoever_finds_it(ring, peer, size, who, caplog):
    """Survivors send on, readers get everything that was committed, and it is counted, and logged with the pid."""
    caplog.set_level(logging.INFO, logger="shmring")
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer(lossy=True) as observer:
        doomed = claimer(peer, ring, size)
        tx.send(b"behind")
        doomed.kill()
        tx.send(b"later")
        sent = [b"sent by %d" % doomed.pid, b"behind", b"later"]
        if who == "producer":
            ring.producer().close()
        elif who == "repair":
            assert ring.repair() == 1
        first = observer if who == "observer" else rx
        assert [first.recv() for _ in sent] == sent
        assert drain(observer if first is rx else rx) == sent
        stats = ring.stats()
        assert (stats.repairs, stats.aborted) == (1, 1)
        assert sorted(each.role for each in stats.participants) == ["consumer", "observer", "producer"]
        records = [record.getMessage() for record in caplog.records if record.name == "shmring"]
        assert len(records) == 1 and f"pid {doomed.pid}" in records[0]
        assert rx.try_recv() is None and observer.try_recv() is None and observer.lost == 0
        assert ring.stats().used == 0
        assert ring.repair() == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_gaps_are_closed_one_by_one_in_any_order(ring, peer, order):
    """Three claims lie in a row, with messages between them; one is committed, the others' owners die."""
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer("b") as b:
        others, expected = [], []
        for number in range(3):
            others.append(claimer(peer, ring, 40))
            tx.send(b"%d" % number)
            expected += [b"sent by %d" % others[-1].pid, b"claim %d" % number, b"%d" % number]
        ended = set()
        for number in order:
            if number == 1:
                others[number].say("commit")
                others[number].expect("committed")
            else:
                others[number].kill()
                assert ring.repair() == 1
            ended.add(number)
        wanted = [b"h" * 40 if message == b"claim 1" else message for message in expected]
        wanted = [message for message in wanted if not message.startswith(b"claim")]
        assert drain(rx) == drain(b) == wanted
        assert ring.stats().aborted == 2 and ring.stats().used == 0


def test_a_gap_at_the_very_end_is_closed(ring, peer):
    """Nobody reserved after the dead one, so only the tail says whose it was."""
    with ring.consumer() as rx:
        for number in range(5):
            doomed = claimer(peer, ring, 900)
            doomed.kill()
            assert rx.recv() == b"sent by %d" % doomed.pid
            with pytest.raises(TimeoutError):
                rx.recv(timeout=0.01)
            assert ring.repair() in (0, 1)
            assert ring.stats().aborted == number + 1
        assert rx.try_recv() is None  # the last gap, if it was closed only now, is behind it
        with ring.producer() as tx:
            tx.send(bytes(4080))  # room for all of it
            assert len(rx.recv(0)) == 4080


def test_a_gap_of_the_whole_ring_is_closed_by_the_producer_that_wants_room(ring, peer):
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = peer(
            """
            tx = shmring.open(sys.argv[1]).producer()
            claim = tx.reserve(4080)
            say("claimed")
            hear()
        """,
            ring.name,
        )
        doomed.expect("claimed")
        assert not tx.try_send(b"")
        doomed.kill()
        thread = threading.Thread(target=lambda: tx.send(b"after"))
        thread.start()
        assert rx.recv() == b"after"
        thread.join()


def test_a_producer_that_won_nothing_leaves_no_gap(ring, peer):
    """It dies while it waits for room: its last reservation is long past."""
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = peer(
            """
            tx = shmring.open(sys.argv[1]).producer(wait="park")
            tx.send(b"first")
            say("full")
            tx.send(bytes(4080))
        """,
            ring.name,
        )
        doomed.expect("full")
        tx.send(b"second")
        while not any(each.pid == doomed.pid and each.parks for each in ring.stats().participants):
            pass
        doomed.kill()
        tx.send(b"third")
        assert ring.repair() == 1
        assert drain(rx) == [b"first", b"second", b"third"]
        assert ring.stats().aborted == 0


@pytest.mark.parametrize("committed", [1, 70, 5000])
def test_what_a_dead_producer_committed_arrives(ring, peer, committed):
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = peer(
            """
            tx = shmring.open(sys.argv[1]).producer()
            for i in range(int(sys.argv[2])): tx.send(b"%d" % i)
            say("sent")
            hear()
        """,
            ring.name,
            committed,
        )
        got = []
        while len(got) < committed:
            got += rx.recv_many(100)
        doomed.expect("sent")
        doomed.kill()
        tx.send(b"end")
        assert [int(message) for message in got] == list(range(committed))
        assert rx.recv() == b"end"
        assert ring.repair() == 1 and ring.stats().aborted == 0


@pytest.mark.parametrize("kind", ["group", "shared", "observer"])
def test_sleeping_readers_go_on_when_the_owner_of_a_gap_dies(ring, peer, kind):
    """They sleep for an hour at a time, and nobody else calls anything."""
    with ring.producer() as tx:
        doomed = claimer(peer, ring)
        tx.send(b"behind")
        options = {"lossy": True} if kind == "observer" else {}
        with ring.consumer(wait=PATIENT, **options) as rx:
            others = [ring.consumer() for _ in range(kind == "shared")]
            assert rx.recv() == b"sent by %d" % doomed.pid
            got = []
            thread = threading.Thread(target=lambda: got.append(rx.recv()))
            thread.start()
            while not any(each.role != "producer" and each.parks for each in ring.stats().participants):
                pass
            doomed.kill()
            thread.join()
            assert got == [b"behind"]
            for each in others:
                each.close()


def test_a_storm_of_deaths_loses_nothing_that_was_committed(ring, peer):
    """Producers are killed at whatever they do; every message that they told of arrives, in their order."""
    program = """
        tx = shmring.open(sys.argv[1]).producer()
        for i in range(1 << 60):
            if i % 3 == 0:
                tx.send_many([b"%d %d" % (os.getpid(), i)] * 1 + [b"filler"] * 5)
            elif i % 3 == 1:
                with tx.reserve(64) as claim:
                    text = b"%d %d" % (os.getpid(), i)
                    claim.view[:len(text)] = text
                    claim.commit(len(text))
            else:
                tx.send(b"%d %d" % (os.getpid(), i))
            if i % 50 == 0: print(i, flush=True)
    """
    received: dict[int, list[int]] = {}
    with ring.consumer() as rx:
        done = threading.Event()

        def read():
            while True:
                try:
                    messages = rx.recv_many(50, timeout=0.05)
                except TimeoutError:
                    if done.is_set():
                        return
                    continue
                for message in messages:
                    if message != b"filler":
                        who, number = map(int, message.split())
                        received.setdefault(who, []).append(number)

        thread = threading.Thread(target=read)
        thread.start()
        told = {}
        for number in range(12):
            pair = [peer(program, ring.name) for _ in range(2)]
            for each in pair:
                for _ in range(number):
                    told[each.pid] = int(each.hear())
            for each in pair:
                each.kill()
        ring.repair()
        done.set()
        thread.join()
        for who, numbers in received.items():
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > told.get(who, -1)
        assert set(told) <= set(received)
        assert ring.stats().repairs >= 22 and ring.stats().used == 0
    assert len(ring.stats().participants) == 0


# ---- stopped is alive --------------------------------------------------------------------------------------


def test_a_stopped_producer_keeps_nobody_from_sending(ring, peer):
    """Readers wait for its claim, however long; they go on when it does."""
    with ring.producer() as tx, ring.producer() as other, ring.consumer() as rx:
        sleeper = claimer(peer, ring, 10)
        stop(sleeper)
        for number in range(20):
            (tx, other)[number % 2].send(b"%d" % number, timeout=0)
        assert rx.recv() == b"sent by %d" % sleeper.pid
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.05)  # long enough to ask whether it lives
        assert ring.repair() == 0
        assert [each.alive for each in ring.stats().participants if each.pid == sleeper.pid] == [True]
        got = []
        thread = threading.Thread(target=lambda: got.extend(rx.recv() for _ in range(21)))
        thread.start()
        sleeper.say("commit")
        sleeper.signal(signal.SIGCONT)
        sleeper.expect("committed")
        thread.join()
        assert got == [b"h" * 10, *(b"%d" % number for number in range(20))]
        assert ring.stats().aborted == ring.stats().repairs == 0


@pytest.mark.parametrize("how", ["sent", "given up", "given up by a dead one"])
def test_who_is_stopped_before_it_won_anything_keeps_no_room(named, peer, how):
    """It is about to lose its exchange. A lap later the ring was full for good if the record in its place was given up."""
    path = named.path()
    with named.create(4096) as ring, ring.producer() as stopped, ring.producer() as tx, ring.consumer() as rx:
        stopped.send(b"first")
        assert rx.recv(0) == b"first"
        word = at.read(path, at.TAIL)
        slot = at.participant(path, 0)
        # What reserve_exchange has stored by then: 32 bytes, one message, the mark of the tail.
        at.write(path, slot + at.SLOT_INTENT, 2 << 32 | 1 << 16 | word & 0xFFFF)
        at.write(path, slot + at.SLOT_INTENT_START, word >> 16 << 4)
        if how == "sent":
            tx.send(b"other")
            assert rx.recv(0) == b"other"
        elif how == "given up":
            tx.reserve(10).abort()
        else:
            doomed = peer("claim = shmring.open(sys.argv[1]).producer().reserve(10)\nsay('claimed')\nhear()", ring.name)
            doomed.expect("claimed")
            doomed.kill()
            assert ring.repair() == 1
        for number in range(3 * 4096 // 32):
            assert tx.try_send(b"%d" % number)
            assert rx.recv(0) == b"%d" % number
        stopped.send(b"last")  # it goes on: the exchange fails, and it looks again
        assert rx.recv(0) == b"last"


def test_a_stopped_member_keeps_what_it_holds(ring, peer):
    with ring.producer() as tx, ring.consumer() as rx:
        sleeper = member(peer, ring)
        tx.send_many([b"0", b"1"])
        sleeper.say("peek")
        sleeper.expect("0 False")
        stop(sleeper)
        assert ring.repair() == 0
        assert peeked(rx) == [(b"1", False)]
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.05)
        assert ring.stats().used == ring.stats().tail
        sleeper.say("release")
        sleeper.signal(signal.SIGCONT)
        sleeper.expect("released")
        assert ring.stats().used == 0


def test_a_claim_in_another_group_does_not_unsay_what_was_won(named):
    """The head of group b names the slot of a member that left; a member of group a has it now, and was granted a claim. A
    message was lost when that member was killed before it noted the grant."""
    path = named.path()
    with named.create(4096, max_participants=4) as ring, ring.producer() as tx:
        ring.remove_group("default")
        ring.consumer("a").close()
        with ring.consumer("b") as left:
            tx.send_many([b"%d" % number for number in range(4)])
            left.recv(0)
        with ring.consumer("a") as first, ring.consumer("a") as second, ring.consumer("b") as other:
            view = first.peek(0)
            second.recv(0)  # and so says that the first one's claim was won
            granted = [at.read(path, at.participant(path, slot) + at.SLOT_GRANTED) for slot in range(4)]
            other.recv(0)
            for slot, before in enumerate(granted):
                after = at.read(path, at.participant(path, slot) + at.SLOT_GRANTED)
                assert after & 0xFFFF == before & 0xFFFF and after >= before
            view.release()
