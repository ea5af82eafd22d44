"""The queues where the standard library asks for one: logging's QueueHandler and QueueListener, and executors."""

from __future__ import annotations

import concurrent.futures
import logging
import logging.handlers
import multiprocessing

import pytest

import shmring

KINDS = [pytest.param(kind, id=kind.__name__) for kind in (shmring.Queue, shmring.JoinableQueue)]


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def log(queue, who):
    logger = logging.Logger(who)
    logger.addHandler(logging.handlers.QueueHandler(queue))
    for number in range(50):
        logger.info("%d of %s", number, who)
    try:
        raise KeyError("an exception's text travels, its traceback objects do not")
    except KeyError:
        logger.exception("failed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_log_records_of_processes_reach_the_listener_in_order(kind, method):
    context = multiprocessing.get_context(method)
    kept = Kept()
    with kind() as queue:
        listener = logging.handlers.QueueListener(queue, kept)
        listener.start()
        workers = [context.Process(target=log, args=(queue, who), daemon=True) for who in "ab"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        listener.stop()
    for who in "ab":
        assert [line for line in kept.lines if line.endswith(f"of {who}")] == [f"{number} of {who}" for number in range(50)]
    assert len(kept.lines) == 2 * 51 and "KeyError" in "".join(kept.lines)


def double(queue, results):
    while (number := queue.get()) is not None:
        results.put(2 * number)


@pytest.mark.parametrize("executor", [concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor])
def test_workers_of_an_executor_share_named_queues(executor, unique_name):
    with shmring.Queue(name=unique_name) as queue, shmring.Queue(name=f"{unique_name}-results") as results:
        options = {} if executor is concurrent.futures.ThreadPoolExecutor else {
            "mp_context": multiprocessing.get_context("spawn")
        }
        with executor(3, **options) as pool:
            jobs = [pool.submit(double, queue, results) for _ in range(3)]  # the queues are pickled by name
            queue.put_many(range(100))
            queue.put_many([None] * 3)
            for job in jobs:
                job.result()
        assert sorted(results.get_many(100)) == [2 * number for number in range(100)]
        queue.unlink()
        results.unlink()
