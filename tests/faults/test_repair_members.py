"""What survivors do for dead members, and who counts as dead."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest
from dying import PATIENT, claimer, drain, group_of, member, peeked, ring  # noqa: F401 (fixtures)

import shmring

# ---- claims of dead members --------------------------------------------------------------------------------


def test_what_a_dead_member_had_goes_to_a_live_one(ring, peer):
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = member(peer, ring)
        tx.send_many([b"%d" % number for number in range(6)])
        doomed.say("peek")
        doomed.expect("0 False")
        assert rx.recv(0) == b"1"
        doomed.say("peek")
        doomed.expect("2 False")
        doomed.say("recv")
        doomed.expect("3")
        doomed.kill()
        assert ring.repair() == 1
        assert sorted(peeked(rx)) == [(b"0", True), (b"2", True), (b"4", False), (b"5", False)]
        group = group_of(ring)
        assert (group.repaired, group.redelivered, group.dropped) == (1, 2, 0)
        assert [each.redelivered for each in ring.stats().participants if each.role == "consumer"] == [2]
        assert ring.stats().used == 0


@pytest.mark.parametrize("how", ["recv", "try_recv", "recv_many", "recv_into"])
def test_every_way_of_receiving_delivers_what_the_dead_had(ring, peer, how):
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = member(peer, ring)
        tx.send_many([b"0", b"1", b"2"])
        for number in range(2):
            doomed.say("peek")
            doomed.expect(f"{number} False")
        doomed.kill()
        assert ring.repair() == 1
        got = []
        while len(got) < 3:
            if how == "recv_many":
                got += rx.recv_many(2, timeout=0)
            elif how == "recv_into":
                with pytest.raises(ValueError):
                    rx.recv_into(bytearray(0), timeout=0)
                buffer = bytearray(1)
                assert rx.recv_into(buffer, timeout=0) == 1
                got.append(bytes(buffer))
            else:
                got.append(rx.recv(timeout=0) if how == "recv" else rx.try_recv())
        assert sorted(got) == [b"0", b"1", b"2"]
        assert rx.try_recv() is None and ring.stats().used == 0
        assert group_of(ring).redelivered == 2


def test_a_sleeping_member_gets_what_the_dead_had(ring, peer):
    """Without a call by anybody else: whoever sleeps long looks after the dead. (Its slices are not an hour here, as nothing
    but the death is in its way.)"""
    with ring.producer() as tx, ring.consumer(wait="park") as rx:
        doomed = member(peer, ring)
        tx.send(b"0")
        doomed.say("peek")
        doomed.expect("0 False")
        got = []
        thread = threading.Thread(target=lambda: got.append(rx.recv()))
        thread.start()
        doomed.kill()
        thread.join()
        assert got == [b"0"]


def test_what_the_dead_had_waits_for_the_next_to_join(ring, peer):
    with ring.producer() as tx:
        doomed = [member(peer, ring) for _ in range(3)]
        tx.send_many([b"%d" % number for number in range(5)])
        for number, each in enumerate(doomed):
            each.say("peek")
            each.expect(f"{number} False")
        for each in doomed:
            each.kill()
        assert ring.repair() == 3
        assert ring.stats().used == ring.stats().tail  # they still gate
        with ring.consumer() as rx:
            assert sorted(peeked(rx)) == [(b"%d" % number, number < 3) for number in range(5)]
        assert ring.stats().used == 0


def test_a_newcomer_takes_the_slot_of_a_dead_member_when_there_is_no_other(named, peer):
    with named.create(4096, max_participants=4) as ring, ring.producer() as tx:
        doomed = [member(peer, ring) for _ in range(3)]
        tx.send_many([b"%d" % number for number in range(8)])
        for number in range(6):
            doomed[number % 3].say("peek")
            doomed[number % 3].expect(f"{number} False")
        for each in doomed:
            each.kill()
        with pytest.raises(shmring.TooManyParticipants, match="4 participants"):
            ring.consumer("another group")
        with pytest.raises(shmring.TooManyParticipants):
            ring.producer()
        with ring.consumer() as rx:
            assert sorted(peeked(rx)) == [(b"%d" % number, number < 6) for number in range(8)]
            with ring.producer() as other:
                other.send(b"room for others again")
            assert rx.recv(0) == b"room for others again"
        assert ring.stats().used == 0


@pytest.mark.parametrize("deaths", [2, 6])
def test_who_adopts_may_die_too(ring, peer, deaths):
    """Each adopter dies while it holds what it adopted, at another point."""
    with ring.producer() as tx:
        tx.send_many([b"%d" % number for number in range(4)])
        for number in range(deaths):
            doomed = member(peer, ring)
            for _ in range(number % 5):
                doomed.say("peek")
                doomed.hear()
            doomed.kill()
        with ring.consumer() as rx:
            got = peeked(rx)
            assert sorted(message for message, _ in got) == [b"0", b"1", b"2", b"3"]
            looked_at = min(4, max(number % 5 for number in range(deaths)))
            assert sum(redelivered for _, redelivered in got) >= looked_at
        assert ring.stats().used == 0


def test_an_adopter_that_released_some_keeps_those_from_coming_again(ring, peer):
    with ring.producer() as tx:
        tx.send_many([b"%d" % number for number in range(4)])
        first = member(peer, ring)
        for number in range(4):
            first.say("peek")
            first.expect(f"{number} False")
        first.kill()
        second = member(peer, ring)
        for number in range(3):
            second.say("peek")
            second.expect(f"{number} True")
        second.say("release")
        second.expect("released")
        second.kill()
        with ring.consumer() as rx:
            assert peeked(rx) == [(b"1", True), (b"2", True), (b"3", True)]


def test_more_than_one_member_can_hold_is_adopted_bit_by_bit(ring, peer):
    """Two dead members left 30 ranges apart from each other; a member has room for 15."""
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = [member(peer, ring) for _ in range(2)]
        tx.send_many([b"%d" % number for number in range(60)])
        for number in range(30):
            doomed[number % 2].say("peek")
            doomed[number % 2].expect(f"{2 * number} False")
            assert rx.recv(0) == b"%d" % (2 * number + 1)
        for each in doomed:
            each.kill()
        assert ring.repair() == 2
        assert sorted(map(int, drain(rx))) == list(range(0, 60, 2))
        assert group_of(ring).redelivered == 30 and ring.stats().used == 0


def test_a_blocked_producer_goes_on_when_the_member_in_its_way_is_killed(ring, peer):
    """The other member reads on, and so gets what the dead one had, too."""
    with ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        doomed = member(peer, ring)
        tx.send(bytes(4080))
        doomed.say("peek")
        doomed.hear()
        thread = threading.Thread(target=tx.send, args=(b"x",))
        thread.start()
        while not any(each.role == "producer" and each.parks for each in ring.stats().participants):
            pass
        doomed.kill()
        assert sorted(len(rx.recv()) for _ in range(2)) == [1, 4080]
        thread.join()


def test_members_are_killed_all_the_time_and_nothing_is_lost(ring, peer):
    """At least once in all, and more than once only where somebody died holding it: then it says so."""
    program = """
        rx = shmring.open(sys.argv[1]).consumer(wait="park")
        while True:
            with rx.peek() as view:
                os.write(1, b"%s %d\\n" % (bytes(view.data), view.redelivered))
    """
    rounds = 8
    lines, sent, enough = [], [], threading.Event()

    def write(tx):
        while not enough.is_set():
            tx.send(b"%d" % len(sent))
            sent.append(None)

    def read(end):
        with ring.consumer() as rx:
            while not end(rx):
                try:
                    with rx.peek(timeout=0.01) as view:
                        lines.append(f"{bytes(view.data).decode()} {int(view.redelivered)}")
                except TimeoutError:
                    pass

    with ring.producer() as tx:
        thread = threading.Thread(target=write, args=(tx,))
        thread.start()
        for number in range(rounds):
            members = [peer(program, ring.name) for _ in range(2)]
            for each in members:
                lines.append(each.hear())
            for each in members:
                each.kill()
                lines += [line for line in each.process.stdout.read().split("\n") if line]
            if number % 2:
                read(lambda rx: True)  # one that only comes and goes
        enough.set()
        read(lambda rx: not thread.is_alive() and rx.lag == 0 and ring.stats().used == 0)
        thread.join()
        assert group_of(ring).repaired == 2 * rounds
    got = [tuple(map(int, line.split())) for line in lines]
    fresh = [number for number, redelivered in got if not redelivered]
    assert len(fresh) == len(set(fresh))
    assert {number for number, _ in got} == set(range(len(sent)))
    assert len(got) - len(sent) <= 2 * rounds  # each of them held one


# ---- awkward evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reaped", [False, True], ids=["zombie", "reaped"])
@pytest.mark.parametrize("program", ["producer", "member"])
def test_a_death_counts_whether_or_not_it_was_reaped(ring, peer, program, reaped):
    with ring.producer() as tx, ring.consumer() as rx:
        doomed = (claimer if program == "producer" else member)(peer, ring)
        tx.send(b"x")
        if program == "member":
            doomed.say("peek")
            doomed.hear()
        doomed.signal(signal.SIGKILL)
        os.waitid(os.P_PID, doomed.pid, os.WEXITED | os.WNOWAIT)
        if reaped:
            doomed.process.wait()
        assert [each.alive for each in ring.stats().participants if each.pid == doomed.pid] == [False]
        assert ring.repair() == 1
        assert drain(rx)[-1] == b"x"
        assert ring.stats().used == 0


@pytest.mark.parametrize("how", ["os.fork", "C fork"])
@pytest.mark.parametrize("role", ["producer", "member"])
def test_children_that_inherited_everything_do_not_keep_a_dead_parent_alive(ring, peer, how, role):
    """A fork in C runs none of Python's hooks, so that child holds the very descriptor whose lock proves its parent's life."""
    with ring.producer() as tx, ring.consumer() as rx:
        parent = peer(
            """
            import ctypes
            ring = shmring.open(sys.argv[1])
            if sys.argv[3] == "producer":
                tx = ring.producer()
                claim = tx.reserve(100)
            else:
                rx = ring.consumer()
                view = rx.peek()
            child = os.fork() if sys.argv[2] == "os.fork" else ctypes.CDLL(None).fork()
            if child == 0:
                os.close(1)
                signal.pause()
            say(child)
            hear()
        """,
            ring.name,
            how,
            role,
        )
        if role == "member":
            tx.send(b"held")
        child = int(parent.hear())
        try:
            tx.send(b"behind")
            assert ring.repair() == 0
            parent.process.kill()
            os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
            expected = [b"held", b"behind"] if role == "member" else [b"behind"]
            assert sorted(rx.recv() for _ in expected) == sorted(expected)
            assert ring.repair() == 0 and ring.stats().repairs == 1
        finally:
            os.kill(child, signal.SIGKILL)


NAMESPACED = """
    # The first process of a new pid namespace is a child of who made it.
    import ctypes
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000000) != 0:      # CLONE_NEWPID
        say("refused", os.strerror(ctypes.get_errno()))
        os._exit(0)
    inner = os.fork()
    if inner:
        os.write(1, b"outside %d\\n" % inner)      # two write here, each in one piece
        os.waitpid(inner, 0)
        say("inner ended")
        hear()
        os._exit(0)
    ring = shmring.open(sys.argv[1])
    tx, rx = ring.producer(), ring.consumer("inner")
    claim = tx.reserve(10)
    os.write(1, b"inside %d\\n" % os.getpid())
    for command in iter(hear, "leave"):
        if command == "alive":
            ring.repair()
            say(sorted((each.role, each.alive) for each in ring.stats().participants if each.pid != os.getpid()))
        elif command == "recv":
            say(rx.recv().decode())
        elif command == "abort":
            claim.abort()
            say("aborted")
    os._exit(0)
