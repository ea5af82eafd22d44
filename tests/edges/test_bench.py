"""The benchmark harness moves the messages, sees a wrong byte, and outlives a contender."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="the benchmarks need numpy: pip install shmring[bench]")

from bench import contenders, launch, machine, rounds, summary
from bench.__main__ import main
from bench.rows import all_rows
from bench.shapes import KIB, MIB, SHAPES, Case

SMALL = {
    "pingpong-spin": Case("pingpong-spin", 64, capacity=64 * KIB, wait="spin", count=200),
    "pingpong-park": Case("pingpong-park", 64, capacity=64 * KIB, wait="park", think_ns=20_000, count=30),
    "oneway": Case("oneway", 64, capacity=64 * KIB, count=610),
    "oneway-many": Case("oneway-many", 64, capacity=64 * KIB, batch=16, pool=16, count=320),
    "array": Case("array", 64 * KIB, capacity=1 * MIB, count=20),
    "untouched": Case("untouched", 64, capacity=64 * KIB, count=300),
    "wakeup": Case("wakeup", 64, capacity=64 * KIB, count=5),
    "idle": Case("idle", 64, capacity=64 * KIB, count=1, idle_ns=20_000_000),
}


# What each contender says it has: the refusals are part of the report, not of these tests.
OFFERED = [
    (name, shape)
    for name in contenders.NAMES
    for shape in SHAPES
    if not contenders.load(name).refuses(SMALL[shape])
]


@pytest.fixture
def native() -> str:
    if reason := contenders.load("native").missing():
        pytest.skip(reason)
    return "native"


def small(contender: str, shape: str) -> Case:
    module = contenders.load(contender)
    if reason := module.missing():
        pytest.skip(reason)
    return rounds.prepared(SMALL[shape], module.RING)


def run(contender: str, case: Case) -> dict[str, dict]:
    return launch.run(contender, case, machine.two_cores(), timeout=20)


def leftovers() -> list[str]:
    places = [place for place in (Path("/dev/shm"), Path("/dev/mqueue")) if place.exists()]
    return [path.name for place in places for path in place.glob(f"*bench-{os.getpid()}-*")]


@pytest.mark.parametrize(("contender", "shape"), OFFERED)
def test_every_contender_moves_the_messages_of_every_shape_it_has(contender: str, shape: str) -> None:
    case = small(contender, shape)
    figures = summary.figures(case, run(contender, case))
    assert summary.main_figure(shape) in figures
    assert shape == "idle" or all(value > 0 for value in figures.values())
    assert not leftovers()


@pytest.mark.parametrize(("contender", "shape"), [pair for pair in OFFERED if pair[1] in ("oneway", "array")])
def test_one_wrong_byte_fails_the_run_of_every_contender(contender: str, shape: str) -> None:
    case = replace(small(contender, shape), spoil=True)
    with pytest.raises(launch.RunFailed, match=r"content check: [1-9]\d* wrong"):
        run(contender, case)
    assert not leftovers()


@pytest.mark.parametrize("shape", ["oneway-many", "pingpong-park", "wakeup"])
def test_one_wrong_byte_fails_every_other_loop(shape: str) -> None:
    case = replace(small("mp_pipe", shape), spoil=True)
    with pytest.raises(launch.RunFailed, match="content check"):
        run("mp_pipe", case)


def test_a_wrong_byte_is_seen_in_the_timed_part_too() -> None:
    case = replace(SMALL["oneway"], count=61 * 256, spoil=True)  # no warm-up: only the samples can see it
    with pytest.raises(launch.RunFailed, match="content check"):
        run("mp_pipe", case)


@pytest.mark.parametrize("shape", ["pingpong-spin", "pingpong-park", "wakeup"])
def test_one_wrong_byte_fails_the_native_programs(native: str, shape: str) -> None:
    with pytest.raises(launch.RunFailed, match="content check"):
        run(native, replace(small(native, shape), spoil=True))


def test_a_contender_that_hangs_is_reported_and_ended() -> None:
    with pytest.raises(launch.RunFailed, match="timed out"):
        launch.run_processes([["sleep", "60"]], SMALL["oneway"], timeout=0.2)


def test_a_contender_that_dies_is_reported_with_its_last_words() -> None:
    with pytest.raises(launch.RunFailed, match="died: no such luck"):
        launch.run_processes([["sh", "-c", "echo no such luck >&2; exit 3"]], SMALL["oneway"], timeout=20)


def test_a_failure_is_kept_in_the_entry_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def failing(name: str, case: Case, cpus: list[int | None], timeout: float) -> dict[str, dict]:
        asked.append(name)
        if name == "mp_queue":
            raise launch.RunFailed("timed out")
        return {"producer": {"start_ns": 0}, "consumer": {"end_ns": 10**9}}

    monkeypatch.setattr(launch, "run", failing)
    monkeypatch.setattr(rounds.floor, "measure", lambda cpus: 100.0)
    names = ["mp_queue", "mp_pipe"]
    entries = rounds.run_all([SMALL["oneway"]], names, 2, [None, None], 0.01, 1, lambda text: None)
    assert [(entry["status"], entry["reason"], len(entry["runs"])) for entry in entries] == [
        ("ok", "", 2) if entry["contender"] == "mp_pipe" else ("failed", "timed out", 0) for entry in entries
    ]
    assert asked == ["mp_queue", "mp_pipe", "mp_pipe"]


def test_ratios_leave_out_rounds_in_which_the_cores_were_moved() -> None:
    case = {"shape": "oneway"}
    mine = {"case": case, "runs": [{"ns_per_message": 20.0, "floor_ns": f} for f in (100.0, 400.0)]}
    limit = {"case": case, "runs": [{"ns_per_message": n, "floor_ns": 100.0} for n in (10.0, 1.0)]}
    assert summary.paired_ratios(mine, limit) == [2.0]
    mine["runs"][0]["floor_ns"] = 400.0
    assert summary.paired_ratios(mine, limit) == [2.0, 20.0]  # nothing comparable is left: all of them


@pytest.mark.parametrize(("mine_ns", "expected"), [(39.0, "reached"), (41.0, "**missed**")])
def test_a_goal_is_judged_against_the_native_rate(mine_ns: float, expected: str) -> None:
    document = {"entries": [entry_of("native", 10.0), entry_of("shmring", mine_ns)]}
    (row,) = all_rows(summary.Results(document))
    assert (row.verdict, row.goal) == (expected, "≥ 0.25 × native")


def entry_of(name: str, ns: float) -> dict:
    case = {**vars(Case("oneway", 64))}
    return {
        "id": "oneway/64",
        "contender": name,
        "label": name,
        "case": case,
        "status": "ok",
        "reason": "",
        "runs": [{"ns_per_message": ns, "floor_ns": 100.0}],
    }


def test_a_run_ends_as_json_with_its_circumstances_and_as_documents(
    native: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the plots need matplotlib: pip install shmring[bench]")
    from bench import report

    output = tmp_path / "results.json"
    words = "--quick --rounds 2 --seconds 0.002 --shapes oneway,pingpong-spin --contenders native --output"
    assert main([*words.split(), str(output)]) == 0
    document = json.loads(output.read_text())
    assert {"cpu", "kernel", "python", "cython", "commit", "pinned_to"} <= set(document["machine"])
    assert {"started", "rounds", "seconds_per_run", "entries", "extras"} <= set(document)
    for entry in document["entries"]:
        assert entry["status"] == "ok" and entry["case"]["wait"] in ("spin", "adaptive")
        assert len(entry["runs"]) == 2 and all(run["floor_ns"] > 0 for run in entry["runs"])

    written = report.write_docs(summary.Results(document), tmp_path / "docs")
    assert [path.name for path in written] == ["benchmarks.md", "throughput.png", "latency.png"]
    text = written[0].read_text()
    assert document["machine"]["cpu"] in text and "native (C)" in text and "img/throughput.png" in text
