"""The types that users see: complete, true at run time, and strict enough to find a user's mistake."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
from sources import PACKAGE, ROOT

import shmring

pytest.importorskip("mypy", reason="mypy checks the types, and is not installed")

HERE = ROOT / "tests" / "rules"


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("mypy"))
    environment = dict(os.environ, PYTHONPATH=str(ROOT), MYPYPATH=str(ROOT), MYPY_CACHE_DIR=cache)

    def run(module, *arguments):
        command = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_a_users_strict_program_passes(mypy):
    result = mypy("mypy", "--strict", PACKAGE / "__init__.pyi", HERE / "typed_user.py")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_stubs_say_what_is_there_at_run_time(mypy):
    result = mypy(
        "mypy.stubtest", "--mypy-config-file", "pyproject.toml", "--concise", "--ignore-unused-allowlist",
        "--allowlist", HERE / "stubtest_allowlist.txt", "shmring",
    )
    assert result.returncode == 0, result.stdout + result.stderr


HANDLES = [
    "Ring", "Producer", "Claim", "Consumer", "Observer", "View", "ObservedView", "Mapping",
    "ArrayProducer", "ArrayClaim", "ArrayConsumer", "ArrayObserver", "RecordsView",
]


@pytest.mark.parametrize("kind", HANDLES)
def test_the_methods_of_a_handle_tell_their_parameters(kind):
    """help() and editors showed none, and the stubs were compared with nothing: built-in methods do not tell by themselves
    (setup.py: embedsignature.format; what was built before that, `make clean` removes).
    """
    handle = getattr(shmring, kind)
    methods = [name for name in dir(handle) if not name.startswith("_") and callable(getattr(handle, name))]
    assert methods
    for name in methods:
        inspect.signature(getattr(handle, name))


@pytest.mark.parametrize(
    "mistake",
    [
        "tx.send('text')",
        "rx.recv().encode()",
        "rx.try_recv().decode()",
        "ring.consumer(start='now')",
        "ring.producer(wait='sleep')",
        "shmring.create('name', align=32)",
        "shmring.Mapping.anonymous(10, acess='read')",
    ],
)
def test_a_users_mistake_is_found(mypy, tmp_path, mistake):
    (tmp_path / "user.py").write_text(
        "import shmring\n\n\n"
        "def use(ring: shmring.Ring, tx: shmring.Producer, rx: shmring.Consumer) -> None:\n"
        f"    {mistake}\n"
    )
    result = mypy("mypy", "--strict", tmp_path / "user.py")
    assert result.returncode == 1 and "user.py:5: error" in result.stdout, result.stdout + result.stderr
