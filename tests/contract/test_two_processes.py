"""The same conversation between two processes over every backing; how the second process gets the ring is
fixture data."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest
from peer import ROOT

import shmring


def by_name(question, answer):
    program = (
        f"import shmring\nring = shmring.open({question.name!r})\n"
        f"answers = shmring.open({answer.name!r})\n"
        "with ring.consumer() as rx, answers.producer() as tx:\n"
        "    for message in rx: tx.send(message[::-1])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)})
    return lambda: process.wait()


def reverse(question, answer):
    with question.consumer() as rx, answer.producer() as tx:
        for message in rx:
            tx.send(message[::-1])


def by_fork(question, answer):
    child = os.fork()
    if child == 0:
        try:
            reverse(question, answer)
            os._exit(0)
        finally:
            os._exit(1)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_spawn(question, answer):
    process = multiprocessing.get_context("spawn").Process(target=reverse, args=(question, answer))
    process.start()

    def finish():
        process.join()
        code = process.exitcode
        process.close()
        return code

    return finish


WAYS = {
    "file": ("file", by_name),
    "shm": ("shm", by_name),
    "memfd": (None, by_spawn),
    "anonymous": (None, by_fork),
}


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("align", [16, 64])
def test_two_processes_talk_and_end(kind, align, unique_name, tmp_path):
    backing, start = WAYS[kind]
    names = {"file": [tmp_path / "q", tmp_path / "a"], "shm": [unique_name + "q", unique_name + "a"]}.get(
        backing
    )
    if names:
        rings = [shmring.create(name, 4096, align=align) for name in names]
    else:
        rings = [shmring.anonymous(4096, align=align) for _ in range(2)]
    question, answer = rings
    with question, answer:
        finish = start(question, answer)
        with question.producer() as tx, answer.consumer() as rx:
            for i in range(2000):
                message = (b"%d " % i) * (i % 60)
                tx.send(message)
                assert rx.recv() == message[::-1]
            question.shutdown()
            assert finish() == 0
            assert rx.try_recv() is None
            assert [each.role for each in answer.stats().participants] == ["consumer"]
