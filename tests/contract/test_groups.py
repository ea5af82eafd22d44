"""Groups: every group gets every message, the slowest one gates, and tables have limits."""

from __future__ import annotations

import os

import pytest

import shmring


def test_messages_sent_before_the_first_consumer_are_kept(ring):
    with ring.producer() as tx:
        tx.send_many([b"early", b"bird"])
    with ring.consumer() as rx:
        assert rx.recv_many(9) == [b"early", b"bird"]


def test_every_group_gets_every_message(ring):
    with ring.producer() as tx, ring.consumer() as a, ring.consumer("b") as b, ring.consumer("c") as c:
        sent = [bytes([i]) for i in range(50)]
        tx.send_many(sent)
        assert [rx.recv_many(99) for rx in (a, b, c)] == [sent] * 3
        assert (a.group, b.group) == ("default", "b")


def test_the_slowest_group_gates(ring):
    with ring.producer() as tx, ring.consumer() as fast, ring.consumer("slow") as slow:
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4
        assert len(fast.recv_many(9)) == 4
        with pytest.raises(TimeoutError, match="'slow'") as caught:
            tx.send(b"", timeout=0)
        assert "'default'" not in str(caught.value)
        slow.recv(timeout=0)
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 1


def test_a_group_without_a_member_gates_until_it_is_removed(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        ring.consumer("left behind").close()
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4
        rx.recv_many(9)
        assert not tx.try_send(b"")
        ring.remove_group("left behind")
        assert tx.try_send(b"")
        assert [group.name for group in ring.stats().groups] == ["default"]


def test_a_group_starts_at_the_oldest_record_or_behind_the_newest(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"0", b"1", b"2"])
        rx.recv(timeout=0)
        with ring.consumer("early", start="earliest") as early, ring.consumer("late", start="latest") as late:
            assert early.recv_many(9) == [b"1", b"2"]
            assert late.try_recv() is None
            tx.send(b"3")
            assert [early.recv(0), late.recv(0), rx.recv_many(9)] == [b"3", b"3", [b"1", b"2", b"3"]]


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_an_existing_group_goes_on_where_it_is(ring, start):
    with ring.producer() as tx:
        tx.send_many([b"0", b"1", b"2"])
        with ring.consumer() as rx:
            assert rx.recv(0) == b"0"
        with ring.consumer(start=start) as rx:
            assert rx.recv_many(9) == [b"1", b"2"]


def test_a_removed_groups_name_begins_anew(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        ring.consumer("g").close()
        tx.send_many([b"0", b"1"])
        rx.recv_many(9)
        ring.remove_group("g")
        with ring.consumer("g") as again:
            assert again.try_recv() is None
            tx.send(b"2")
            assert again.recv(0) == b"2"


def test_the_default_group_can_be_removed(ring):
    ring.remove_group("default")
    with ring.producer() as tx, ring.consumer("only") as rx:
        for i in range(500):
            tx.send(b"%d" % i, timeout=0)
            assert rx.recv(0) == b"%d" % i


def test_a_ring_without_groups_never_fills(ring):
    ring.remove_group("default")
    with ring.producer() as tx:
        tx.send_many([bytes(1000)] * 100, timeout=0)


def test_removing_refuses_what_is_missing_or_in_use(ring):
    with pytest.raises(KeyError, match="nobody knows"):
        ring.remove_group("nobody knows")
    with ring.consumer(), pytest.raises(shmring.MemberTaken, match=str(os.getpid())):
        ring.remove_group("default")


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "nul\0"])
def test_impossible_group_names_are_value_errors(ring, name):
    with pytest.raises(ValueError, match="group"):
        ring.consumer(name)


@pytest.mark.parametrize("name", ["x" * 63, "é" * 31, "a b/c", "グループ"])
def test_any_other_text_is_a_group_name(ring, name):
    with ring.consumer(name) as rx:
        assert rx.group == name
        assert {group.name: group.members for group in ring.stats().groups}[name] == [os.getpid()]


