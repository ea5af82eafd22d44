"""Every public call and every cycle once under valgrind: no use of memory that was freed, never lent or never written, and no
leak, where one of our functions is on the stack. (Python itself is not free of findings; those are not counted.)"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as Xml
from collections import Counter

import pytest
from peer import PROGRAMS, ROOT

WORK = """
import pathlib, sys, tempfile
sys.path[:0] = sys.argv[1:3]
import awaited_calls, cycles, public_array_calls
with tempfile.TemporaryDirectory() as folder:
    stage = public_array_calls.ArrayStage(cycles.NAME, pathlib.Path(folder))
    for times in range(2):
        for call in public_array_calls.CALLS.values():
            call(stage)
            stage.settle()
    stage.close()
    for cycle in cycles.scenarios(folder).values():
        for times in range(2):
            cycle()
print("done", len(public_array_calls.CALLS))
"""


def findings(path) -> list[str]:
    """Kind and our innermost functions."""
    found = Counter()
    for error in Xml.parse(path).getroot().iter("error"):
        frames = [(frame.findtext("obj") or "", frame.findtext("fn") or "?") for frame in error.iter("frame")]
        ours = [name for file, name in frames if file.startswith(str(ROOT / "shmring"))]
        if ours:
            found[f"{error.findtext('kind')} in {frames[0][1]}, from {' < '.join(ours[:4])}"] += 1
    return [f"{times} x {what}" for what, times in found.items()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind (apt install valgrind)")
def test_valgrind_finds_nothing_of_ours(tmp_path):
    report = tmp_path / "valgrind.xml"
    words = ["valgrind", "--xml=yes", f"--xml-file={report}", "--num-callers=40", "--leak-check=full"]
    words += ["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", "--error-limit=no"]
    words += [sys.executable, "-c", WORK, str(PROGRAMS), str(ROOT / "tests" / "rules")]
    environment = os.environ | {"PYTHONMALLOC": "malloc", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0 and done.stdout.startswith("done"), done.stderr[-5000:]
    assert findings(report) == []
