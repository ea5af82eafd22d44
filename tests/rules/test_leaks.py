"""Rings, handles and mappings that are made and closed leave nothing: no memory, no descriptor, thread, mapping or name. The
cycles are those of tests/programs/cycles.py, in a process of their own; 100,000 of each with `make soak`."""

from __future__ import annotations

import json

import pytest

SHORT = {"shm": 700, "file": 700, "memfd": 1500, "dropped": 1500, "attaching": 4000, "mapping": 3000}
LONG = 100_000
# What may come once: a table that grew, a number that needs more digits; 8 KB were seen, whether 400 cycles or 1600. Malloc's
# smallest piece, 32 bytes, left by each of 700 cycles, is more than that.
ONCE = 4096
ONCE_LENT = 16384


def cycles(peer, scenario, count):
    facts = json.loads(peer("cycles.py", scenario, count).hear())
    before, after = facts["before"], facts["after"]
    print(f"{count} cycles, {scenario}: {facts}")
    assert not facts["left"]
    for what in ("descriptors", "threads", "segments"):
        assert after[what] == before[what], f"{what}: {before[what]}, then {after[what]}"
    assert after["mappings"] <= before["mappings"] + 2
    if before["lent"] is not None:
        assert after["lent"] - before["lent"] <= ONCE_LENT, f"{facts['per_cycle']['lent']} bytes per cycle"
    assert after["blocks"] - before["blocks"] <= ONCE // 20, f"{facts['per_cycle']['blocks']} blocks per cycle"
    assert after["objects"] - before["objects"] <= ONCE // 100, f"{facts['per_cycle']['objects']} objects per cycle"
    assert after["rss_kib"] <= before["rss_kib"] + 256
    return facts


@pytest.mark.parametrize("scenario", SHORT)
def test_cycles_of_making_and_closing_leave_nothing(peer, scenario):
    cycles(peer, scenario, SHORT[scenario])


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", SHORT)
def test_a_hundred_thousand_cycles_leave_nothing(peer, scenario):
    cycles(peer, scenario, LONG)
