"""The interpreter ends with everything open, whatever holds on to it, in any order, with threads asleep in it: silently, with
its own exit code, as somebody who left; and the ring goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from peer import PROGRAMS

import shmring

NAMES = "ring tx rx observer view data seen glance claim room unseen iterator gone array again".split()  # noqa: SIM905
CALLS = ("send", "recv", "iterate", "observe", "wait")  # the first fills the ring, so that nothing comes to the others
chance = random.Random(1)


def shuffled(number):
    return [chance.sample(NAMES, len(NAMES)) for _ in range(number)]


# What keeps it, in which orders; and what has no memory in use, so that it leaves in order.
HOLDERS = ("cycle", "another module", "thread", "user", "codec", "traceback")
KEPT = {"globals": shuffled(40), **{how: shuffled(8) for how in HOLDERS}}
QUIET = ["ring", "tx", "rx", "observer", "iterator", "gone", "again"]


@pytest.fixture
def ends(peer, unique_name):
    """End an interpreter as a case says: (exit code, what it wrote to standard error, how many it left for dead)."""
    server = peer("exits.py")
    made = []

    def end(order=(), keep="globals", topology="multi", **more):
        name = f"{unique_name}-{len(made)}"
        ring = shmring.create(name, 4096, producers=topology, max_participants=24)
        made.append(ring)
        server.say(json.dumps({"name": name, "order": order, "keep": keep, **more}))
        answer = json.loads(server.hear())
        left = ring.stats().participants
        assert all(not each.alive for each in left)
        assert ring.repair() <= len(left)
        go_on(ring)
        return answer["status"], answer["errors"], ring.stats().repairs

    yield end
    for ring in made:
        name = ring.name
        ring.close()
        shmring.unlink(name)
    server.process.stdin.close()


def go_on(ring):
    """Nobody is in the way of those who come."""
    assert ring.stats().participants == []
    for group in ring.stats().groups:
        if group.name != "default":
            ring.remove_group(group.name)
    with ring.producer() as tx, ring.consumer() as rx:
        while rx.try_recv() is not None:
            pass
        tx.send(bytes(ring.max_message), timeout=0)
        assert len(rx.recv(0)) == ring.max_message


@pytest.mark.parametrize("keep", KEPT)
def test_the_interpreter_ends_silently_with_everything_open(ends, keep):
    for index, order in enumerate(KEPT[keep]):
        status, errors, _ = ends(order, keep, ("multi", "single")[index % 2])
        assert (status, errors) == (0, ""), order


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("late", ["slow", "sys.exit in a thread"])
def test_handles_that_lend_no_memory_leave_with_the_interpreter(ends, keep, late):
    for _ in range(3):
        assert ends(chance.sample(QUIET, len(QUIET)), keep, late=late) == (0, "", 0)


@pytest.mark.parametrize("late", ["", "slow"])
@pytest.mark.parametrize("calls", [[call] for call in CALLS] + [list(CALLS)], ids=" ".join)
def test_daemon_threads_asleep_at_the_end_are_no_dead_and_print_nothing(ends, calls, late):
    """They used to be found dead, and said on standard error that their handle was closed if the end took a while."""
    for _ in range(3):
        assert ends(threads=calls, late=late) == (0, "", 0)


def test_daemon_threads_that_leave_at_the_end_do_not_hang_it(ends):
    """The end stops a thread wherever it lets go of the GIL; it used to take a lock with it that finalizers wait for."""
    for index in range(30):
        status, errors, _ = ends(NAMES, threads=[["recv"], ["come and go"]][index % 2])
        assert (status, errors) == (0, "")


def test_an_exception_at_the_end_keeps_its_exit_code(ends):
    assert ends(QUIET, late="an error") == (1, "", 0)


def test_os_exit_is_a_death(ends):
    """Nothing of Python runs then; the kernel tells the others."""
    status, errors, dead = ends(QUIET, late="os._exit")
    assert (status, errors) == (0, "") and dead == len(QUIET) - 2  # but the ring, and who may only read


@pytest.mark.parametrize("what", ["nothing more", "a daemon thread", "a thread", "a pool"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_that_end_are_no_dead(peer, unique_name, method, what):
    """They end with os._exit, without atexit, and used to be found dead if their handles were in globals, as a pool's are."""
    with shmring.create(unique_name, 4096) as ring, ring.consumer("all", start="latest") as rx:
        parent = peer("exit_children.py", method, what, unique_name)
        codes, left, dead = parent.hear().rsplit(" ", 2)
        parent.finish()
        assert codes == "[0]"
        if what == "a thread":
            # It is waited for after the worker has returned: nothing may be closed under it.
            assert [rx.recv(0), rx.recv(0)] == [b"work", b"work"]
        else:
            assert (left, dead) == ("1", "0")  # we


def test_a_fresh_interpreter_ends_silently_too(unique_name):
    """As above, without a fork before."""
    program = PROGRAMS / "exits.py"
    code = f"import sys; sys.path.insert(0, {str(program.parent)!r}); import exits; exits.begin(exits.json.loads(sys.argv[1]))"
    with shmring.create(unique_name, 4096) as ring:
        case = {"name": unique_name, "order": NAMES, "keep": "globals", "threads": ["recv"]}
        done = subprocess.run([sys.executable, "-c", code, json.dumps(case)], capture_output=True, text=True, timeout=240)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        ring.repair()
        go_on(ring)
