"""What every test shares: backings as data, names nobody else has, peers, a check that nothing is left."""

from __future__ import annotations

import gc
import glob
import itertools
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest
from peer import Peer, descriptors_travel

import shmring
from shmring import creation

PREFIX = f"shmring-test-{os.getpid()}-"
_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heeded():
    """By the children of tests too, where a shell runs these in the background and had them ignore it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def helpers_of_multiprocessing(ctrl_c_is_heeded):
    """Its resource tracker and fork server stay for the whole session; started here, no test is blamed for them."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()


def _children() -> set[int]:
    """Children of any thread, zombies too."""
    found = set()
    for path in glob.glob("/proc/self/task/*/children"):
        try:
            found |= {int(pid) for pid in Path(path).read_text().split()}
        except FileNotFoundError:
            pass  # a thread that ended meanwhile
    return found


def _handlers() -> set[tuple[int, object]]:
    """What this process does at each signal. A Ctrl-C that one test takes away is missing in another one, of another file."""
    watchdogs = signal.SIGALRM  # pytest-timeout has it, and lets it go when a test fails
    return {(number, signal.getsignal(number)) for number in range(1, signal.NSIG) if number != watchdogs}


def _left_behind() -> tuple[set[str], set[str], set[threading.Thread], set[int], set[tuple[int, object]]]:
    names = {name for name in os.listdir("/dev/shm") if name.startswith(PREFIX)}
    descriptors = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            if "/matplotlib/" not in target:  # it keeps its font open once it has drawn
                descriptors.add(f"{number} -> {target}")
        except FileNotFoundError:
            pass  # the listing's own
    return names, descriptors, set(threading.enumerate()), _children(), _handlers()


@pytest.fixture(autouse=True)
def nothing_left():
    """Names in /dev/shm, descriptors, threads, children and signal handlers are as they were before the test."""
    before = _left_behind()
    yield
    after = _left_behind()
    if after != before:
        gc.collect()
        after = _left_behind()
    labels = ("names in /dev/shm", "descriptors", "threads", "children", "signal handlers")
    for label, old, new in zip(labels, before, after, strict=True):
        assert not new - old, f"left {label}: {new - old}"


@pytest.fixture(scope="session")
def name_prefix():
    """What names in /dev/shm that tests make begin with; `nothing_left` looks for them."""
    return PREFIX


@pytest.fixture
def unique_name():
    """A name for shared memory that no other test uses; what is left of it is removed."""
    name = f"{PREFIX}{next(_numbers)}"
    yield name
    for left in os.listdir("/dev/shm"):
        if left.startswith(name):
            os.unlink(f"/dev/shm/{left}")


@dataclass(frozen=True)
class Backing:
    """One way to hold a ring: how to make it, and how the same process maps it a second time."""

    kind: str
    name: str | Path | None

    def create(self, capacity=4096, **options):
        if self.name is None:
            return shmring.anonymous(capacity, **options)
        return shmring.create(self.name, capacity, **options)

    def again(self, ring):
        """The same ring once more, through a mapping of its own."""
        if self.name is not None:
            return shmring.open(self.name)
        with descriptors_travel():
            return pickle.loads(pickle.dumps(ring))

    def path(self) -> str:
        return str(self.name) if "/" in str(self.name) else f"/dev/shm/{self.name}"


NAMED = ("file", "shm")
ANONYMOUS = ("memfd",)


def _backing(kind, unique_name, tmp_path):
    return Backing(kind, {"file": tmp_path / "ring", "shm": unique_name, "memfd": None}[kind])


@pytest.fixture(params=NAMED + ANONYMOUS)
def backing(request, unique_name, tmp_path):
    return _backing(request.param, unique_name, tmp_path)


@pytest.fixture(params=NAMED)
def named(request, unique_name, tmp_path):
    return _backing(request.param, unique_name, tmp_path)


@pytest.fixture
def topology():
    """How many producers a ring is made for: many, where pytest_generate_tests does not say both."""
    return "multi"


def pytest_generate_tests(metafunc):
    """The contract holds for rings of one producer and of many; a file that is about one of them has a fixture of its own."""
    in_contract = Path(metafunc.module.__file__).parent.name == "contract"
    if in_contract and "topology" in metafunc.fixturenames and not hasattr(metafunc.module, "topology"):
        metafunc.parametrize("topology", ["single", "multi"])


@pytest.fixture
def ring(backing, topology):
    """A ring of 4096 bytes, the smallest there is."""
    with backing.create(4096, producers=topology) as made:
        yield made


@pytest.fixture
def pair(ring):
    """Its producer and its consumer."""
    with ring.producer() as tx, ring.consumer() as rx:
        yield tx, rx


@pytest.fixture
def peer():
    """Start unrelated processes; those that still live at the end are killed."""
    started = []

    def start(program, *arguments, **options):
        started.append(Peer(program, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def ring_at(topology):
    """Make an anonymous ring whose first record has a chosen position (a multiple of 64)."""
    made = []

    def make(origin, capacity=4096, align=16, max_participants=8, max_groups=4):
        shape = creation._Shape(capacity, topology, max_participants, max_groups, align, origin=origin)
        made.append(creation._make_anonymous(shape, True))
        return made[-1]

    yield make
    for each in made:
        each.close()
