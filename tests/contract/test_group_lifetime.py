"""How groups come and go: ephemeral ones, those that drop what the dead had, removal, limits, and where a new one starts."""

from __future__ import annotations

import os

import pytest

import shmring

MEMBER = """
    options = {name: {"True": True, "False": False}[value] for name, value in (each.split("=") for each in sys.argv[3:])}
    rx = shmring.open(sys.argv[1]).consumer(sys.argv[2], **options)
    say("attached")
    views = []
    while hear() == "peek":
        views.append(rx.peek())
        say(bytes(views[-1].data).decode())
    rx.close()
    say("left")
    hear()
"""


def names(ring) -> list[str]:
    return [group.name for group in ring.stats().groups]


def group_of(ring, name):
    return next(group for group in ring.stats().groups if group.name == name)


def fill(tx, size=1008) -> int:
    count = 0
    while tx.try_send(bytes(size)):
        count += 1
    return count


# ---- ephemeral ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1, 3])
def test_an_ephemeral_group_goes_with_its_last_member(ring, others):
    with ring.producer() as tx, ring.consumer() as rx:
        members = [ring.consumer("brief", ephemeral=True) for _ in range(others + 1)]
        for each in members:
            assert names(ring) == ["default", "brief"]
            assert fill(tx) == 4
            assert len(rx.recv_many(9)) == 4
            assert not tx.try_send(b"")  # it gates
            while each.lag:
                each.recv(0)
            each.close()
        assert names(ring) == ["default"]
        assert fill(tx) == 4


def test_an_ephemeral_group_goes_with_whoever_is_the_last(ring):
    """Also when that one joined without a word about it, and while nobody waits, attaches or calls repair."""
    ring.remove_group("default")
    with ring.producer() as tx:
        first, second = ring.consumer("brief", ephemeral=True), ring.consumer("brief")
        tx.send(bytes(4080))
        first.close()
        assert names(ring) == ["brief"]
        second.close()
        assert names(ring) == []
        assert tx.try_send(b"")


def test_an_ephemeral_group_goes_with_what_its_members_had_not_released(ring):
    with ring.producer() as tx:
        ring.remove_group("default")
        first, second = (ring.consumer("brief", ephemeral=True) for _ in range(2))
        tx.send_many([bytes(1008)] * 4)
        views = first.peek(0), second.peek(0)
        first.close()
        assert ring.stats().used == 4096
        second.close()
        assert names(ring) == [] and ring.stats().used == 0
        assert tx.send_many([bytes(1008)] * 100, timeout=0) == 100  # nothing gates
        with ring.consumer("brief", ephemeral=True) as again:
            assert again.try_recv() is None
        del views


@pytest.mark.parametrize("alive", [0, 1])
def test_an_ephemeral_group_goes_with_its_last_member_dead(named, peer, alive):
    with named.create(4096) as ring, ring.producer() as tx:
        ring.remove_group("default")
        doomed = [peer(MEMBER, named.name, "brief", "ephemeral=True") for _ in range(2)]
        for each in doomed:
            each.expect("attached")
        stays = [ring.consumer("brief", ephemeral=True) for _ in range(alive)]
        tx.send(bytes(4080))
        doomed[0].say("peek")
        doomed[0].hear()
        for each in doomed:
            each.kill()
        if stays:
            ring.repair()
            assert names(ring) == ["brief"]
            with stays[0].peek(0) as view:
                assert view.redelivered and len(view) == 4080
            stays[0].close()
        tx.send(b"goes on without anybody's call")  # it waits, and who waits looks after the dead
        assert names(ring) == []


def test_a_name_that_was_ephemeral_may_become_durable(ring):
    ring.consumer("name", ephemeral=True).close()
    ring.consumer("name").close()
    assert names(ring) == ["default", "name"]
    with pytest.raises(ValueError, match=r"'name'.*ephemeral=False.*True"):
        ring.consumer("name", ephemeral=True)
    assert len(ring.stats().participants) == 0


