"""`cimport shmring` works from an extension outside the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from sources import ROOT

import shmring

pytest.importorskip("Cython", reason="an extension that cimports shmring needs Cython to build")

SETUP = """
import shmring
from Cython.Build import cythonize
from setuptools import Extension, setup

extension = Extension("outside", ["outside.pyx"], include_dirs=[shmring.get_include()])
setup(name="outside", ext_modules=cythonize([extension], quiet=True))
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The extension, built in a folder of its own."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("outside")
    shutil.copy(ROOT / "tests" / "rules" / "outside" / "outside.pyx", folder)
    (folder / "setup.py").write_text(SETUP)
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(shmring.__file__)), CFLAGS="-O1")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    sys.path.insert(0, str(folder))
    try:
        import outside

        yield outside
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("outside", None)


@pytest.fixture
def ring():
    with shmring.anonymous("64 KiB") as ring:
        yield ring


def test_the_include_folder_has_the_headers():
    assert {"atomic.h", "futex.h", "layout.h"} <= set(os.listdir(os.path.join(shmring.get_include(), "shmring")))


def test_an_outside_extension_sends_and_receives_without_the_gil(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        assert outside.send_range(tx, 1000) == 1000
        assert int.from_bytes(rx.recv(timeout=0), "little") == 0
        assert outside.sum_all(rx) == (sum(range(1000)), 999)
        tx.send((7).to_bytes(8, "little"))
        assert outside.sum_all(rx) == (7, 1)


def test_an_outside_extension_stops_when_the_ring_is_full(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        sent = outside.send_range(tx, 10_000)
        assert sent == ring.capacity // 32
        assert not tx.try_send(bytes(8))
        assert outside.sum_all(rx) == (sum(range(sent)), sent)
        assert outside.send_range(tx, 1) == 1


def test_an_outside_extension_gets_the_handles_errors(outside, ring):
    tx = ring.producer()
    ring.shutdown()
    with pytest.raises(shmring.ShutDown):
        outside.send_range(tx, 1)
    tx.close()
    with pytest.raises(ValueError, match="closed"):
        outside.send_range(tx, 1)
    with pytest.raises(TypeError):
        outside.send_range(ring, 1)


def test_an_outside_extension_calls_the_ports_methods(outside, ring):
    with ring.producer() as tx, ring.consumer() as rx:
        outside.send_through_the_port(tx, b"hello")
        assert rx.recv(timeout=0) == b"hello"
    assert outside.capacity_of(ring)[0] == ring.capacity
