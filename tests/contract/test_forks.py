"""A fork in the middle of everything: with a claim open, views held, threads asleep in handles, from callbacks. The child uses
what it inherited, or not, and ends in its own way; the parent and its ring notice nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from peer import ROOT

PARENT = """
import gc, os, signal, sys, threading, time
import shmring

name, topology = sys.argv[1:3]
ring = shmring.create(name, 4096, producers=topology)
PARK = shmring.WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
tx, rx, observer = ring.producer(wait=PARK), ring.consumer(wait=PARK), ring.consumer(lossy=True)
sleeper = ring.consumer("sleeper", start="latest", wait=PARK)
asleep = []
def parks():
    return sum(bool(each.parks) for each in ring.stats().participants)
def wrong(call):
    try:
        call()
    except shmring.WrongProcess:
        return
    raise AssertionError("this handle is the parent's")
children = []
def as_child(work, waits=True):
    "Fork; the child does its work and is at the end of the program; the parent waits for it, or does so later."
    children.append(os.fork())
    if children[-1] == 0:
        work()
        return True
    if waits: see_the_ends()
    return False
def see_the_ends():
    while children:
        status = os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1])
        assert status == 0, f"the child ended with {status}"
"""

# With everything open.
OPEN = """
tx.send(b"held"); tx.send(b"next")
sleeper.recv(0); sleeper.recv(0)
thread = threading.Thread(target=lambda: asleep.append(sleeper.recv()), daemon=True)
thread.start()
while not parks(): time.sleep(0.0005)
view, seen, claim = rx.peek(0), observer.peek(0), tx.reserve(3)
room, data, glance = claim.view, view.data, seen.data
if not as_child(child):
    room[:] = b"new"
    claim.commit()
    assert bytes(data) == b"held" and bytes(glance) == b"held" and view.valid
    for each in data, glance, room: each.release()
    view.release(); seen.release()
    assert rx.recv(0) == b"next" and rx.recv(5) == b"new"
    thread.join()
    assert asleep == [b"new"]
    stats = ring.stats()
    assert stats.repairs == stats.aborted == 0 and stats.groups[0].redelivered == 0, stats
    assert {each.pid for each in stats.participants} == {os.getpid()}, stats
    assert ring.repair() == 0 and stats.used == 0, stats
    print("the parent is fine", flush=True)
