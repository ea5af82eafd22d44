"""The kernel under ThreadSanitizer: no data race, and no suppression.

Roles are threads on one mapping (drive.pyx, roles.pxd, stage.pxd): producers, members, observers, batches, views, claims given
up, joins, leaves, deaths, repair, adoption, groups that come and go, parks. What is not shown to the sanitizer, or not known
to it:

- An observer copies payloads that may be overwritten meanwhile, and asks afterwards (`copy_unseen` in roles.pxd).
- Headers are looked for where somebody may be writing a payload, by relaxed loads of shared words that count only after a
  second look. The program therefore writes payloads by relaxed stores of words, but members read them by plain loads: a missing
  order between a write and a member's read, either way, is still a race.
- Fences on their own: the edges that rest on them are between shared words, where there is no race to see (models/ has those).
- The registry lock is a mutex here. What it orders between processes is the same.
"""

from __future__ import annotations

import os
import platform
import shutil
import time

import pytest
from accesses import all_accesses
from kernel_build import compile_c, copy_kernel, needed, run_program, translate

pytest.importorskip("Cython", reason="pip install cython")

PLAYS = {"single": ("6", "4000"), "many": ("30", "2000"), "churn": ("120", "500")}    # lives of producers, messages of each

# Orders that are taken away one at a time: file, function, helper, word, and the play that must tell.
MUTANTS = {
    "record-ready": ("produce", "produce_publish", "store_release_u64", "tail", "single"),
    "record-stamped": ("record", "record_stamp", "store_release_u64", "stamp", "many"),
    "released": ("claim", "claim_store_hold", "store_release_u64", "hold", "many"),
}


def build(folder, mutant=None):
    needed("gcc")
    copy = copy_kernel(folder)
    if mutant:
        file, function, helper, word, _ = MUTANTS[mutant]
        found = [each for each in all_accesses()
                 if (each.file, each.function, each.helper, each.word) == (file, function, helper, word)]
        assert len(found) == 1, f"the mutant {mutant} has no place any more"
        copy.weaken(found[0])
    pairs = ["-mcx16"] if platform.machine() == "x86_64" else []
    return compile_c(copy, translate(copy, "drive"), "drive", "gcc", "-O1", "-fsanitize=thread", *pairs)


def play(program, name, seed, lives=None, messages=None):
    """Returns the program's exit code and what it and the sanitizer said."""
    command = [str(program), name, lives or PLAYS[name][0], messages or PLAYS[name][1], str(seed)]
    done = run_program(command, TSAN_OPTIONS="exitcode=66 history_size=4")
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):  # more random bits than it can map
        done = run_program(["setarch", "-R", *command], TSAN_OPTIONS="exitcode=66 history_size=4")
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run here: sysctl vm.mmap_rnd_bits=28")
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("threads"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYS)
def test_no_data_race_and_every_message_whole_and_delivered(program, name):
    for seed in (1, 2):
        code, text = play(program, name, seed)
        assert code == 0, text


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_dropped_release_is_reported(tmp_path, mutant):
    mutated = build(tmp_path, mutant)
    for seed in range(5):
        code, text = play(mutated, MUTANTS[mutant][4], seed)
        if "WARNING: ThreadSanitizer: data race" in text:
            return
    pytest.fail(f"not reported; the last play said {code}, {text[-500:]}")


@pytest.mark.soak
def test_no_data_race_for_hours(program):
    until = time.monotonic() + 3600 * float(os.environ.get("SHMRING_SOAK_HOURS", "1")) / 8
    seed = 1000
    while time.monotonic() < until:
        seed += 1
        for name in PLAYS:
            code, text = play(program, name, seed)
            assert code == 0, f"seed {seed}: {text}"