# ---- made alike --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option, made, refused", [("ephemeral", True, False), ("ephemeral", False, True),
                                                   ("redeliver", True, False), ("redeliver", False, True)])
def test_who_asks_for_another_kind_of_group_is_refused(ring, option, made, refused):
    with ring.consumer("kind", **{option: made}) as first, ring.producer() as tx:
        with pytest.raises(ValueError, match=rf"'kind'.*{option}={made}.*{refused}"):
            ring.consumer("kind", **{option: refused})
        with ring.consumer("kind") as second, ring.consumer("kind", **{option: made}) as third:
            assert group_of(ring, "kind").members == [os.getpid()] * 3
            tx.send_many([b"1", b"2", b"3"])
            assert [each.recv(0) for each in (third, first, second)] == [b"1", b"2", b"3"]
        assert sorted(each.role for each in ring.stats().participants) == ["consumer", "producer"]


def test_the_default_group_is_durable_and_delivers_again(ring):
    for option, refused in (("ephemeral", True), ("redeliver", False)):
        with pytest.raises(ValueError, match=f"'default'.*{option}"):
            ring.consumer(**{option: refused})
    with ring.consumer(ephemeral=False, redeliver=True):
        pass
    assert names(ring) == ["default"]


# ---- redeliver=False ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1])
def test_what_a_dead_member_had_is_dropped_and_counted(named, peer, others):
    with named.create(4096) as ring, ring.producer() as tx:
        ring.remove_group("default")
        doomed = peer(MEMBER, named.name, "once", "redeliver=False")
        doomed.expect("attached")
        members = [ring.consumer("once") for _ in range(others)]
        tx.send_many([b"%d" % number for number in range(5)])
        for number in range(3):
            doomed.say("peek")
            doomed.expect(str(number))
        doomed.kill()
        assert ring.repair() == 1
        group = group_of(ring, "once")
        assert (group.dropped, group.redelivered, group.repaired) == (3, 0, 1)
        with members[0] if members else ring.consumer("once", redeliver=False) as rx:
            for number in (3, 4):
                with rx.peek(0) as view:
                    assert (bytes(view.data), view.redelivered) == (b"%d" % number, False)
            assert rx.try_recv() is None
        assert ring.stats().used == 0


def test_a_blocked_producer_goes_on_when_what_the_dead_had_is_dropped(named, peer):
    with named.create(4096) as ring, ring.producer() as tx:
        ring.remove_group("default")
        doomed = peer(MEMBER, named.name, "once", "redeliver=False")
        doomed.expect("attached")
        tx.send(bytes(4080))
        doomed.say("peek")
        doomed.hear()
        doomed.kill()
        tx.send(bytes(4080))  # for ever, if nobody looked after the dead
        assert group_of(ring, "once").dropped == 1


# ---- removal -----------------------------------------------------------------------------------------------


def test_removing_a_group_with_members_names_them(named, peer):
    with named.create(4096) as ring:
        members = [peer(MEMBER, named.name, "busy") for _ in range(2)]
        for each in members:
            each.expect("attached")
        with pytest.raises(shmring.MemberTaken, match="'busy'") as caught:
            ring.remove_group("busy")
        assert all(f"pid {each.pid}" in str(caught.value) for each in members)
        members[0].kill()
        with pytest.raises(shmring.MemberTaken) as caught:
            ring.remove_group("busy")
        assert f"pid {members[1].pid}" in str(caught.value) and str(members[0].pid) not in str(caught.value)
        members[1].say("leave")
        members[1].expect("left")
        ring.remove_group("busy")
        assert names(ring) == ["default"]
        with pytest.raises(KeyError, match="busy"):
            ring.remove_group("busy")


