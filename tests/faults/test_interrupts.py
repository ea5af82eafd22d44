"""Ctrl-C, other threads and CPU time while somebody waits."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

import shmring
from shmring import WaitPolicy

WAITER = """
    policies = {
        "parked": WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=100),
        "spinning": WaitPolicy(held=0, spin_us=0, yields=0, parks=False),
        "spinning before it parks": WaitPolicy(held=0, spin_us=1e9, yields=0),
        "yielding": WaitPolicy(held=0, spin_us=0, yields=1_000_000_000),
        "holding the GIL": WaitPolicy(held=1_000_000_000, spin_us=0, yields=0),
    }
    policy = policies[sys.argv[1]]
    with shmring.anonymous(4096) as ring, ring.producer(wait=policy) as tx, ring.consumer(wait=policy) as rx:
        calls = {"recv": rx.recv, "peek": rx.peek, "send": lambda: tx.send(b"x"),
                 "reserve": lambda: tx.reserve(1),
                 "send_many": lambda: tx.send_many([b"x"]), "wait": lambda: shmring.wait([rx]),
                 "recv_many": lambda: rx.recv_many(3), "for": lambda: list(rx)}
        if "send" in sys.argv[2] or sys.argv[2] == "reserve": tx.send(bytes(4080))
        if sys.argv[1] != "holding the GIL":
            def announce():
                while not any(each.waits or each.parks for each in ring.stats().participants): pass
                say("waiting")
            threading.Thread(target=announce, daemon=True).start()
        try:
            if sys.argv[1] == "holding the GIL":    # nobody else can say it; inside, as the signal may come at once
                say("waiting")
            calls[sys.argv[2]]()
        except KeyboardInterrupt:
            say("interrupted")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(3):
            if rx.try_recv() is None: break
        tx.send(b"works", timeout=0)
        say(rx.recv(timeout=0).decode())
"""


@pytest.mark.parametrize(
    "how, call",
    [
        ("parked", "recv"),
        ("parked", "send"),
        ("parked", "wait"),
        ("parked", "peek"),
        ("parked", "reserve"),
        ("parked", "recv_many"),
        ("parked", "send_many"),
        ("parked", "for"),
        ("spinning", "recv"),
        ("spinning", "send"),
        ("spinning before it parks", "recv"),
        ("spinning before it parks", "send"),
        ("yielding", "recv"),
        ("yielding", "send"),
        ("holding the GIL", "recv"),
    ],
)
def test_ctrl_c_ends_every_wait(peer, how, call):
    waiter = peer(WAITER, how, call)
    waiter.expect("waiting")
    waiter.signal(signal.SIGINT)
    waiter.expect("interrupted")
    waiter.expect("works")
    waiter.finish()


@pytest.mark.parametrize(
    "policy",
    [WaitPolicy.park, WaitPolicy.adaptive, WaitPolicy.spin, WaitPolicy(held=0, spin_us=0, yields=1000)],
    ids=["park", "adaptive", "spin", "yield"],
)
def test_other_threads_run_while_one_waits(policy):
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait=policy) as rx:
        got = []
        waiter = threading.Thread(target=lambda: got.append(rx.recv()))
        waiter.start()
        while not any(each.waits for each in ring.stats().participants):
            pass
        assert sum(range(5_000_000)) > 0  # several time slices of the interpreter
        assert not got
        tx.send(b"x")
        waiter.join()
        assert got == [b"x"]


def test_a_parked_wait_uses_no_cpu():
    with shmring.anonymous(4096) as ring, ring.producer(wait="park") as tx, ring.consumer(wait="park") as rx:
        rx.try_recv()
        assert shmring.wait([rx], timeout=0) == []  # what is loaded late is there
        before = time.process_time()
        for wait in (
            lambda: rx.recv(timeout=0.4),
            lambda: tx.send(bytes(4080)) or tx.send(b"x", timeout=0.4),
        ):
            with pytest.raises(TimeoutError):
                wait()
        rx.recv()
        assert shmring.wait([rx], timeout=0.4) == []
        assert time.process_time() - before < 0.4, sys.version  # of 1.2 s: a third of one wait that does not sleep


@pytest.mark.parametrize("timeout", [0.05, 0.2])
@pytest.mark.parametrize("wait", ["spin", "adaptive", "park"])
def test_a_timeout_is_never_early(wait, timeout):
    with shmring.anonymous(4096) as ring, ring.producer(wait=wait) as tx, ring.consumer(wait=wait) as rx:
        for call in (
            lambda: rx.recv(timeout),
            lambda: shmring.wait([rx], timeout) or tx.send(bytes(4080)),
            lambda: tx.send(b"x", timeout),
        ):
            before = time.monotonic()
            try:
                call()
            except TimeoutError:
                pass
            assert time.monotonic() - before >= timeout


def test_a_python_signal_handler_runs_during_a_wait_and_the_wait_goes_on():
    """A handler that does not raise: here it sends what the wait is for."""
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(wait="park") as rx:
        before = signal.signal(signal.SIGALRM, lambda *_: tx.send(b"from the handler"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert rx.recv() == b"from the handler"
        finally:
            signal.signal(signal.SIGALRM, before)
