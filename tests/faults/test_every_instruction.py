"""Death at every instruction, sampled: `make deaths` goes through all of it. See stepping/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stepping import build, program, trial
from stepping.scenes import Operation, Scene
from stepping.world import Broken

from shmring import creation

STEPPING = Path(__file__).parent / "stepping"
SECONDS = 15  # of sampling; building the stepper comes once before it


@pytest.fixture(scope="module")
def stepper():
    try:
        return build.load()
    except build.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def theatre(stepper):
    made = trial.Theatre(stepper)
    yield made
    made.close()


def scene(label):
    return next(each for each in program.scenes() if each.label == label)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whoever_dies_or_stops_at_any_instruction_harms_nobody_else(stepper):
    """Three operations at each of their instructions, the others at some; other ones in each run."""
    command = [sys.executable, str(STEPPING), "--count", "3", "--seconds", str(SECONDS)]
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_a_ring_that_has_its_name_too_early_is_caught(theatre, monkeypatch):
    """The harness can fail: a creator that links the file before it is whole."""
    chosen = scene("create | empty | multi")
    path = f"{theatre.world(chosen).path}-folder/made"
    link = creation._link

    class EarlyShape(creation._Shape):
        def format(self, fd):
            link(fd, None, creation.place_of(path), "create")
            super().format(fd)

    assert program.run_scene(theatre, chosen, program.Sample(1, 20), float("inf"), ("kill",)).failures == 0
    monkeypatch.setattr(creation, "_Shape", EarlyShape)
    monkeypatch.setattr(creation, "_link", lambda fd, temporary, place, action: None)
    result = program.run_scene(theatre, chosen, program.Sample(1, 20), float("inf"), ("kill",))
    assert any("no ring" in text for text in result.texts), result


def test_each_state_is_chosen_once_by_whom_it_kills(theatre):
    """And whatever lies between two states is a load, a jump or a register's business."""
    chosen = scene("send | middle | multi")
    points = program.rehearse(theatre, chosen, None)
    states = program.states_of(points)
    assert [index for state in states for index in state] == list(range(len(points)))
    between = [points[index] for state in states for index in state[1:]]
    assert all(kind in (trial.INSIDE, trial.LEFT) and not changed for kind, _, changed in between)
    kills = program.EveryState(1).points(points, "kill")
    assert [sum(index in state for index in kills) for state in states] == [1] * len(states)
    stops = program.EveryState(1).points(points, "stop")
    assert len(stops) > len(kills) > sum(changed for _, _, changed in points) > 5


@pytest.mark.parametrize("label", ["send | middle | multi", "recv, shared | middle | single", "close a member | full | multi"])
def test_no_instruction_is_passed_over(theatre, label):
    """The same ones come when each instruction of the process is stepped, not only those of shmring."""
    chosen = scene(label)
    theatre.run(chosen, "trace")
    _, points = theatre.run(chosen, "trace")
    _, addresses = theatre.run(chosen, "walk")
    assert [where for kind, where, _ in points if kind == trial.INSIDE] == addresses
    assert len(addresses) > 100


@pytest.mark.parametrize("label", ["recv, asleep and woken | empty | multi", "send, asleep and woken | full | single"])
def test_who_is_stopped_in_its_sleep_goes_on_when_it_may(theatre, label):
    """Somebody sent, or made room, while it was stopped."""
    chosen = scene(label)
    points = program.rehearse(theatre, chosen, None)
    sleeps = next(index for index, (kind, _, _) in enumerate(points) if kind == trial.ASLEEP)
    theatre.run(chosen, "stop", trial.plans(points)[sleeps])


def test_who_leaves_while_somebody_repairs_is_not_called_dead(theatre, monkeypatch):
    """It was counted in `repairs`, and consumers that end with their producers raised ProducerDied."""

    def leave(world, scene):
        world.tx.close()
        world.tx = None

    def verify(world, scene, rival, took, newcomer_first):
        if took != [0] or world.ring.stats().repairs:
            raise Broken(f"{took} were found dead: {world.ring.stats()}")
        return 0, 0

    operation = Operation(
        "repair", "other", lambda world: [], lambda world, state: state.append(world.ring.repair()),
        lambda world, state: repr(state), verify=verify,
    )  # fmt: skip
    chosen = Scene(operation, "middle", "multi")
    points = program.rehearse(theatre, chosen, None)
    calls = [index for index, (kind, _, _) in enumerate(points) if kind in (trial.ENTRY, trial.EXIT)]
    near = sorted({index - back for index in calls for back in range(0, 24, 6) if index >= back})
    monkeypatch.setattr(trial, "while_stopped", leave)
    plans = trial.plans(points)
    for index in near:
        theatre.run(chosen, "stop", plans[index])
