"""Forked children that inherited handles, and rings that travel to children by pickling."""

from __future__ import annotations

import copy
import os
import pickle

import pytest

import shmring


def in_a_forked_child(work) -> str:
    """What `work()` gave in a child made by os.fork, as text."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(there, answer.encode())
        os._exit(0)
    os.close(there)
    with open(here) as file:
        answer = file.read()
    assert os.waitpid(child, 0)[1] == 0, "the child was killed"
    return answer


# ---- forks -------------------------------------------------------------------------------------------------


def test_a_forked_child_is_told_to_make_its_own(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        for call in (
            lambda: tx.send(b"x"),
            lambda: tx.try_send(b"x"),
            lambda: tx.send_many([b"x"]),
            lambda: tx.reserve(1),
            rx.recv,
            rx.try_recv,
            rx.peek,
            lambda: rx.recv_many(1),
            lambda: shmring.wait([rx]),
            lambda: rx.lag,
        ):
            answer = in_a_forked_child(call)
            assert answer.startswith("WrongProcess: ") and str(os.getpid()) in answer
        tx.send(b"mine still works")
        assert rx.recv(0) == b"mine still works"


def test_a_forked_child_is_not_told_to_end_its_parents_claim(ring):
    """It cannot: ClaimOpen said "commit or abort it first", and commit raised WrongProcess."""
    with ring.producer() as tx, tx.reserve(1):
        for call in (lambda: tx.send(b"x"), lambda: tx.try_send(b"x"), lambda: tx.send_many([b"x"]), lambda: tx.drain(0)):
            assert in_a_forked_child(call).startswith("WrongProcess: ")


def test_a_forked_child_may_make_its_own(ring):
    with ring.producer() as tx:
        tx.send(b"down")
        assert in_a_forked_child(lambda: ring.consumer().recv(0)) == "b'down'"
    assert in_a_forked_child(lambda: ring.producer().send(b"up")) == "None"
    with ring.consumer() as rx:
        assert rx.recv(0) == b"up"


def test_a_forked_child_that_closes_takes_nothing_from_its_parent(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        assert in_a_forked_child(lambda: (tx.close(), rx.close(), ring.close())) == "(None, None, None)"
        if ring.producers == "single":
            assert in_a_forked_child(lambda: ring.producer()).startswith("ProducerTaken")
        assert [len(group.members) for group in ring.stats().groups] == [1]
        tx.send(b"x")
        assert rx.recv(0) == b"x"


def test_a_forked_child_cannot_commit_or_release_for_its_parent(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"old")
        claim, view = tx.reserve(3), rx.peek(0)
        assert in_a_forked_child(claim.commit).startswith("WrongProcess")
        in_a_forked_child(view.release)
        assert ring.stats().used >= 32
        claim.view[:] = b"new"
        claim.commit()
        view.release()
        assert rx.recv(0) == b"new"


def test_memory_that_a_child_inherited_stays_mapped_or_is_released(ring):
    """Closing the ring in the child must not pull the bytes from under an inherited view: an exception, never
    a crash."""
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"inherited")
        with rx.peek(0) as view:
            data = view.data

            def close_and_read():
                try:
                    ring.close()
                except BufferError:
                    return "refused"
                try:
                    return bytes(data)
                except ValueError:
                    return "released"

            assert in_a_forked_child(close_and_read) in ("refused", "released", "b'inherited'")


# ---- pickles -----------------------------------------------------------------------------------------------


def test_a_named_ring_pickles_by_name(named):
    with named.create(4096) as ring, pickle.loads(pickle.dumps(ring)) as same, copy.copy(ring) as third:
        assert same.uuid == third.uuid == ring.uuid


def test_a_named_ring_that_was_replaced_is_not_taken_for_the_pickled_one(named):
    with named.create(4096) as ring:
        pickled = pickle.dumps(ring)
        shmring.unlink(named.name)
        with pytest.raises(FileNotFoundError):
            pickle.loads(pickled)
        with named.create(4096), pytest.raises(shmring.Error):
            pickle.loads(pickled)


def test_what_cannot_travel_says_so():
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        for each in (ring, tx, rx):
            with pytest.raises(TypeError):
                pickle.dumps(each)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["named", "anonymous"])
def test_a_ring_reaches_children_of_multiprocessing(peer, unique_name, method, kind):
    parent = peer("pickle_children.py", method, unique_name if kind == "named" else "")
    assert parent.hear() == "1000 messages came back"
    parent.finish()
