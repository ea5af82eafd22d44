"""CPython's own tests of its queues, against shmring's, with the Python that runs this. All Pythons: `make test-pythons`."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JUDGE = ROOT / "tests" / "pythons" / "judge.py"

if importlib.util.find_spec("test._test_multiprocessing") is None:
    pytest.skip("CPython's tests are not installed (Debian: libpython3-testsuite)", allow_module_level=True)


@pytest.mark.parametrize("part", ["fork", "spawn", "forkserver", "threads"])
def test_cpythons_tests_pass(part, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SHMRING_JUDGE": part}
    process = subprocess.Popen(
        [sys.executable, JUDGE, part], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    assert output, errors
    verdict = json.loads(output.splitlines()[-1])
    assert not verdict["failed"], "\n".join(f"{name}\n{trace}" for name, trace in verdict["failed"])
    assert len(verdict["passed"]) > 5
