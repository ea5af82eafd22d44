"""Time only says when to look: clocks that jump change no wait, and hours of silence are no evidence of death."""

from __future__ import annotations

import os
import signal
import time

import pytest
from clock import clock_library  # noqa: F401
from dying import stop
from seccomp import NUMBERS, REFUSE, hear_filtered, needs_seccomp

import shmring

pytestmark = pytest.mark.timeout(300, method="signal")

# All ways to wait, each until a time-out and each until it is served by a handler; the time that passed is measured by a clock
# that nobody changes: os.times() counts the machine's ticks of 10 ms, as a float whose last digits are lost after some months
# (nine ticks may read 0.0899), and a tick may be counted late. A wait that ended at once would read less than three.
WAITS = """
    def elapsed(call):
        began = os.times().elapsed
        try: call()
        except TimeoutError: pass
        else: raise AssertionError("no time-out")
        return os.times().elapsed - began
    def empty(call):
        if call(): raise AssertionError("ready")
        raise TimeoutError
    waits = {"park": WaitPolicy(held=0, spin_us=0, yields=0), "spin": "spin",
             "yield": WaitPolicy(held=0, spin_us=0, yields=10**9),
             "patient": WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)}
    rings = shmring.create(sys.argv[1], 4096), shmring.create(sys.argv[1] + "2", 4096)
    for label, wait in waits.items():
        with rings[0].producer(wait=wait) as tx, rings[0].consumer(wait=wait) as rx, \\
                rings[0].consumer(lossy=True, start="latest", wait=wait) as seer, \\
                shmring.open(sys.argv[1], readonly=True) as looks, \\
                looks.consumer(lossy=True, start="latest", wait=wait) as watcher, \\
                rings[1].consumer(wait=wait) as other:
            calls = [lambda: rx.recv(0.1), lambda: rx.peek(0.1), lambda: rx.recv_many(3, 0.1), lambda: seer.recv(0.1),
                     lambda: watcher.recv(0.1), lambda: empty(lambda: shmring.wait([rx, other], 0.1)),
                     lambda: tx.send(bytes(4080)) or tx.send(b"x", timeout=0.1), lambda: tx.reserve(4000, timeout=0.1)]
            for call in calls:
                passed = elapsed(call)
                assert passed > 0.05, (label, passed)
            rx.recv(0)
            seer.recv(0), watcher.recv(0)
            signal.signal(signal.SIGALRM, lambda *_: tx.send(b"late"))
            for call in (lambda: rx.recv(60), lambda: seer.recv(60), lambda: watcher.recv(60)):
                signal.setitimer(signal.ITIMER_REAL, 0.03)
                assert call() == b"late"
            rx.recv_many(2)
    for missing in (lambda: shmring.open(sys.argv[1] + "3", timeout=0.1),):
        began = os.times().elapsed
        try: missing()
        except shmring.RingNotFound: assert os.times().elapsed - began > 0.05
    for ring in rings: ring.close(); shmring.unlink(ring.name)
    say("unmoved")
    os._exit(0)         # an interpreter that ends takes its own locks, by whatever clock
"""


def test_a_time_of_day_that_jumps_by_years_changes_no_wait(unique_name, peer, clock_library, monkeypatch):
    """At every look the time of day is another year: a wait that went by it would end at once, or never."""
    monkeypatch.setenv("LD_PRELOAD", str(clock_library))
    monkeypatch.setenv("SHMRING_REALTIME", "jump")
    other = peer(
        """
        times = [time.time() for _ in range(4)]
        assert max(times) - min(times) > 3e7, "the other clock is not in place"
"""
        + WAITS.replace("\n    ", "\n        "),
        unique_name,
    )
    other.expect("unmoved")
    other.finish()


