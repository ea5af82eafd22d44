"""Where a seccomp filter, or an old kernel, refuses the calls that shmring is fast with: it works, and looks more often.

Both answers are tried: EPERM, as filters give, and ENOSYS, as a kernel does that does not know the call.
"""

from __future__ import annotations

import errno
import os

import pytest
from seccomp import NUMBERS, REFUSE, hear_filtered, needs_seccomp

import shmring

pytestmark = [needs_seccomp, pytest.mark.timeout(300, method="signal")]

ANSWERS = pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)


def filtered(program: str, *calls: str) -> str:
    """A program that says "filtered" and then is refused these calls, with the error number of its last argument."""
    rules = ", ".join(f"({NUMBERS[call]}, ERRNO | int(sys.argv[-1]))" for call in calls)
    lines = program.rstrip().splitlines()
    indent = " " * (len(lines[1]) - len(lines[1].lstrip()))
    return "\n".join([indent + line for line in REFUSE.splitlines()] + [f"{indent}refuse([{rules}]); say('filtered')"] + lines)


WAIT = """
    policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    one, two = shmring.open(sys.argv[1]), shmring.open(sys.argv[2])
    rx, tx, other = one.consumer(wait=policy), two.producer(wait=policy), one.consumer("other", wait=policy)
    say(shmring.wait([rx, other], timeout=0.05))
    for _ in range(20):
        say(shmring.wait([rx, other]) != [], rx.recv(0).decode(), other.recv(0).decode())
    tx.send(bytes(4080))
    say(tx.try_send(b"x"))
    say(shmring.wait([rx, tx]) == [tx])
    signal.signal(signal.SIGALRM, lambda *_: one.shutdown())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    say(shmring.wait([rx, other]) == [rx, other])
    say(sum(each.parks for each in one.stats().participants) > 20)
"""


@ANSWERS
@pytest.mark.parametrize("calls", [("futex_waitv",), ("futex_waitv", "membarrier")], ids="+".join)
def test_wait_works_without_futex_waitv(unique_name, peer, calls, answer):
    """It was an OSError before; the time slice of an hour shows that nobody waits for its end."""
    with shmring.create(unique_name + "1", 4096) as one, shmring.create(unique_name + "2", 4096) as two:
        other = peer(filtered(WAIT, *calls), unique_name + "1", unique_name + "2", answer)
        hear_filtered(other)
        other.expect("[]")
        with one.producer() as tx, two.consumer() as rx:
            for each in range(20):
                tx.send(b"%d" % each)
                other.expect(f"True {each} {each}")
            other.expect("False")
            rx.recv()
            other.expect("True")
        other.expect("True")
        other.expect("True")
        other.finish()


ECHO = """
    policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    there, back = shmring.open(sys.argv[1]), shmring.open(sys.argv[2])
    with there.consumer(wait=policy) as rx, back.producer(wait=policy) as tx:
        say("attached")
        for message in rx:
            tx.send(message)
            if len(message) > 2000: tx.send(bytes(2500))        # waits for room
    say("ended")
"""

ASK = """
    policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    there, back = shmring.open(sys.argv[1]), shmring.open(sys.argv[2])
    with there.producer(wait=policy) as tx, back.consumer(wait=policy) as rx:
        for each in range(2000):
            message = b"%d" % each * (700 if each % 3 == 0 else 1)
            tx.send(message)
            assert rx.recv() == message
            if len(message) > 2000: assert rx.recv() == bytes(2500)
    say(each + 1, "echoed")
    hear()
"""


@ANSWERS
@pytest.mark.parametrize("refused", ["one side", "both"])
def test_no_wake_up_is_lost_where_membarrier_is_refused(unique_name, peer, refused, answer):
    """Who cannot use membarrier always fences as a notifier, and sleeps a millisecond at a time as a waiter."""
    with shmring.create(unique_name + "1", 4096) as there, shmring.create(unique_name + "2", 4096):
        echo = peer(filtered(ECHO, "membarrier") if refused == "both" else ECHO, unique_name + "1", unique_name + "2", answer)
        if refused == "both":
            hear_filtered(echo)
        echo.expect("attached")
        asker = peer(filtered(ASK, "membarrier"), unique_name + "1", unique_name + "2", answer)
        hear_filtered(asker)
        asker.expect("2000 echoed")
        there.shutdown()
        echo.expect("ended")
        asker.say()
        for each in (asker, echo):
            each.finish()


SHARE = """
    ring = shmring.open(sys.argv[1])
    try:
        rx = ring.consumer()
    except shmring.MemberTaken as error:
        say("refused:", error)
        os._exit(0)
    say("joined")
    for message in rx:
        print(int(message), flush=True)
    say("ended")
"""


@ANSWERS
def test_a_second_member_without_membarrier_is_told_why_or_shares(unique_name, peer, answer):
    """Beside a member that claims without exchanges nobody can join who cannot make it notice; the text says so."""
    with shmring.create(unique_name, 4096) as ring, ring.consumer():
        late = peer(filtered(SHARE, "membarrier"), unique_name, answer)
        hear_filtered(late)
        heard = late.hear()
        assert heard.startswith("refused:") and "membarrier" in heard and str(os.getpid()) in heard
        late.finish()
    with shmring.create(unique_name + "2", 4096) as ring:
        first = peer(filtered(SHARE, "membarrier"), unique_name + "2", answer)
        hear_filtered(first)
        first.expect("joined")
        with ring.consumer() as second, ring.producer() as tx:  # it exchanges from the start, so others may join
            tx.send_many([b"%d" % each for each in range(100)])
            got = []
            while (message := second.try_recv()) is not None:
                got.append(int(message))
            ring.shutdown()
        theirs = [int(line) for line in iter(first.hear, "ended")]
        assert sorted(got + theirs) == list(range(100))
        first.finish()
