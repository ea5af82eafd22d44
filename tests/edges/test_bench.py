"""The benchmark harness moves the messages, sees a wrong byte, and outlives a contender."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="the benchmarks need numpy: pip install shmring[bench]")
pytest.importorskip("hdrh", reason="the benchmarks need hdrhistogram: pip install shmring[bench]")
pytest.importorskip("plotly", reason="the benchmarks need plotly: pip install shmring[bench]")

import bench
from bench import contenders, launch, machine, rounds, several, summary
from bench.__main__ import main
from bench.goals import all_rows
from bench.shapes import KIB, MIB, SHAPES, Case, all_cases
from bench.span import Span

SMALL = {
    "pingpong-spin": Case("pingpong-spin", 64, capacity=64 * KIB, wait="spin", count=200),
    "pingpong-park": Case("pingpong-park", 64, capacity=64 * KIB, wait="park", think_ns=20_000, count=30),
    "oneway": Case("oneway", 64, capacity=64 * KIB, count=610),
    "oneway-many": Case("oneway-many", 64, capacity=64 * KIB, batch=16, pool=16, count=320),
    "array": Case("array", 64 * KIB, capacity=1 * MIB, count=20),
    "object": Case("object", 96, capacity=64 * KIB, count=610),
    "object-many": Case("object-many", 96, capacity=64 * KIB, batch=16, pool=16, count=320),
    "records": Case("records", 32, capacity=1 * MIB, batch=1000, pool=13, count=39_000),
    "cython": Case("cython", 64, capacity=64 * KIB, count=61 * 256),  # it looks at all of one in 256
    "aio": Case("aio", 64, capacity=64 * KIB, loop="asyncio", count=200),
    "untouched": Case("untouched", 64, capacity=64 * KIB, count=300),
    "wakeup": Case("wakeup", 64, capacity=64 * KIB, count=5),
    "idle": Case("idle", 64, capacity=64 * KIB, count=1, idle_ns=20_000_000),
    "mpmc": Case("mpmc", 64, capacity=64 * KIB, ring="multi", producers=2, members=2, pool=16, count=640),
    "mpmc-many": Case("mpmc-many", 64, capacity=64 * KIB, ring="multi", producers=4, pool=16, count=640),
    "fanout": Case("fanout", 64, capacity=64 * KIB, groups=3, pool=16, count=640),
    "onemulti": Case("onemulti", 64, capacity=64 * KIB, ring="multi", count=610),
    "onemulti-spin": Case("onemulti-spin", 64, capacity=64 * KIB, ring="multi", wait="spin", count=200),
    "crowd": Case("crowd", 64, capacity=16 * KIB, ring="multi", others=9, groups=3, count=2),
}


# What each contender says it has: the refusals are part of the report, not of these tests.
OFFERED = [
    (name, shape)
    for name in contenders.NAMES
    for shape in SHAPES
    if not contenders.refusal(name, SMALL[shape])
]


# The loops are the same for all: it is enough to see each of them fail, of every kind of contender.
SPOILED = ("oneway", "array", "mpmc", "mpmc-many", "fanout", "crowd", "object", "object-many", "records", "cython", "aio")
SPOILERS = (
    "native", "shmring", "shmring_objects", "shmring_records", "shmring_cython", "mp_queue", "asyncio_streams", "python_alone",
)


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


NOBODY = rounds.Plan([None, None], 2, 0.01, 1, 0)


class Silent:
    """A progress line that shows nothing."""

    def expect(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, text: str) -> None:
        pass


def run(contender: str, case: Case) -> dict[str, dict]:
    return launch.run(contender, case, machine.two_cores(), timeout=200)


def leftovers() -> list[str]:
    places = [place for place in (Path("/dev/shm"), Path("/dev/mqueue")) if place.exists()]
    return [path.name for place in places for path in place.glob(f"*bench-{os.getpid()}-*")]


@pytest.mark.parametrize(("contender", "shape"), OFFERED)
def test_every_contender_moves_the_messages_of_every_shape_it_has(contender: str, shape: str) -> None:
    case = small(contender, shape)
    figures = summary.figures(case, run(contender, case))
    assert summary.main_figure(shape) in figures
    assert shape == "idle" or all(value > 0 for name, value in figures.items() if name not in ("hdr", "cpu_ns_per_message"))
    assert not leftovers()


SPOILT = [(name, shape) for name, shape in OFFERED if name in SPOILERS and shape in SPOILED]


@pytest.mark.parametrize(("contender", "shape"), SPOILT)
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


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ("0123 0123", 0),
        (
            "0123 0129",
            3,
        ),  # nobody has that number: seen as such, in the sample of the block, and in the count
        ("0123 0133", 3),  # one lost, one twice: out of order, and both in the count
        ("0132 0123", 2),  # nothing lost: out of order twice
    ],
)
def test_a_member_alone_in_its_group_must_have_all_numbers_in_order(messages: str, wrong: int) -> None:
    case = Case("mpmc", 16, pool=4, count=8)
    assert consumed(case, messages, -1)["wrong"] + miscount(case, messages) == wrong


def consumed(case: Case, messages: str, descriptor: int) -> dict:
    expected = [m for i in range(case.producers) for m in several.payload.build(case, first=i * case.pool)]
    known = dict(enumerate(expected))
    foreign = (99).to_bytes(8, "little") + bytes(8)
    came = iter([known.get(int(number), foreign) for number in messages.replace(" ", "")])
    end = type("End", (), {"recv": came.__next__})()
    return several.consume(end, case, Span, descriptor)


def miscount(case: Case, messages: str) -> int:
    return sum(several.miscounts(case, [consumed(case, messages, -1)]))


def test_members_of_a_shared_group_must_have_every_number_once_between_them() -> None:
    case = Case("mpmc", 16, producers=2, members=2, pool=4, count=16)

    def wrong(one: list[int], other: list[int]) -> int:
        clean = {"start_ns": 1, "end_ns": 2, "cpu_ns": 1, "wrong": 0}
        members = [{**clean, "tally": tally} for tally in (one, other)]
        return several.combined(case, [clean, clean, *members])["consumer"]["wrong"]

    assert wrong([2, 2, 2, 2, 0, 0, 0, 1], [0, 0, 0, 0, 2, 2, 2, 1]) == 0
    assert wrong([2, 2, 2, 2, 0, 0, 0, 1], [0, 0, 0, 0, 2, 2, 2, 0]) == 1  # lost
    assert wrong([2, 2, 2, 2, 0, 0, 0, 1], [1, 0, 0, 0, 2, 2, 2, 1]) == 1  # came twice


def test_every_ticket_is_drawn_once() -> None:
    case = Case("mpmc", 64, members=2, pool=16, count=160)
    with several.tickets(case) as descriptor:
        one, other = (iter(several.blocks(case, descriptor)) for _ in range(2))
        drawn = [next(one), next(other), *one, *other]
    assert len(drawn) == 10


def test_producers_and_consumers_sit_on_the_two_cores_alternately() -> None:
    case = Case("mpmc", 64, producers=3, members=2)
    assert [(seat.role[0], seat.cpu) for seat in several.seats(case, [4, 7])] == [
        ("p", 4), ("p", 7), ("p", 4), ("c", 7), ("c", 4),
    ]  # fmt: skip


def test_a_contender_that_hangs_is_reported_and_ended() -> None:
    with pytest.raises(launch.RunFailed, match="timed out"):
        launch.run_processes([["sleep", "60"]], SMALL["oneway"], timeout=0.2)


def test_a_contender_that_dies_is_reported_with_its_last_words() -> None:
    with pytest.raises(launch.RunFailed, match="died: no such luck"):
        launch.run_processes([["sh", "-c", "echo no such luck >&2; exit 3"]], SMALL["oneway"], timeout=200)


def test_a_program_that_is_not_there_is_a_failure_and_nobody_is_left_waiting() -> None:
    with pytest.raises(launch.RunFailed, match="cannot be started"):
        launch.run_processes([["sleep", "60"], ["/nowhere/at/all"]], SMALL["oneway"], timeout=200)


def pretended(monkeypatch: pytest.MonkeyPatch, failing: str, error: Exception) -> list[str]:
    """Runs that take a second and measure nothing; `failing` raises. Returns who was asked, so far."""
    asked = []

    def pretend(name: str, case: Case, cpus: list[int | None], timeout: float) -> dict[str, dict]:
        asked.append(name)
        if name == failing:
            raise error
        return {"producer": {"start_ns": 0, "cpu_ns": 1}, "consumer": {"end_ns": 10**9, "cpu_ns": 1}}

    monkeypatch.setattr(launch, "run", pretend)
    monkeypatch.setattr(rounds.floor, "measure", lambda cpus: 100.0)
    return asked


def test_a_failure_is_kept_in_the_entry_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretended(monkeypatch, "mp_queue", launch.RunFailed("died: why"))
    entries = rounds.run_all([SMALL["oneway"]], ["mp_queue", "mp_pipe"], NOBODY, Silent())
    assert [(entry["status"], entry["reason"]) for entry in entries] == [("failed", "died: why"), ("ok", "")]
    assert [len(entry["runs"]) for entry in entries] == [0, 1]
    assert asked == ["mp_queue", "mp_pipe"]


def test_a_contender_that_keeps_hanging_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretended(monkeypatch, "mp_pipe", launch.RunHung("timed out"))
    cases = [replace(SMALL["oneway"], size=size, count=0) for size in (8, 64, KIB, 16 * KIB, MIB)]
    entries = rounds.run_all(cases, ["mp_pipe"], NOBODY, Silent())
    assert len(asked) == rounds.PATIENCE
    assert [entry["reason"] for entry in entries[3:]] == [
        "not tried: hung in " + ", ".join(case.id for case in cases[:3])
    ] * 2


def test_rounds_end_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretended(monkeypatch, "nobody", launch.RunFailed(""))
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(rounds.time, "monotonic", lambda: next(now))
    plan = replace(NOBODY, rounds=50, budget=100)
    (entry,) = rounds.run_all([SMALL["oneway"]], ["shmring"], plan, Silent())
    assert rounds.LEAST_ROUNDS < len(entry["runs"]) == len(asked) < 10


def test_what_no_goal_is_judged_by_runs_in_every_third_round(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended(monkeypatch, "nobody", launch.RunFailed(""))
    progress = Silent()
    entries = rounds.run_all([SMALL["oneway"]], ["shmring", "mp_pipe"], replace(NOBODY, rounds=7), progress)
    assert [[run["round"] for run in entry["runs"]] for entry in entries] == [[0, 1, 2, 3, 4, 5, 6], [0, 3, 6]]
    assert progress.steps == 2 + 7 + 3
    assert summary.paired_ratios(*entries) == [1.0, 1.0, 1.0]  # of the rounds that both were in


def test_messages_that_a_contender_knows_it_lost_are_counted() -> None:
    said = json.dumps({"start_ns": 1, "end_ns": 2, "cpu_ns": 1, "wrong": 0, "lost": 4})
    commands = [["sh", "-c", f"echo ready; read line; echo '{said}'"]] * 2
    with pytest.raises(launch.RunFailed, match="lost 8 of 610 messages"):
        launch.run_processes(commands, SMALL["oneway"], timeout=200)


def test_ratios_leave_out_rounds_in_which_the_cores_were_moved() -> None:
    case = {"shape": "oneway"}
    mine = {"case": case, "runs": [{"ns_per_message": 20.0, "floor_ns": f, "round": i} for i, f in enumerate((100.0, 400.0))]}
    limit = {"case": case, "runs": [{"ns_per_message": n, "floor_ns": 100.0, "round": i} for i, n in enumerate((10.0, 1.0))]}
    assert summary.paired_ratios(mine, limit) == [2.0]
    mine["runs"][0]["floor_ns"] = 400.0
    assert summary.paired_ratios(mine, limit) == [2.0, 20.0]  # nothing comparable is left: all of them


@pytest.mark.parametrize(("mine_ns", "expected"), [(39.0, "reached"), (41.0, "**missed**")])
def test_a_goal_is_judged_against_the_native_rate(mine_ns: float, expected: str) -> None:
    document = {"entries": [entry_of("native", 10.0), entry_of("shmring", mine_ns)]}
    (row,) = all_rows(summary.Results(document))
    assert (row.verdict, row.goal) == (expected, "≥ 0.25 × native")


def entry_of(name: str, ns: float, case: Case = Case("oneway", 64)) -> dict:  # noqa: B008
    return {
        "id": case.id,
        "contender": name,
        "label": name,
        "case": {**vars(case)},
        "status": "ok",
        "reason": "",
        "runs": [{"ns_per_message": ns, "cpu_ns_per_message": ns, "floor_ns": 100.0, "round": 0}],
    }


def test_the_rows_of_several_participants_are_judged() -> None:
    entries = [
        entry_of("shmring", ns, case)
        for case, ns in (
            (Case("oneway", 64), 50.0),
            (Case("mpmc", 64, producers=2, members=2), 200.0),
            (Case("fanout", 64, groups=3), 340.0),
            (Case("onemulti", 64, ring="single"), 50.0),
            (Case("onemulti", 64, ring="multi"), 55.0),
        )
    ]
    rows = {row.work: row for row in all_rows(summary.Results({"entries": entries}))}
    found = {work.split(",")[0]: (row.ratio, row.verdict) for work, row in rows.items()}
    assert found == {
        "many producers against single producer": ("0.91 (speed)", "reached"),
        "2 producers + 2 consumers": ("0.25 (of 1+1)", "**missed**"),
        "1 producer → 3 lossless groups": ("-", "**missed**"),
    }


def test_a_goal_beyond_the_interpreter_says_so() -> None:
    entries = [
        entry_of(name, ns) for name, ns in (("native", 10.0), ("shmring", 60.0), ("python_alone", 50.0))
    ]
    (row,) = all_rows(summary.Results({"entries": entries}))
    assert row.note == "Python alone: 20 M/s, 0.20 × native: the goal lies beyond the interpreter"


def test_a_run_ends_as_json_with_its_circumstances_and_as_documents(native: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots need matplotlib: pip install shmring[bench]")
    pytest.importorskip("jsonschema", reason="pip install jsonschema, to compare the results with their schema")
    import jsonschema

    words = "--quick --rounds 1 --seconds 0.002 --timeout 100 --shapes oneway,pingpong-spin --contenders native --docs"
    assert main([*words.split(), str(tmp_path)]) == 0
    document = json.loads((tmp_path / "report" / "results.json").read_text())
    jsonschema.validate(document, json.loads(Path(bench.__file__).with_name("schema.json").read_text()))
    for entry in document["entries"]:
        assert entry["status"] == "ok" and entry["case"]["wait"] in ("spin", "adaptive")
        assert len(entry["runs"]) == 1 and all(run["floor_ns"] > 0 for run in entry["runs"])
        assert ("hdr" in entry) is (entry["case"]["shape"] == "pingpong-spin")

    assert sorted(path.name for path in (tmp_path / "img").iterdir()) == ["cost.png", "latency.png", "throughput.png"]
    text = (tmp_path / "benchmarks.md").read_text()
    assert document["machine"]["cpu"] in text and "native (C)" in text and "img/throughput.png" in text
    assert "CPU seconds per million messages" in text and "| max |" in text


def test_the_quick_cases_are_a_part_of_all_cases_and_every_shape_has_some() -> None:
    everything, quick = (all_cases(is_quick) for is_quick in (False, True))
    assert {case.shape for case in everything} == {case.shape for case in quick} == set(SHAPES)
    assert {case.id for case in quick} < {case.id for case in everything}
    assert {(case.producers, case.members) for case in everything if case.shape == "mpmc"} >= {(1, 1), (2, 2), (4, 1), (4, 4)}
    sizes = [case.size for case in everything if case.shape == "oneway"]
    assert min(sizes) == 8 and max(sizes) == 16 * MIB


def test_whoever_can_be_installed_is_in_the_extra_and_in_the_makefile() -> None:
    wanted = {contenders.load(name).PACKAGE for name in contenders.NAMES} - {"", "shmring", "posix_ipc"} | {"uvloop"}
    extra = (machine.ROOT / "pyproject.toml").read_text().partition("peers = [")[2].partition("\n]")[0]
    assert wanted == {name.split(";")[0] for name in re.findall(r'"([^"]+)"', extra)}
    peers = (machine.ROOT / "Makefile").read_text().partition("PEERS := ")[2].partition("\n")[0]
    assert wanted == set(peers.split())


@pytest.mark.parametrize("name", contenders.NAMES)
def test_every_contender_says_what_it_is_and_why_not(name: str) -> None:
    contender = contenders.load(name)
    assert contender.LABEL and contender.KIND in ("program", "attach", "inherit", "alone") and set(SHAPES) >= contender.OFFERS
    assert isinstance(contender.PACKAGE, str) and isinstance(contender.missing(), str)
    refused = {shape for shape in SHAPES if contenders.refusal(name, SMALL[shape])}
    assert refused >= set(SHAPES) - contender.OFFERS
    calls = {"program": ("command", "create", "remove"), "attach": ("attach", "create", "remove"), "inherit": ("pair",)}
    assert all(hasattr(contender, call) for call in calls.get(contender.KIND, ("run", "create", "remove")))
