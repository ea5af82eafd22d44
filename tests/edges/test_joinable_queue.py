"""JoinableQueue: join() and task_done(), whoever takes the work and however they end."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading

import pytest

import shmring

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def q():
    with shmring.JoinableQueue() as made:
        yield made


def take(q, count):
    return [q.get() for _ in range(count)]


@pytest.fixture
def worker():
    """Start a child that runs a function; it is killed at the end of the test."""
    started = []

    def start(target, *arguments):
        started.append(FORK.Process(target=target, args=arguments, daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.join()
        each.close()


def test_join_waits_until_all_is_done(q):
    q.join()
    q.put_many(range(3))
    for timeout in 0, 0.01:
        with pytest.raises(TimeoutError, match="behind"):
            q.join(timeout)
    assert q.get_many(3) == [0, 1, 2]
    for _ in range(3):
        with pytest.raises(TimeoutError, match="has not released"):
            q.join(0)
        q.task_done()
    q.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def test_join_is_woken_by_the_last_task_done_of_another_process(q, worker):
    def work():
        for _ in range(100):
            q.get()
            q.task_done()

    q.put_many(range(100))
    worker(work)
    q.join()
    assert q.empty()


def hold_the_first_and_finish_the_second(q, finished):
    taken = threading.Event()

    def hold():
        assert q.get() == "first"
        taken.set()
        threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    taken.wait()
    assert q.get() == "second"
    q.task_done()
    finished.set()
    signal.pause()


def test_threads_finish_their_own_tasks(q, worker):
    """A thread's task_done ends what it took, although another one took something before and is not done."""
    finished = FORK.Event()
    q.put_many(["first", "second"])
    first = worker(hold_the_first_and_finish_the_second, q, finished)
    finished.wait()
    first.kill()
    first.join()
    assert q.get() == "first"


def test_a_thread_may_finish_what_another_one_took(q):
    q.put(1)
    thread = threading.Thread(target=q.get)
    thread.start()
    thread.join()
    q.task_done()
    q.join()


def take_and_wait(q, taken, ends):
    q.get()
    taken.set()
    if ends:
        return
    signal.pause()


@pytest.mark.parametrize("how", ["killed", "returned"])
def test_a_task_goes_to_another_worker_if_its_own_ends_before_it_is_done(q, worker, how):
    taken = FORK.Event()
    q.put("task")
    first = worker(take_and_wait, q, taken, how == "returned")
    taken.wait()
    if how == "killed":
        first.kill()
    first.join()
    with pytest.raises(TimeoutError):
        q.join(0)
    assert q.get() == "task" and q.redelivered
    q.task_done()
    q.join()
    assert not q.redelivered


def test_join_returns_although_a_worker_is_killed_at_its_task(q, worker):
    taken = FORK.Event()

    def work():
        while True:
            q.get()
            q.task_done()

    q.put_many(range(50))
    first = worker(take_and_wait, q, taken, False)
    taken.wait()
    worker(work)
    first.kill()
    first.join()
    q.join()


def test_one_process_may_have_more_under_way_than_a_member_can_hold(q):
    """Each second message is another member's, so that what is held does not lie in a row."""
    q.put_many(range(200))
    mine, others = [], []
    with q.ring.consumer() as other:
        for _ in range(100):
            mine.append(q.get())
            others.append(other.recv())
        assert mine == list(range(0, 200, 2))
        for _ in mine:
            with pytest.raises(TimeoutError):
                q.join(0)
            q.task_done()
        q.join()


def test_closing_gives_back_what_is_not_done(q, worker):
    def work():
        q.put_many("abc")
        q.get()
        q.get()
        q.task_done()
        q.close()

    worker(work).join()
    assert sorted(take(q, 2)) == ["b", "c"]


def test_put_waits_for_room_while_work_is_not_done():
    with shmring.JoinableQueue(capacity="4 KiB") as q:
        with pytest.raises(queue.Full):
            while True:
                q.put(bytes(500), False)
        q.get()
        with pytest.raises(queue.Full):
            q.put(bytes(500), False)
        q.task_done()
        q.put(bytes(500), False)


def test_join_does_not_wait_for_a_message_that_its_killed_producer_had_begun(q, worker):
    begun = FORK.Event()

    def begin():
        claim = q.ring.producer().reserve(10)
        begun.set()
        signal.pause()
        claim.commit()

    first = worker(begin)
    begun.wait()
    first.kill()
    first.join()
    q.join()
    q.put(1)
    assert q.get() == 1
    q.task_done()
    q.join()
