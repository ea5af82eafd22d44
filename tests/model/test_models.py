"""The protocols' Spin models hold, and their mutants are caught: here the small sizes, and some mutants, others in each run;
`make models` checks all of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "models" / "run.py"


@pytest.mark.skipif(shutil.which("spin") is None or shutil.which("gcc") is None,
                    reason="install spin (apt-get install spin) and gcc")
@pytest.mark.timeout(1200)
def test_models_hold_and_mutants_are_caught():
    done = subprocess.run([sys.executable, str(RUN), "--quick", "--mutants", "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_missing_tools_are_named(tmp_path):
    done = subprocess.run([sys.executable, str(RUN), "--quick"], capture_output=True, text=True,
                          env={"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "apt-get install spin" in done.stderr
