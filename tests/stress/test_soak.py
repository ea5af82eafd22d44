"""The soak itself: that it runs, counts, reports, and finds what it is there to find. For hours: `make soak`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import soak_meter
from peer import PROGRAMS, ROOT


def soak(folder, *options):
    words = [sys.executable, str(PROGRAMS / "soak.py"), "--seed", "1", "--folder", str(folder), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def end(process) -> tuple[int, str]:
    try:
        return process.returncode, process.communicate(timeout=400)[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_soak_of_seconds_ends_with_a_report(tmp_path):
    process = soak(tmp_path / "soak", "--hours", "0.001")
    _, output = end(process)
    assert process.returncode == 0, output
    report = (tmp_path / "soak" / "report.md").read_text()
    assert report.startswith("# Soak: no failure") and report in output
    assert os.listdir(tmp_path / "soak") == ["report.md"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_soak_that_is_interrupted_reports_what_was_done(tmp_path):
    process = soak(tmp_path / "soak", "--hours", "1")
    for line in process.stdout:
        if "storm 1:" in line:
            break
    process.send_signal(signal.SIGINT)
    _, output = end(process)
    assert process.returncode == 130, output
    report = (tmp_path / "soak" / "report.md").read_text()
    assert "interrupted" in report and report in output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_soak_keeps_what_a_failure_leaves(tmp_path):
    process = soak(tmp_path / "soak", "--hours", "1")
    victim = None
    while victim is None:  # the fifth child of the lasting ring's supervisor is somebody whom nobody may kill
        supervisors = [pid for pid in children_of(process.pid) if b"soak_steady.py" in command_of(pid)]
        lasting = [pid for supervisor in supervisors for pid in children_of(supervisor)]
        victim = lasting[4] if len(lasting) >= 6 else None
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    for line in process.stdout:
        if "FAILURE" in line:
            break
    process.send_signal(signal.SIGINT)
    _, output = end(process)
    assert process.returncode == 1, output
    kept = tmp_path / "soak" / "failure-1"
    assert {"config.json", "ring", "scene.txt"} <= set(os.listdir(kept))
    assert str(kept) in (tmp_path / "soak" / "report.md").read_text()


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]


def command_of(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


@pytest.mark.parametrize("what, step", [("rss_kib", 50), ("descriptors", 1), ("threads", 1), ("mappings", 1)])
def test_what_grows_for_ever_is_found(what, step):
    steady = {"rss_kib": 16_000, "descriptors": 8, "threads": 1, "mappings": 200}
    meter = soak_meter.Meter()
    for number in range(80):
        meter.add("still", steady | {"rss_kib": 16_000 + min(number, 10) * 1000})  # it has settled
        meter.add("leaking", steady | {what: steady[what] + number * step})
    assert [line.partition(" grew")[0] for line in meter.growing()] == [f"leaking: {what}"]
