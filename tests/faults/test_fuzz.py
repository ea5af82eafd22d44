"""Hostile bytes: a short run of every fuzzer in tests/fuzz. `make fuzz` is the long run; its finds: test_damaged_words.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

import build  # noqa: E402

pytestmark = pytest.mark.timeout(900)   # building the target is 10 s of a free processor, and minutes of a busy one
needs_a_compiler = pytest.mark.skipif(build.missing() is not None, reason=f"the fuzz target: {build.missing()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The kernel's fuzz target, built."""
    return build.build(tmp_path_factory.mktemp("fuzz"))


def campaign(*words: object) -> str:
    command = [sys.executable, str(FUZZ / "campaign.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=dict(os.environ, PYTHONFAULTHANDLER="1"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@needs_a_compiler
@pytest.mark.slow
def test_no_damage_makes_the_kernel_crash_or_loop(folder):
    report = campaign("--part", "kernel", "--built", "--folder", folder, "--count", 150_000)
    assert "150000 inputs" in report and "0 findings" in report


@needs_a_compiler
@pytest.mark.slow
def test_no_change_in_the_middle_makes_the_kernel_crash_or_loop(folder):
    """Another thread damages the ring meanwhile. (Words that never stand still are in the test above: see build.py.)"""
    assert "0 findings" in campaign("--part", "pests", "--built", "--folder", folder, "--count", 30_000)


@needs_a_compiler
@pytest.mark.slow
def test_inputs_that_look_for_new_paths_find_no_error_of_memory(folder):
    """libFuzzer under the address and undefined-behaviour sanitizers."""
    if build.build_libfuzzer(folder) is None:
        pytest.skip("libFuzzer comes with clang, which is not here: apt-get install clang")
    report = campaign("--part", "libfuzzer", "--built", "--folder", folder, "--count", 40_000)
    assert int(re.search(r"(\d+) inputs", report)[1]) > 39_000 and "0 findings" in report     # an empty one does not count


@pytest.mark.slow
def test_no_damage_makes_the_ports_crash_loop_or_raise_anything_else(tmp_path):
    """Producers, consumers, observers, repair, statistics and the command line, on a file that is changed, cut and extended."""
    assert "0 findings" in campaign("--part", "ports", "--folder", tmp_path, "--count", 25)


@needs_a_compiler
@pytest.mark.slow
def test_an_input_can_be_replayed_from_its_bytes(folder):
    """What a finding leaves behind: the bytes of the input of that seed and number."""
    sys.path.insert(0, str(folder))
    try:
        import kernel_target
    finally:
        sys.path.remove(str(folder))
    kept = folder / "kept.input"
    kept.write_bytes(kernel_target.input_of(7, 41))
    assert kernel_target.input_of(7, 41) == kept.read_bytes() != kernel_target.input_of(7, 42)
    assert "nothing happened" in campaign("--part", "kernel", "--built", "--folder", folder, "--replay", kept)


@needs_a_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", [1, 3])        # of many producers; the other one's positions are beyond 48 bits
@pytest.mark.parametrize("length", [0, 900])    # within a chunk, and into another one: a place for observers is noted first
def test_a_producer_that_loses_every_exchange_gives_up_unless_the_tail_moves(folder, kind, length):
    """In a child with a watchdog: the loop in produce_strive has no other end."""
    program = f"import kernel_target; print(kernel_target.lose_each_exchange({kind}, {length}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=600)
    assert re.match(r"\('', \d{7,}\)", done.stdout), done.stdout + done.stderr