"""


@pytest.fixture
def elsewhere(ring, peer):
    """A participant in a pid namespace of its own, whose pid there is 1; and its pid here."""
    if subprocess.run(["unshare", "-pf", "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not make pid namespaces")
    started = peer(NAMESPACED, ring.name)
    here = started.hear()
    if here.startswith("refused"):
        pytest.skip(f"unshare(CLONE_NEWPID): {here}")
    pids = dict(line.split() for line in (here, started.hear()))
    assert pids["inside"] == "1"
    yield started, int(pids["outside"])
    try:
        os.kill(int(pids["outside"]), signal.SIGKILL)  # it is not the peer's process that is waited for
    except ProcessLookupError:
        pass


def test_who_lives_in_another_pid_namespace_is_alive(ring, elsewhere):
    other, _ = elsewhere
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"x")
        assert ring.repair() == 0
        assert all(each.alive for each in ring.stats().participants)
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.05)  # its claim is open
        other.say("recv")  # so it waits, too, and looks after the dead: we are none
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.05)
        assert ring.stats().repairs == 0


def test_who_died_in_another_pid_namespace_is_dead(ring, elsewhere):
    other, pid = elsewhere
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"behind")
        os.kill(pid, signal.SIGKILL)
        other.expect("inner ended")
        assert rx.recv() == b"behind"
        assert (ring.stats().repairs, ring.stats().aborted) == (2, 1)


def test_who_is_elsewhere_sees_who_lives_and_who_died_here(ring, elsewhere, peer):
    other, _ = elsewhere
    doomed, lives = claimer(peer, ring), member(peer, ring)
    other.say("alive")
    other.expect("[('consumer', True), ('producer', True)]")
    doomed.kill()
    other.say("alive")
    other.expect("[('consumer', True)]")
    lives.say("leave")
    lives.expect("left")
    other.say("alive")
    other.expect("[]")
    other.say("abort")
    other.expect("aborted")
    other.say("recv")
    other.expect(f"sent by {doomed.pid}")


def test_a_pid_that_means_somebody_else_outside_is_not_taken_for_a_death(ring, peer):
    """In a pid namespace without a /proc of its own, /proc tells of the outer processes: here of one with the same pid, which
    dies."""
    if os.getuid() != 0 or subprocess.run(["unshare", "-pf", "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not choose pids in a namespace")
    namesake = subprocess.Popen(["sleep", "60"])
    try:
        other = peer(
            """
            import ctypes
            namesake = int(sys.argv[2])
            assert ctypes.CDLL(None).unshare(0x20000000) == 0
            if os.fork(): os.wait(); os._exit(0)
            def as_pid(number, work):
                with open("/proc/sys/kernel/ns_last_pid", "w") as file: file.write(str(number - 1))
                child = os.fork()
                if child == 0:
                    work()
                    os._exit(0)
                return child
            ring = shmring.open(sys.argv[1])
            def lives():
                tx = ring.producer()
                say("attached as", os.getpid())
                signal.pause()
            child = as_pid(namesake, lives)
            if child != namesake: say("not that pid")
            hear()
            say(ring.repair(), [each.alive for each in ring.stats().participants])
            hear()
            os.kill(child, signal.SIGKILL)
            os._exit(0)         # faulthandler's thread is the parent's: the interpreter would wait for it for ever
        """,
            ring.name,
            namesake.pid,
        )
        heard = other.hear()
        if heard != f"attached as {namesake.pid}":
            pytest.skip(f"the kernel gave another pid: {heard}")
        namesake.kill()  # and is not reaped: a zombie
        os.waitid(os.P_PID, namesake.pid, os.WEXITED | os.WNOWAIT)
        other.say()
        other.expect("0 [True]")
        other.say()
    finally:
        namesake.kill()
        namesake.wait()


def test_a_reused_slot_is_not_taken_for_its_dead_owner(ring, peer):
    with ring.consumer() as rx:
        for number in range(12):  # more than there are slots
            doomed = claimer(peer, ring, 20)
            doomed.kill()
            with ring.producer() as tx:
                tx.send(b"%d" % number)
                assert [rx.recv(), rx.recv()] == [b"sent by %d" % doomed.pid, b"%d" % number]
        assert ring.stats().aborted == ring.stats().repairs == 12