def test_removing_a_group_frees_what_its_dead_members_held(named, peer):
    with named.create(4096) as ring, ring.producer() as tx:
        ring.remove_group("default")
        doomed = [peer(MEMBER, named.name, "g") for _ in range(2)]
        for each in doomed:
            each.expect("attached")
        tx.send_many([bytes(2032)] * 2)
        for each in doomed:
            each.say("peek")
            each.hear()
            each.kill()
        ring.repair()
        assert not tx.try_send(b"") and ring.stats().used == 4096
        ring.remove_group("g")
        assert tx.try_send(b"")
        with ring.consumer("g", start="latest") as again:
            tx.send(b"new")
            with again.peek(0) as view:
                assert (bytes(view.data), view.redelivered) == (b"new", False)


@pytest.mark.parametrize("limit", [1, 3, 16])
def test_one_group_too_many_is_told_the_limit_and_who_is_there(backing, limit):
    with backing.create(4096, max_groups=limit) as ring:
        members = [ring.consumer(f"g{number}", ephemeral=True) for number in range(1, limit)]
        with pytest.raises(shmring.TooManyGroups, match=rf"{limit} groups.*default") as caught:
            ring.consumer("one more")
        assert isinstance(caught.value, OSError)
        assert all(f"g{number}" in str(caught.value) for number in range(1, limit))
        with ring.consumer() as rx, ring.consumer(lossy=True), ring.producer() as tx:
            tx.send(b"x")
            assert rx.recv(0) == b"x"
        if members:
            members[0].close()
        else:
            ring.remove_group("default")
        with ring.consumer("one more"):
            assert "one more" in names(ring)


def test_a_refused_consumer_is_no_death(backing):
    with backing.create(4096, max_groups=1) as ring:
        with pytest.raises(shmring.TooManyGroups):
            ring.consumer("one more")
        assert ring.stats().participants == []
        assert ring.repair() == 0 and ring.stats().repairs == 0


# ---- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_earliest_is_the_oldest_that_any_group_has_not_claimed(backing, producers):
    with backing.create(4096, producers=producers) as ring, ring.producer() as tx:
        a, b = ring.consumer(), ring.consumer("b")
        tx.send_many([b"%d" % number for number in range(6)])
        a.recv_many(4)
        b.recv_many(2)
        with ring.consumer("new", start="earliest") as early, ring.consumer("late", start="latest") as late:
            assert early.lag == 4 and late.lag == 0
            assert early.recv_many(9) == [b"2", b"3", b"4", b"5"]
            tx.send(b"6")
            assert [early.recv(0), late.recv(0)] == [b"6", b"6"]
        with pytest.raises(ValueError, match="middle"):
            ring.consumer("other", start="middle")


def test_latest_starts_behind_an_open_claim(backing):
    """What is reserved and not sent yet is before the newest place."""
    with backing.create(4096) as ring, ring.producer() as tx, ring.producer() as other, ring.consumer() as rx:
        claim = tx.reserve(5)
        other.send(b"behind")
        with ring.consumer("late", start="latest") as late, ring.consumer("early", start="earliest") as early:
            claim.view[:] = b"claim"
            claim.commit()
            other.send(b"new")
            assert rx.recv_many(9) == early.recv_many(9) == [b"claim", b"behind", b"new"]
            assert late.recv_many(9) == [b"new"]


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_groups_that_come_and_go_in_a_full_ring_see_no_gap(backing, producers):
    with backing.create(4096, producers=producers) as ring, ring.producer() as tx, ring.consumer() as rx:
        sent = 0
        for lap in range(100):
            while tx.try_send(b"%d" % sent + b"." * (lap * 7 % 900)):
                sent += 1
            oldest = sent - rx.lag
            with ring.consumer("guest", ephemeral=True) as guest:
                got = [int(message.rstrip(b".")) for message in guest.recv_many(10_000)]
                assert got == list(range(oldest, sent))
                assert guest.try_recv() is None
            rx.recv_many(1 + lap % 5)
        assert names(ring) == ["default"]