@needs_seccomp
def test_no_sleep_names_the_time_of_day(unique_name, peer):
    """A filter kills who sleeps until a time of day: a futex with FUTEX_CLOCK_REALTIME, or clock_nanosleep by CLOCK_REALTIME.

    (Without a filter for it, the wait that is tried first would be allowed: a sleep by CLOCK_REALTIME does end the process.)
    """
    lines = [line[4:] if line.startswith("    ") else line for line in WAITS.splitlines()]
    rules = f"""
refuse([({NUMBERS["futex"]}, 1, ANY, 256, KILL), ({NUMBERS["clock_nanosleep"]}, 0, EQUAL, 0, KILL),
        ({NUMBERS["futex_waitv"]}, 4, EQUAL, 0, KILL)])
say("filtered")
"""
    other = peer(REFUSE + rules + "\n".join(lines), unique_name)
    hear_filtered(other)
    other.expect("unmoved")
    other.finish()
    killed = peer(REFUSE + rules + "ctypes.CDLL(None).clock_nanosleep(0, 1, (ctypes.c_long * 2)(1, 0), None)\nsay('slept')")
    hear_filtered(killed)
    killed.finish(-signal.SIGSYS)


STOPPED = """
    faulthandler.cancel_dump_traceback_later()          # it is stopped for longer than a test lasts
    ring = shmring.open(sys.argv[1])
    tx, rx = ring.producer(), ring.consumer("stopped")
    tx.send(b"held")
    view = rx.peek()
    claim = tx.reserve(10)
    say("holding")
    if hear() == "go on": claim.commit()
    say("committed")
    hear()
"""

SURVIVOR = """
    began = time.monotonic()
    ring = shmring.open(sys.argv[1])
    policy = WaitPolicy(held=0, spin_us=0, yields=0, parks=sys.argv[2] == "parks")
    with ring.producer(wait=policy) as tx, ring.consumer(wait=policy) as rx, ring.consumer(lossy=True, wait=policy) as seer:
        assert rx.recv(0) == seer.recv(0) == b"held"
        assert tx.try_send(b"behind")
        waits = {"claim": lambda: rx.recv(600), "observer": lambda: seer.recv(600),
                 "room": lambda: tx.send(bytes(4000), timeout=600), "wait": lambda: shmring.wait([rx], 600) or 1 / 0}
        for label, call in waits.items():
            before = time.monotonic()
            try: call()
            except (TimeoutError, ZeroDivisionError): assert time.monotonic() - before >= 600
            else: say("somebody alive was taken for dead", label)
        stats = ring.stats()
        alive = all(each.alive for each in stats.participants)
        say(stats.repairs, stats.aborted, alive, ring.repair(), len(stats.participants))
        say("hours" if time.monotonic() - began >= 2400 else time.monotonic() - began)
        hear()
        say(rx.recv() == bytes(10), rx.recv().decode())
"""


@pytest.mark.parametrize("parks", ["parks", "spins"])
def test_a_peer_that_is_stopped_for_most_of_an_hour_is_alive(unique_name, peer, clock_library, monkeypatch, parks):
    """It holds a claim that others wait behind, and a view that gates. For the survivor time runs 2000 times as fast."""
    with shmring.create(unique_name, 4096):
        holder = peer(STOPPED, unique_name)
        holder.expect("holding")
        stop(holder)
        monkeypatch.setenv("LD_PRELOAD", str(clock_library))
        monkeypatch.setenv("SHMRING_MONOTONIC", "2000")
        survivor = peer(SURVIVOR, unique_name, parks)
        monkeypatch.delenv("LD_PRELOAD")
        survivor.expect("0 0 True 0 5")
        survivor.expect("hours")
        holder.signal(signal.SIGCONT)
        holder.say("go on")
        holder.expect("committed")
        survivor.say()
        survivor.expect("True behind")
        survivor.finish()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_peer_that_is_stopped_for_minutes_is_alive(unique_name, peer):
    """The same by the clock on the wall."""
    minutes = max(3.0, 60 * float(os.environ.get("SHMRING_SOAK_HOURS", "0.05")) / 20)
    with shmring.create(unique_name, 4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        holder = peer(STOPPED, unique_name)
        holder.expect("holding")
        stop(holder)
        assert rx.recv() == b"held"
        tx.send(b"behind")
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            with pytest.raises(TimeoutError):
                rx.recv(timeout=10)
            assert ring.repair() == 0 and ring.stats().repairs == 0
        holder.signal(signal.SIGCONT)
        holder.say("go on")
        holder.expect("committed")
        assert (rx.recv(), rx.recv()) == (bytes(10), b"behind")
