"""`shmring demo` moves real data between two processes, compares it, and fails when it differs."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("hdrh")

from hdrh.histogram import HdrHistogram
from shmring_command import run_shmring, wait_until

from shmring.cli import demo
from shmring.cli.demo_report import BUCKETS, bar, buckets
from shmring.cli.failure import CommandFailed

ACCOUNT = {"sha256": "aa", "messages": 2, "nbytes": 5, "lengths_sha256": "bb"}


def test_the_demo_succeeds_and_shows_the_checksums_of_both_sides():
    done = run_shmring("demo", "--quick")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b""), text
    sent = re.findall(r"sent +([0-9a-f]{64})", text)
    assert len(sent) == len(demo.TRANSFERS)
    assert re.findall(r"received +([0-9a-f]{64})", text) == sent
    assert all(word in text for word in ("p50", "p99.9", "messages/s", "GB/s", "█"))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["ctrl-c", "term", "hangup"])
def test_the_demo_leaves_nothing_behind_when_it_is_interrupted(start, signum):
    process = start("demo", "--quick")

    def rings() -> list[Path]:
        return list(Path("/dev/shm").glob(f"shmring-demo-{process.pid}-*"))

    wait_until(rings)
    process.send_signal(signum)
    assert (process.wait(), rings()) == (128 + signum, [])


@pytest.mark.parametrize("key", ACCOUNT)
def test_a_difference_in_anything_both_sides_count_is_seen(key):
    step = demo.TRANSFERS[0]
    assert demo.Transfer(step.label, step.unit, step.calls, ACCOUNT, dict(ACCOUNT)).is_identical
    assert not demo.Transfer(step.label, step.unit, step.calls, ACCOUNT, {**ACCOUNT, key: 0}).is_identical


def test_the_demo_fails_when_the_checksums_differ(monkeypatch, capsys):
    histogram = HdrHistogram(1, 1_000_000, 3)
    histogram.record_value(1000)

    def lying_peers(first, second):
        return [
            {**ACCOUNT, "start_ns": 0, "histogram": histogram.encode().decode()},
            {**ACCOUNT, "end_ns": 1000, "sha256": "other"},
        ]

    monkeypatch.setattr(demo, "peers", lying_peers)
    monkeypatch.setenv("COLUMNS", "80")
    assert demo.run(type("Args", (), {"quick": True})) == 1
    assert "DIFFERENT" in capsys.readouterr().out


def test_a_peer_that_dies_fails_the_step_and_ends_the_other_one(monkeypatch, ring_name):
    with pytest.raises(CommandFailed, match="recv"):
        demo.peers(
            (
                "send",
                [ring_name + "-missing"],
                min(os.sched_getaffinity(0)),
                ["--unit", "file", "--share", "0.01"],
            ),
            ("recv", [ring_name + "-missing"], min(os.sched_getaffinity(0)), ["--unit", "nonsense"]),
        )


def test_a_histogram_is_cut_into_ranges_that_hold_every_value():
    histogram = HdrHistogram(1, 10_000_000, 3)
    for duration in range(500, 5000, 7):
        histogram.record_value(duration)
    histogram.record_value(1_000_000)
    found = buckets(histogram)
    assert len(found) == BUCKETS
    assert sum(number for _, number in found) == histogram.get_total_count()
    # From 500 to 5000 in equal steps, cut at equal ratios: each range holds more than the one before, but for the last.
    numbers = [number for _, number in found]
    assert numbers[:-1] == sorted(numbers[:-1]) and numbers[0] > 0
    assert [upper for upper, _ in found] == sorted(upper for upper, _ in found)


def test_bars_grow_in_eighths():
    assert [bar(part / 32, 4) for part in (0, 1, 8, 9, 32)] == ["", "▏", "█", "█▏", "████"]
