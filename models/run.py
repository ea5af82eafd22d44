"""Check the Spin models: every stated size must hold to the end, every mutant must be caught.

    python models/run.py            all sizes (some minutes, up to 3 GB)
    python models/run.py --quick    the sizes and mutants that take a second each

Exit codes: 0 all as stated; 1 a model failed or a mutant survived; 3 spin or gcc is missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOLDS, MUTANT, FOUND = "holds", "mutant", "found"       # found: a mutant that was once the code


@dataclass(frozen=True)
class Case:
    model: str
    kind: str
    flags: str
    is_slow: bool = False


ONE, TWO = "MSG=2 GROUPS=1", "MSG=2 GROUPS=1 THREADS=2"
ROOM, ROOM2, ROOM3 = (f"END={end} CONSUMERS=1{threads}" for end, threads in
                      ((4, ""), (4, " THREADS=2"), (3, " THREADS=3")))

CASES = [
    Case("doorbell", HOLDS, "MSG=4 GROUPS=1"),
    Case("doorbell", HOLDS, TWO),
    Case("doorbell", HOLDS, "MSG=3 GROUPS=1 THREADS=2", True),
    Case("doorbell", HOLDS, "MSG=2 GROUPS=1 SHUTDOWN"),
    Case("doorbell", HOLDS, "MSG=2 GROUPS=1 THREADS=2 SHUTDOWN", True),
    Case("doorbell", HOLDS, "MSG=3 GROUPS=1 CRASHES=2"),
    Case("doorbell", HOLDS, "MSG=2 GROUPS=1 THREADS=2 CRASHES=1", True),
    Case("doorbell", HOLDS, "MSG=2", True),
    Case("doorbell", HOLDS, "MSG=1 CRASHES=1", True),
    Case("doorbell", HOLDS, "MSG=2 CRASHES=1", True),
    # Differences that the rest of the protocol makes harmless.
    Case("doorbell", HOLDS, f"{ONE} WAS_EQUAL"),
    Case("doorbell", HOLDS, f"{ONE} CURSOR_AFTER_BIT"),
    Case("doorbell", HOLDS, f"{TWO} UNPARK_SHARED", True),
    *(Case("doorbell", MUTANT, f"{ONE} {flag}") for flag in (
        "NO_MEMBARRIER", "MEMBARRIER_FIRST", "NO_MUST_FENCE", "NO_N3", "NO_W2_FENCE", "NO_SECOND_LOOK",
        "NO_SEQUENCE", "WAKE_FIRST", "RULE_NEW_TAIL", "RULE_AFTER_FIRST", "CURSOR_UNFENCED", "NO_REARM",
        "NOTIFIER_CLEARS", "SHUTDOWN NO_SEQUENCE")),
    *(Case("doorbell", MUTANT, f"{TWO} {flag}") for flag in ("NO_HANDOFF", "DISARM_WHILE_PARKED")),
    Case("doorbell", MUTANT, "MSG=1 SHARED_WORD"),
    Case("doorbell", MUTANT, "MSG=1 CRASHES=1 REPAIR_CLEARS_ALL", True),
    Case("doorbell", FOUND, f"{ONE} LOOK_FIRST"),
    Case("doorbell", FOUND, f"{TWO} WAS_EQUAL"),
    Case("doorbell", FOUND, f"{TWO} WAS_WAIT_ANY"),

    Case("room", HOLDS, ROOM),
    Case("room", HOLDS, "END=3 CONSUMERS=1 THREADS=2"),
    Case("room", HOLDS, "END=3 CONSUMERS=1 JOINER", True),
    Case("room", HOLDS, "END=4", True),
    Case("room", HOLDS, "END=3 CRASHES=1", True),
    Case("room", HOLDS, "END=5 CONSUMERS=1 THREADS=2", True),
    Case("room", HOLDS, ROOM3, True),
    Case("room", HOLDS, f"{ROOM} JOINER", True),
    # Harmless with one thread.
    Case("room", HOLDS, f"{ROOM} WAS_ANNOUNCE"),
    Case("room", HOLDS, f"{ROOM} WAS_AIM"),
    *(Case("room", MUTANT, f"{ROOM} {flag}") for flag in (
        "NO_MEMBARRIER", "NO_MUST_FENCE", "NO_N3", "NO_W2_FENCE", "NO_SECOND_LOOK", "NO_SEQUENCE",
        "RULE_EQUAL", "RULE_BEFORE", "RULE_OPEN", "JOINER REMOVE_SILENT")),
    *(Case("room", MUTANT, f"{ROOM2} {flag}") for flag in (
        "NO_HANDOFF", "ANNOUNCE_OWN", "AIM_AND_LOOK", "SEQUENCE_TWICE", "WAKE_ONE")),
    Case("room", MUTANT, f"{ROOM3} HANDOFF_ONE", True),
    Case("room", FOUND, f"{ROOM2} WAS_ANNOUNCE"),
    Case("room", FOUND, f"{ROOM2} WAS_AIM"),
    Case("room", FOUND, f"{ROOM} JOINER WAS_SETTLE_SILENT"),

    Case("group_join", HOLDS, "CRASHES=0"),
    Case("group_join", HOLDS, "CRASHES=0 LATEST"),
    Case("group_join", HOLDS, "CRASHES=1", True),
    Case("group_join", HOLDS, "CRASHES=1 LATEST", True),
    Case("group_join", HOLDS, "CRASHES=1 OLD=0"),
    Case("group_join", HOLDS, "CRASHES=0 REUSE", True),
    Case("group_join", HOLDS, "CRASHES=1 REUSE", True),
    Case("group_join", HOLDS, "CRASHES=1 CAP=3 END=6", True),
    # Harmless as long as nothing is unpublished at a scan; as long as there is another group.
    Case("group_join", HOLDS, "CRASHES=0 OLD=0 WAS_GATE_POSITION NO_BATCH"),
    Case("group_join", HOLDS, "CRASHES=0 NO_SCAN_FENCE", True),
    *(Case("group_join", MUTANT, f"CRASHES=0 {flag}")
      for flag in ("NO_JOIN_FENCE", "NO_JOIN_COUNT", "COUNT_FIRST", "COUNT_LAST", "FIRST_READING",
                   "TAIL_BEFORE")),
    Case("group_join", MUTANT, "CRASHES=1 KEEP_HALF_MADE"),
    Case("group_join", MUTANT, "CRASHES=0 OLD=0 NO_SCAN_FENCE"),
    Case("group_join", FOUND, "CRASHES=0 WAS_ONE_PASS"),
    Case("group_join", FOUND, "CRASHES=0 OLD=0 WAS_GATE_POSITION"),
]


@dataclass
class Result:
    case: Case
    is_as_stated: bool
    states: int
    seconds: float
    text: str


def check(case: Case, memory_mb: int) -> Result:
    """Run one case in a folder of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        defines = [f"-D{flag}" for flag in case.flags.split()]
        level = "-O2" if case.is_slow else "-O0"        # compiling takes longer than running the small ones
        compiler = ["gcc", level, "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={memory_mb}"]
        for command in (["spin", *defines, "-a", str(HERE / f"{case.model}.pml")],
                        [*compiler, "-o", "pan", "pan.c"],
                        ["./pan", "-m100000", "-w22"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
            if done.returncode != 0:
                break
    return judge(case, command[0], done, time.monotonic() - began)


def judge(case: Case, tool: str, done: subprocess.CompletedProcess, seconds: float) -> Result:
    output = done.stdout + done.stderr
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    n_states = int(states.group(1)) if states else 0
    if tool != "./pan" or errors is None or states is None:
        return Result(case, False, n_states, seconds, f"{tool} failed: {output.strip()[-300:]}")
    cause = re.search(r"pan:\d+: (.*)", output)
    cut_short = re.search(r"depth too small|out of memory|reached -DMEMLIM|Search not completed", output)
    if case.kind == HOLDS:
        if errors.group(1) != "0":
            return Result(case, False, n_states, seconds, f"FAILS: {cause.group(1) if cause else '?'}")
        if cut_short:
            return Result(case, False, n_states, seconds, f"NOT COMPLETE: {cut_short.group(0)}")
        return Result(case, True, n_states, seconds, "complete, no error")
    if errors.group(1) == "0":
        return Result(case, False, n_states, seconds, "SURVIVED")
    return Result(case, True, n_states, seconds, f"caught: {cause.group(1) if cause else '?'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out what takes more than a second or two")
    parser.add_argument("--model", choices=sorted({case.model for case in CASES}), help="only this model")
    parser.add_argument("--jobs", type=int, default=2, help="checks at once (default 2)")
    parser.add_argument("--memory", type=int, default=3500, metavar="MB", help="for each (default 3500)")
    options = parser.parse_args()
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        print(f"{' and '.join(missing)} not found: install spin (apt-get install spin) and gcc",
              file=sys.stderr)
        return 3
    cases = [case for case in CASES
             if not (options.quick and case.is_slow) and options.model in (None, case.model)]
    print(f"{'model':<11} {'kind':<7} {'states':>10} {'s':>6}  {'flags':<46} result")
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda case: check(case, options.memory), cases):
            failed += not result.is_as_stated
            case = result.case
            print(f"{case.model:<11} {case.kind:<7} {result.states:>10} {result.seconds:>6.1f}  "
                  f"{case.flags:<46} {result.text}", flush=True)
    print(f"{len(cases)} checks, {failed} not as stated")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