def test_bad_arguments_of_consumers(ring):
    for options, error in (
        ({"start": "middle"}, ValueError),
        ({"group": 7}, TypeError),
        ({"wait": "sleepily"}, ValueError),
    ):
        with pytest.raises(error):
            ring.consumer(**options)
    assert [group.name for group in ring.stats().groups] == ["default"]


def test_a_group_table_that_is_full_says_so(backing):
    with backing.create(4096, max_groups=2) as ring, ring.consumer("second"):
        with pytest.raises(shmring.TooManyGroups, match=r"2 groups.*default, second") as caught:
            ring.consumer("third")
        assert isinstance(caught.value, OSError)
        ring.remove_group("default")
        ring.consumer("third").close()


def test_a_participant_table_that_is_full_says_so(backing):
    with backing.create(4096, max_participants=2) as ring, ring.producer(), ring.consumer():
        with pytest.raises(shmring.TooManyParticipants, match=rf"2 participants.*{os.getpid()}\); create") as caught:
            ring.consumer("third")
        assert isinstance(caught.value, OSError)


def test_a_consumer_that_found_no_slot_leaves_no_group(backing):
    with backing.create(4096, max_participants=2) as ring, ring.producer() as tx, ring.consumer() as rx:
        with pytest.raises(shmring.TooManyParticipants):
            ring.consumer("third")
        assert [group.name for group in ring.stats().groups] == ["default"]
        for _ in range(10):
            tx.send(bytes(1008), timeout=0)
            rx.recv(0)


def test_left_slots_are_used_again(backing):
    with backing.create(4096, max_participants=2) as ring, ring.producer() as tx:
        for i in range(50):
            with ring.consumer() as rx:
                tx.send(b"%d" % i)
                assert rx.recv(0) == b"%d" % i


def test_a_left_slots_next_owner_is_not_taken_for_the_old_member(ring):
    rx = ring.consumer()
    rx.close()
    with ring.producer():  # in the slot that the consumer had
        assert ring.stats().groups[0].members == []
        ring.consumer().close()
    tx = ring.producer()
    tx.close()
    with ring.consumer():
        ring.producer().close()


def test_an_exclusive_member_stays_the_only_one(ring):
    with ring.consumer(exclusive=True) as rx:
        for options in ({}, {"exclusive": True}):
            with pytest.raises(shmring.MemberTaken, match=rf"'default'.*{os.getpid()}") as caught:
                ring.consumer(**options)
            assert isinstance(caught.value, BlockingIOError)
        assert len(ring.stats().participants) == 1
        rx.close()
    with ring.consumer(), ring.consumer(), pytest.raises(shmring.MemberTaken):  # whoever begins anew decides anew
        ring.consumer(exclusive=True)


def test_a_taken_producers_role_names_the_holder(backing):
    with backing.create(4096, producers="single") as ring:
        with ring.producer(), pytest.raises(shmring.ProducerTaken, match=str(os.getpid())) as caught:
            ring.producer()
        assert isinstance(caught.value, BlockingIOError)
        ring.producer().close()


@pytest.mark.parametrize("role", ["consumer", "producer"])
def test_participants_beyond_the_64th_are_woken(backing, role):
    """Wait bits are kept in words of 64: the 65th participant is in the second."""
    import threading

    patient = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    with backing.create(4096, max_participants=70, max_groups=64) as ring:
        others = [ring.consumer(f"g{i}", wait=patient) for i in range(63)]
        first, second = (ring.producer, ring.consumer) if role == "consumer" else (ring.consumer, ring.producer)
        first, second = first(wait=patient), second(wait=patient)
        tx, rx = (first, second) if role == "consumer" else (second, first)
        assert {each.role: each.slot for each in ring.stats().participants}[role] == 64
        for each in others:
            each.close()
        for i in range(63):
            ring.remove_group(f"g{i}")
        if role == "producer":
            tx.send(bytes(4080))
        waiter = threading.Thread(target=rx.recv if role == "consumer" else lambda: tx.send(b"x"))
        waiter.start()
        while not any(each.slot == 64 and each.parks for each in ring.stats().participants):
            pass
        tx.send(b"x") if role == "consumer" else rx.recv(0)
        waiter.join()
