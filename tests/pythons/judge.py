"""CPython's own tests of queues, with shmring's in the place of multiprocessing's. Run by tests/pythons/run.py, once per Python
and part: `judge.py fork|spawn|forkserver|threads`; the last line it prints is JSON.

Children that are spawned import this file as well, so the classes are made when it is loaded.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import json
import multiprocessing
import os
import queue
import sys
import unittest
from multiprocessing import context
from pathlib import Path

from test import _test_multiprocessing as judges
from test import test_queue as thread_judges

import shmring

PART = os.environ.get("SHMRING_JUDGE") or sys.argv[1]
SKIPS = Path(__file__).with_name("skips.txt")
WATCHDOG_SECONDS = 600
QUEUES = ("Queue", "JoinableQueue", "SimpleQueue")


def take_the_place_of_multiprocessing():
    for name in QUEUES:
        made = getattr(shmring, name)
        setattr(multiprocessing, name, made)
        setattr(context.BaseContext, name, lambda self, *arguments, made=made: made(*arguments, ctx=self))
    for name in ("Queue", "JoinableQueue"):
        setattr(judges.ProcessesMixin, name, staticmethod(getattr(shmring, name)))


def cases_of_processes():
    """Test cases that CPython makes for a start method, as far as they are about queues."""
    made = {"__name__": __name__}
    judges.install_tests_in_module_dict(made, PART)
    return {name: made[name] for name in ("WithProcessesTestQueue", "TestSimpleQueue", "setUpModule", "tearDownModule")}


class Queue(shmring.JoinableQueue):
    """The name tells the test which order to expect."""


class ThreadsTestQueue(thread_judges.BaseQueueTestMixin):
    queue = queue
    type2test = Queue


class ThreadsTestSimpleQueue(thread_judges.BaseSimpleQueueTest):
    queue = queue
    type2test = shmring.Queue


def cases_of_threads():
    made = {}
    for base in ThreadsTestQueue, ThreadsTestSimpleQueue:
        setup = {} if hasattr(base, "setUp") else {"setUp": lambda self: None}
        made[base.__name__ + "Case"] = type(base.__name__, (base, unittest.TestCase), setup)
    return made


take_the_place_of_multiprocessing()
globals().update(cases_of_threads() if PART == "threads" else cases_of_processes())


# ---- the verdict -----------------------------------------------------------------------------------------------------


def skips():
    """Patterns of test ids, and why they do not fit."""
    lines = [line for line in SKIPS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(part.strip() for part in line.split(":", 1)) for line in lines]


def skip_what_does_not_fit(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            skip_what_does_not_fit(test)
        for pattern, reason in skips():
            if fnmatch.fnmatchcase(name_of(test), pattern):
                setattr(test, test._testMethodName, lambda test=test, reason=reason: test.skipTest(reason))


class Verdict(unittest.TextTestResult):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.passed = []

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed.append(name_of(test))


def name_of(test):
    return f"{type(test).__name__}.{getattr(test, '_testMethodName', test)}"


def main():
    os.environ["SHMRING_JUDGE"] = PART
    faulthandler.dump_traceback_later(WATCHDOG_SECONDS, exit=True)
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    skip_what_does_not_fit(suite)
    runner = unittest.TextTestRunner(stream=sys.stderr, verbosity=2, resultclass=Verdict)
    result = runner.run(suite)
    bad = [(name_of(test), trace) for test, trace in (*result.failures, *result.errors)]
    bad += [(name_of(test), "passes, although it is expected to fail") for test in result.unexpectedSuccesses]
    skipped = [(name_of(test), reason) for test, reason in result.skipped]
    print(json.dumps({"passed": result.passed, "skipped": skipped, "failed": bad}))


if __name__ == "__main__":
    main()
