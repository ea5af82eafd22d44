"""The Python modules under the address and undefined-behaviour sanitizers: a little of it. `make asan` runs all that can be run
so. What is compiled stays in build/asan; compiling all of it takes a quarter of a minute of two processors."""

from __future__ import annotations

import subprocess
import sys

import asan_suite
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TESTS = ["tests/contract/test_sending.py", "tests/contract/test_receiving.py", "tests/contract/test_shared_views.py",
         "tests/contract/test_observers_receiving.py", "tests/faults/test_damaged_words.py"]


@pytest.fixture(scope="module")
def folder():
    if (reason := asan_suite.missing()) is not None:
        pytest.skip(f"the sanitizers: {reason}")
    return asan_suite.build()


def run(folder, *words, **more):
    environment = asan_suite.environment() | more
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_modules_are_checked(folder):
    """Without the sanitizer's library before all others they refuse to be loaded; with it they see what is out of bounds."""
    assert "ASan runtime does not come first" in run(folder, "-c", "import shmring.ring", LD_PRELOAD="").stderr
    done = run(folder, "-c", "import ctypes, shmring; ctypes.memset(ctypes.create_string_buffer(1 << 20), 0, (1 << 20) + 1)")
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr


def test_handles_do_nothing_undefined_and_touch_nothing_of_others(folder):
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "memfd or not (shm or file)", *TESTS)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def test_no_damage_makes_the_checked_ports_do_anything_undefined(folder, tmp_path):
    done = run(folder, "tests/fuzz/campaign.py", "--part", "ports", "--folder", str(tmp_path), "--count", "6")
    assert done.returncode == 0 and "0 findings" in done.stdout, done.stdout[-3000:] + done.stderr[-5000:]