"""

CHILDREN = {
    "does nothing": "pass",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "uses what is not its own": """
        for call in (lambda: tx.send(b"x"), lambda: tx.try_send(b"x"), lambda: tx.send_many([b"x"]), rx.recv, rx.try_recv,
                     lambda: rx.recv_into(bytearray(9)), lambda: rx.recv_many(1), rx.peek, lambda: next(rx), lambda: rx.lag,
                     observer.recv, observer.try_recv, observer.peek, observer.latest, lambda: observer.lag, sleeper.recv,
                     lambda: shmring.wait([rx]), lambda: shmring.wait([observer, sleeper]), rx.__enter__):
            wrong(call)
        assert bytes(data) == b"held" and ring.stats().groups and repr(tx) and not tx.closed
    """,
    "ends what is not its own": """
        for call in (claim.commit, lambda: tx.reserve(3), view.release):
            wrong(call)
        seen.release()
        claim.abort()
    """,
    "leaves the block": """
        try:
            with claim: pass
        except shmring.WrongProcess:
            try:
                with view: raise KeyError
            except shmring.WrongProcess:
                os._exit(0)
        os._exit(1)
    """,
    "fails in the block": """
        try:
            with claim: raise KeyError
        except KeyError:
            os._exit(0)
        os._exit(1)
    """,
    "drops everything": """
        global tx, rx, observer, sleeper, ring, view, seen, claim, room, data, glance
        del tx, rx, observer, sleeper, ring, view, seen, claim, room, data, glance
        gc.collect()
    """,
    "closes everything": """
        for each in glance, data, room: each.release()
        for each in sleeper, observer, rx, tx, ring:
            each.close()
            assert each.closed
    """,
    "closes what is in use": """
        try:
            ring.close()
        except BufferError:
            pass
        tx.close(); rx.close()
    """,
    "makes its own": """
        with ring.consumer("own", start="latest") as own, ring.consumer(lossy=True, start="latest") as mine:
            assert own.try_recv() is None and mine.try_recv() is None
            if topology == "multi":
                ring.producer().close()
        ring.remove_group("own")
    """,
    "makes its own and leaves it": """
        global own, mine
        own, mine = ring.consumer("own", ephemeral=True), shmring.open(name).consumer(lossy=True)
        threading.Thread(target=mine.recv, daemon=True).start()
    """,
    "forks again": """
        if os.fork() == 0:
            wrong(rx.peek)
            sys.exit(0)
        assert os.wait()[1] == 0
        wrong(tx.close) if tx.closed else tx.close()
    """,
    "unlinks nothing, repairs nobody": "assert ring.repair() == 0",
}


def run(code, *arguments):
    program = PARENT + code
    words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def indented(code):
    return "def child():\n" + textwrap.indent(textwrap.dedent(code).strip() or "pass", "    ") + "\n"


@pytest.mark.parametrize("what", CHILDREN)
def test_a_child_forked_with_everything_open_takes_nothing(unique_name, topology, what):
    assert run(indented(CHILDREN[what]) + OPEN, unique_name, topology) == "the parent is fine\n"


# Where else a fork may come from. Each sends two messages and has to find them.
PLACES = {
    "a thread": """
        done = []
        def elsewhere():
            if as_child(child): os._exit(0)
            done.append(1)
        thread = threading.Thread(target=elsewhere); thread.start(); thread.join()
        assert done
        tx.send_many([b"1", b"2"])
    """,
    "the messages of send_many": """
        def messages():
            yield b"1"
            if as_child(child): os._exit(0)
            yield b"2"
        tx.send_many(messages())
    """,
    "a finalizer that send_many runs": """
        class Message(bytearray):
            def __del__(self):
                if as_child(child): os._exit(0)
        tx.send_many([Message(b"1"), b"2"])
        gc.collect()
    """,
    "a signal handler under recv": """
        rest = []
        def handler(*_):
            if as_child(child): os._exit(0)
            rest.append(1)
        signal.signal(signal.SIGUSR1, handler)
        def interrupt():
            while not any(each.parks and each.role == "consumer" for each in ring.stats().participants): time.sleep(0.0005)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not rest: time.sleep(0.0005)
            tx.send_many([b"0", b"1", b"2"])
        threading.Thread(target=interrupt).start()
        assert rx.recv() == b"0"
    """,
    "a signal handler under send": """
        sleeper.close(); ring.remove_group("sleeper")
        while tx.try_send(bytes(1000)): pass
        rest = []
        def handler(*_):
            if as_child(child): os._exit(0)
            rest.append(1)
        signal.signal(signal.SIGUSR1, handler)
        def interrupt():
            while not any(each.parks and each.role == "producer" for each in ring.stats().participants): time.sleep(0.0005)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not rest: time.sleep(0.0005)
            for _ in range(5): rx.recv()
        thread = threading.Thread(target=interrupt)
        thread.start()
        tx.send(bytes(1000))
        thread.join()
        tx.send_many([b"1", b"2"])
    """,
    "the tables": """
        from shmring import evidence
        real = evidence.own_identity
        def forking():
            evidence.own_identity = real
            if as_child(child): os._exit(0)         # who wants to join must not wait for us, who hold them
            return real()
        evidence.own_identity = forking
        more = ring.consumer(lossy=True)
        more.close()
        tx.send_many([b"1", b"2"])
    """,
    "the tables, and the child goes on": """
        from shmring import evidence
        real, parent = evidence.own_identity, os.getpid()
        def forking():
            evidence.own_identity = real
            as_child(child, waits=False)
            return real()
        evidence.own_identity = forking
        try:
            more = ring.consumer(lossy=True)
        finally:
            if os.getpid() != parent: os._exit(0)
        more.close()
        tx.send_many([b"1", b"2"])
    """,
    "the log": """
        import logging
        class Handler(logging.Handler):
            forked = 0
            def emit(self, record):
                Handler.forked += 1
                if as_child(child): os._exit(0)
        logging.getLogger("shmring").addHandler(Handler())
        logging.getLogger("shmring").setLevel(logging.DEBUG)
        logging.getLogger("shmring").propagate = False
        dead = os.fork()
        if dead == 0:
            lost = ring.consumer(lossy=True)
            os._exit(0)
        os.waitpid(dead, 0)
        assert ring.repair() == 1 and Handler.forked
        tx.send_many([b"1", b"2"])
    """,
}


@pytest.mark.parametrize("what", ["does nothing", "uses and makes"])
@pytest.mark.parametrize("place", PLACES)
def test_a_fork_from_a_callback_disturbs_nobody(unique_name, topology, place, what):
    child = {
        "does nothing": "pass",
        "uses and makes": """
            for call in rx.recv, observer.recv, lambda: tx.send(b"child"):
                wrong(call)
            try:
                with ring.consumer("own", ephemeral=True, start="latest") as own:
                    own.try_recv()
                if topology == "multi":
                    ring.producer().close()
            except RuntimeError as error:
                assert "tables" in str(error), error
        """,
    }[what]
    code = indented(child) + textwrap.dedent(PLACES[place]).lstrip("\n") + textwrap.dedent("""
        see_the_ends()
        assert [rx.recv(5), rx.recv(5)] == [b"1", b"2"]
        assert ring.repair() == 0
        assert {each.pid for each in ring.stats().participants} == {os.getpid()}
        print("the parent is fine", flush=True)
    """)
    assert run(code, unique_name, topology) == "the parent is fine\n"
