"""bench/aio_roundtrip.py: every contender brings back what was sent, in every loop that is installed."""

from __future__ import annotations

import json
import subprocess
import sys

from peer import ROOT


def test_every_contender_is_measured_and_checked(tmp_path):
    words = [sys.executable, "-m", "bench.aio_roundtrip", "--count", "50", "--rounds", "1", "--json", tmp_path / "rows.json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    contenders = {row["contender"] for row in rows}
    assert contenders == {"shmring", "shmring, parked", "Unix socket streams"}
    assert len(rows) == 3 * len({row["loop"] for row in rows}) and all(row["p50_us"] > 0 for row in rows)
