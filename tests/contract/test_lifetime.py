"""Closing, context managers, finalizers, and threads that share a handle."""

from __future__ import annotations

import collections
import gc
import threading

import pytest

import shmring

# ---- closing -----------------------------------------------------------------------------------------------


def test_close_may_be_repeated_and_then_nothing_else_works(ring):
    tx, rx = ring.producer(), ring.consumer()
    for handle in (tx, rx, ring):
        assert not handle.closed
        handle.close()
        handle.close()
        assert handle.closed
    for call in (
        lambda: tx.send(b"x"),
        lambda: tx.try_send(b"x"),
        lambda: tx.send_many([b"x"]),
        lambda: tx.reserve(1),
        rx.recv,
        rx.try_recv,
        lambda: rx.recv_many(1),
        lambda: rx.recv_into(bytearray(9)),
        rx.peek,
        lambda: rx.lag,
        lambda: next(rx),
        lambda: shmring.wait([rx]),
        lambda: shmring.wait([tx]),
        ring.producer,
        ring.consumer,
        ring.stats,
        ring.shutdown,
        ring.repair,
        tx.__enter__,
        rx.__enter__,
        ring.__enter__,
        lambda: ring.remove_group("default"),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "closed" in repr(tx) + repr(rx) and "closed" in repr(ring)


def test_closing_the_ring_closes_its_handles(backing):
    ring = backing.create(4096)
    tx, rx = ring.producer(), ring.consumer()
    with ring:
        tx.send(b"x")
    assert tx.closed and rx.closed and ring.closed


def test_context_managers_close(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        pass
    assert tx.closed and rx.closed


@pytest.mark.parametrize("side", ["claim", "view"])
def test_closing_under_a_live_buffer_is_a_buffer_error(backing, side):
    with backing.create(4096) as ring:
        tx, rx = ring.producer(), ring.consumer()
        tx.send(b"seen")
        lease = tx.reserve(4) if side == "claim" else rx.peek(0)
        memory = memoryview(lease.view if side == "claim" else lease.data)
        for handle in (tx if side == "claim" else rx, ring):
            with pytest.raises(BufferError):
                handle.close()
            assert not handle.closed
        assert len(bytes(memory)) == 4
        memory.release()
        lease.abort() if side == "claim" else lease.release()


def test_closing_without_live_buffers_aborts_the_claim_and_keeps_the_viewed_record(ring):
    tx, rx = ring.producer(), ring.consumer()
    tx.send(b"seen")
    view, claim = rx.peek(0), tx.reserve(5)
    tx.close()
    rx.close()
    for call in (lambda: view.data, lambda: claim.view, claim.commit):
        with pytest.raises(ValueError):
            call()
    view.release()
    claim.abort()
    with ring.consumer() as rx, rx.peek(0) as view:
        assert bytes(view.data) == b"seen"
        assert view.redelivered
    with ring.producer() as tx:
        tx.send(b"next")


def test_a_claim_of_a_closed_producer_lends_no_unmapped_memory(peer, unique_name):
    writer = peer(
        """
        ring = shmring.create(sys.argv[1], 4096)
        tx = ring.producer()
        claim = tx.reserve(4)
        tx.close()
        try:
            view = claim.view
            ring.close()
            view[0] = 1
        except (ValueError, BufferError):
            pass
        say("alive")
    """,
        unique_name,
    )
    writer.expect("alive")
    writer.finish()


def test_dropped_handles_leave_the_ring(ring):
    for _ in range(100):
        ring.producer()
        ring.consumer()
        gc.collect(0)
    assert ring.stats().participants == []


def test_a_dropped_ring_is_kept_by_its_handles(backing):
    tx = backing.create(4096).producer()
    gc.collect()
    tx.send(b"x")
    assert tx.ring.stats().groups[0].lag == 1
    tx.close()


def test_a_finalizer_may_close_a_handle_while_another_attaches(peer, unique_name):
    """The collector may run at any allocation, so also while this thread holds the registry."""
    attacher = peer(
        """
        import gc
        from shmring import evidence
        gc.disable()
        ring = shmring.create(sys.argv[1], 4096)
        cycle = [ring.consumer()]
        cycle.append(cycle)
        real = evidence.own_identity
        def collecting():
            global cycle
            cycle = None
            gc.collect()
            return real()
        evidence.own_identity = collecting
        tx = ring.producer()
        say("attached")
        tx.close()
        ring.consumer().close()
        say(ring.stats().participants)
        """,
        unique_name,
    )
    attacher.expect("attached")
    attacher.expect("[]")
    attacher.finish()


def test_closing_wakes_the_threads_that_wait(ring):
    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    tx, rx = ring.producer(wait=patient), ring.consumer(wait=patient)
    errors = []

    def wait_in(call):
        try:
            call()
        except ValueError as error:
            errors.append(str(error))

    receiver = threading.Thread(target=wait_in, args=(rx.recv,))
    receiver.start()
    while not any(each.parks for each in ring.stats().participants):
        pass
    rx.close()
    receiver.join()
    tx.send(bytes(4080))
    sender = threading.Thread(target=wait_in, args=(lambda: tx.send(b"x"),))
    sender.start()
    while not any(each.parks for each in ring.stats().participants):
        pass
    tx.close()
    sender.join()
    assert len(errors) == 2 and all("closed" in text for text in errors)


def test_close_that_fails_for_want_of_a_descriptor_can_be_repeated(peer, unique_name):
    """A role whose close failed half-way must not stay taken for as long as the process lives."""
    closer = peer(
        """
        import resource
        ring = shmring.create(sys.argv[1], 4096)
        tx = ring.producer()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        held = []
        try:
            while True: held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        try:
            tx.close()
        except OSError: pass
        for fd in held: os.close(fd)
        tx.close()
        ring.producer().close()
        say("free")
    """,
        unique_name,
    )
    closer.expect("free")
    closer.finish()


def test_leaving_with_the_interpreter_is_no_death(peer, unique_name):
    with shmring.create(unique_name, 4096) as ring:
        for program in (
            "tx = shmring.open(sys.argv[1]).producer(); tx.send(b'x')",
            "rx = shmring.open(sys.argv[1]).consumer(); rx.recv(); raise SystemExit(0)",
        ):
            peer(program, unique_name).finish()
            assert ring.stats().participants == []
        assert ring.repair() == 0


# ---- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["adaptive", "park", "spin"])
def test_threads_that_share_handles_get_each_message_once(ring, wait):
    count, threads = 2000, 3
    got = collections.Counter()
    with ring.producer(wait=wait) as tx, ring.consumer(wait=wait) as rx:

        def send(number):
            for i in range(count):
                tx.send(b"%d %d" % (number, i))

        def receive():
            mine, last = collections.Counter(), {}
            for message in rx:
                number, i = map(int, message.split())
                assert i > last.get(number, -1)
                last[number] = i
                mine[message] += 1
            got.update(mine)

        senders = [threading.Thread(target=send, args=(i,)) for i in range(threads)]
        receivers = [threading.Thread(target=receive) for _ in range(threads)]
        for each in senders + receivers:
            each.start()
        for each in senders:
            each.join()
        ring.shutdown()
        for each in receivers:
            each.join()
    assert set(got.values()) == {1} and len(got) == count * threads


def test_a_waiting_thread_sees_the_second_message_when_another_took_the_first(ring):
    """wait() and recv() sleep on one word, and a burst wakes one of them: whoever wakes must not strand the
    other."""
    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)

    def parked(number):
        while sum(each.parks for each in ring.stats().participants) < number:
            pass

    with ring.producer() as tx, ring.consumer(wait=patient) as rx:
        got = []

        def wait_then_take_one():
            assert shmring.wait([rx]) == [rx]
            got.append(rx.recv())

        first = threading.Thread(target=wait_then_take_one)
        first.start()
        parked(1)
        second = threading.Thread(target=lambda: got.append(rx.recv()))
        second.start()
        parked(2)
        tx.send_many([b"1", b"2"])
        first.join()
        second.join()
        assert sorted(got) == [b"1", b"2"]


def test_a_burst_reaches_every_thread_that_sleeps(ring):
    """One wake for a burst: the thread that it wakes must see to it that the others look, too."""
    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    with ring.producer() as tx, ring.consumer(wait=patient) as rx:
        got = []
        threads = [threading.Thread(target=lambda: got.append(rx.recv())) for _ in range(4)]
        for number, each in enumerate(threads, 1):
            each.start()
            while sum(each.parks for each in ring.stats().participants) < number:
                pass
        tx.send_many([b"%d" % i for i in range(4)])
        for each in threads:
            each.join()
        assert sorted(got) == [b"0", b"1", b"2", b"3"]
