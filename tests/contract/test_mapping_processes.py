"""Mappings and processes: strangers by name, children by inheritance and by pickling."""

from __future__ import annotations

import multiprocessing
import os
import pickle

import pytest
from mapping_backings import BACKINGS, PAGE, run_elsewhere, shm_name

from shmring import Mapping, errors


@pytest.fixture(params=BACKINGS, ids=lambda backing: backing.kind)
def backing(request, tmp_path):
    yield request.param
    request.param.forget(tmp_path)


STRANGER = """
import sys
from shmring import Mapping
kind, which = sys.argv[1:]
m = (Mapping.file(which) if kind == "file" else Mapping.shm(which) if kind == "shm"
     else Mapping.from_fd(int(which)))
with m:
    assert m[0:5] == b"hello", m[0:5]
    m[-5:] = b"world"
    print(len(m))
"""


def test_a_stranger_sees_our_writes_and_we_see_its(backing, tmp_path):
    with backing.make(tmp_path, 3 * PAGE) as mapping:
        mapping[0:5] = b"hello"
        which = {"file": tmp_path / "backing", "shm": shm_name(tmp_path)}.get(backing.kind, mapping.fileno())
        travel = () if backing.is_named else (mapping.fileno(),)
        assert int(run_elsewhere(STRANGER, backing.kind, which, pass_fds=travel)) == 3 * PAGE
        assert mapping[-5:] == b"world"


def test_a_forked_child_inherits_the_memory(backing, tmp_path):
    with backing.make(tmp_path, PAGE, mirrored=True) as mapping:
        pid = os.fork()
        if pid == 0:
            try:
                mapping[PAGE + 7] = 77
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert mapping[7] == 77


def _write_in_child(mapping: Mapping, same: Mapping) -> None:
    assert mapping is same and mapping[0:2] == b"hi" and mapping.mirrored
    mapping[PAGE - 1 : PAGE + 1] = b"yo"
    mapping.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_gets_the_same_memory(backing, tmp_path, method):
    context = multiprocessing.get_context(method)
    with backing.make(tmp_path, PAGE, mirrored=True) as mapping:
        mapping[0:2] = b"hi"
        child = context.Process(target=_write_in_child, args=(mapping, mapping))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert mapping[PAGE - 1 : PAGE + 1] == b"yo"


def test_pickling_needs_a_name_or_a_child_that_is_being_started(backing, tmp_path):
    with backing.make(tmp_path, 5000, access="read") as mapping:
        if not backing.is_named:
            with pytest.raises(errors.NotSpawning, match="argument of a multiprocessing Process"):
                pickle.dumps(mapping)
            return
        with pickle.loads(pickle.dumps(mapping)) as same:
            assert (same.kind, same.name, same.size, same.access) == (
                backing.kind,
                mapping.name,
                5000,
                "read",
            )


def test_a_pickle_does_not_open_another_object_of_the_same_name(tmp_path):
    path = tmp_path / "replaced"
    with Mapping.file(path, PAGE, create=True) as mapping:
        pickled = pickle.dumps(mapping)
        path.rename(tmp_path / "old")
        with pytest.raises(FileNotFoundError):
            pickle.loads(pickled)
        path.write_bytes(bytes(PAGE))
        opened = len(os.listdir("/proc/self/fd"))
        with pytest.raises(errors.MappingNotFound, match="another object"):
            pickle.loads(pickled)
        assert len(os.listdir("/proc/self/fd")) == opened


def test_nobody_can_cut_a_sealed_memfd(backing, tmp_path):
    with backing.make(tmp_path, 2 * PAGE) as mapping:
        if backing.is_sealed:
            with pytest.raises(PermissionError):
                os.ftruncate(mapping.fileno(), PAGE)
        else:
            os.ftruncate(mapping.fileno(), PAGE)
            assert mapping.truncated


def test_nothing_is_left_in_dev_shm(tmp_path):
    name = shm_name(tmp_path)
    with pytest.raises(errors.BadGeometry):
        Mapping.shm(name, PAGE + 1, create=True, mirrored=True)
    assert name not in os.listdir("/dev/shm")
    Mapping.shm(name, PAGE, create=True).close()
    assert name in os.listdir("/dev/shm")
    BACKINGS[1].forget(tmp_path)
    assert name not in os.listdir("/dev/shm")
