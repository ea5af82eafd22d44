"""Check the Spin models: every stated size must hold to the end, every mutant must be caught.

    python models/run.py            all sizes (some minutes, up to 3 GB)
    python models/run.py --quick    the sizes and mutants that take a second each
    python models/run.py --quick --mutants 20    of the mutants only so many, others each time

Exit codes: 0 all as stated; 1 a model failed or a mutant survived; 3 spin or gcc is missing.
"""

from __future__ import annotations

import argparse
import random
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

SEND, SHARE = "END=3 CAP=2 JOINS=0", "END=4 CAP=3"
ROOMS = "PRODUCERS=2 MEMBERS=1 CAP=1"
BATCHES = "END=4 CAP=2 BATCH ALONE"
LAPS = "END=6 CAP=4 MOST=3 MEMBERS=1 CRASHES=0"

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

    Case("many_producers", HOLDS, f"{SEND} CRASHES=0"),
    Case("many_producers", HOLDS, f"{SEND} CRASHES=1", True),
    Case("many_producers", HOLDS, "END=4 CAP=3 JOINS=0", True),
    Case("many_producers", HOLDS, "END=4 CAP=2 JOINS=1", True),
    Case("many_producers", HOLDS, "END=3 CAP=2 JOINS=1 CRASHES=2", True),
    Case("many_producers", HOLDS, f"{SEND} CRASHES=0 JUMP HELD", True),
    Case("many_producers", HOLDS, f"{SEND} CRASHES=1 HELD", True),
    Case("many_producers", HOLDS, f"{SEND} CRASHES=1 JUMP HELD", True),
    Case("many_producers", HOLDS, "END=3 CAP=2 JOINS=1 JUMP HELD", True),
    # Harmless: an intent that stays says nothing wrong.
    Case("many_producers", HOLDS, f"{SEND} CRASHES=1 KEEP_INTENT", True),
    *(Case("many_producers", MUTANT, f"{SEND} CRASHES=1 {flag}") for flag in (
        "LATE_INTENT", "CLEAR_FIRST", "NO_EVIDENCE", "FOREIGN_END", "TAIL_LAST", "LOOK_EARLY")),
    Case("many_producers", MUTANT, f"{SEND} CRASHES=1 HELD NO_FIRST_LOOK"),
    Case("many_producers", MUTANT, f"{SEND} CRASHES=2 FREE_FIRST"),
    *(Case("many_producers", MUTANT, f"END=3 CAP=3 JOINS=0 CRASHES=1 {flag}") for flag in (
        "HEADER_FIRST", "NO_RECHECK", "NO_NONE")),
    Case("many_producers", FOUND, f"{SEND} CRASHES=0 WAS_PREVIOUS"),
    Case("many_producers", FOUND, "END=4 CAP=2 JOINS=0 CRASHES=0 WAS_LAPPED"),
    Case("many_producers", FOUND, f"{SEND} CRASHES=0 JUMP"),

    Case("shared_group", HOLDS, f"{SHARE} CRASHES=1"),
    Case("shared_group", HOLDS, "END=4 CAP=3 CRASHES=0 BATCH KEEP"),
    Case("shared_group", HOLDS, "END=6 CAP=3 CRASHES=0 BATCH KEEP", True),
    Case("shared_group", HOLDS, f"{SHARE} CRASHES=1 BATCH KEEP", True),
    Case("shared_group", HOLDS, f"{SHARE} CRASHES=2 JOINS=2", True),
    Case("shared_group", HOLDS, f"{SHARE} CRASHES=2 JOINS=1 BATCH", True),
    Case("shared_group", HOLDS, "END=3 CAP=2 CRASHES=2 JOINS=2 KEEP", True),
    Case("shared_group", HOLDS, "END=3 CAP=2 CRASHES=1 SLOTS=3", True),
    *(Case("shared_group", MUTANT, f"{SHARE} CRASHES=1 {flag}") for flag in (
        "HOLDS_FIRST", "HOLD_LATE", "NO_GRANT", "GRANT_LATE", "GRANTED_FIRST", "TRUST_ALL", "TRUST_NONE",
        "CLEAR_FIRST", "NO_COUNT", "COUNT_FIRST", "NO_RESCAN", "KEEP KEEP_CLEARS")),
    Case("shared_group", MUTANT, "END=6 CAP=3 CRASHES=0 READ_TWICE"),
    Case("shared_group", FOUND, f"{SHARE} CRASHES=2 JOINS=1 WAS_STALE"),
    Case("shared_group", FOUND, f"{SHARE} CRASHES=2 JOINS=1 WAS_UNCOUNTED", True),
    Case("shared_group", FOUND, f"{SHARE} CRASHES=2 JOINS=2 BATCH WAS_OWN_HOLD"),

    Case("grant", HOLDS, ""),
    Case("grant", HOLDS, "JUDGE_UNTAGGED"),             # harmless: no grant of another group gets there
    *(Case("grant", MUTANT, flag) for flag in ("NO_TAG", "STORED", "GRANT_ALL")),

    Case("group_share", HOLDS, "END=4 CRASHES=2"),
    *(Case("group_share", MUTANT, f"CRASHES=0 {flag}") for flag in ("NO_WAIT", "NO_MEMBARRIER", "LOOK_BEFORE", "NO_MOVING")),
    Case("group_share", FOUND, "CRASHES=1 WAS_SHARED"),

    Case("shared_bell", HOLDS, "MSG=2"),
    Case("shared_bell", HOLDS, "MSG=3", True),
    Case("shared_bell", HOLDS, "MSG=3 BATCH", True),
    Case("shared_bell", HOLDS, "MSG=3 ABORT", True),
    Case("shared_bell", HOLDS, "MSG=3 ONE", True),
    Case("shared_bell", HOLDS, "MSG=2 CRASHES=1", True),
    Case("shared_bell", HOLDS, "MSG=2 SLEEPERS=3", True),
    *(Case("shared_bell", MUTANT, f"MSG=2 {flag}") for flag in ("NO_PASS_ON", "NO_PASS_FENCE")),
    *(Case("shared_bell", MUTANT, f"MSG=3 BATCH {flag}") for flag in ("RULE_BEGIN", "RULE_LAST")),
    Case("shared_bell", FOUND, "MSG=2 ABORT WAS_SKIP_SILENT"),
    Case("shared_bell", FOUND, "MSG=2 ONE WAS_THREAD_SILENT"),
    Case("shared_bell", FOUND, "MSG=3 WAS_FORGOTTEN"),

    Case("shared_room", HOLDS, "END=3 CAP=1"),
    Case("shared_room", HOLDS, "END=3 CAP=1 KEEP"),
    Case("shared_room", HOLDS, f"{ROOMS} END=3"),
    Case("shared_room", HOLDS, "CAP=3 END=6", True),
    Case("shared_room", HOLDS, "CAP=3 END=6 KEEP", True),
    Case("shared_room", HOLDS, "PRODUCERS=2 MEMBERS=1 CAP=2 END=5", True),
    Case("shared_room", HOLDS, "MEMBERS=3 CAP=1 END=2", True),
    *(Case("shared_room", MUTANT, flag) for flag in ("RULE_NEXT", "RING_FIRST")),
    Case("shared_room", FOUND, "WAS_FAILED_SILENT"),
    Case("shared_room", FOUND, "KEEP WAS_TOLD_LATE"),
    Case("shared_room", HOLDS, "WAS_TOLD_LATE", True),  # harmless where nobody keeps anything
    Case("shared_room", FOUND, f"{ROOMS} END=3 WAS_PASSED"),

    Case("reserved_room", HOLDS, "END=3 CAP=1 ALONE"),
    Case("reserved_room", HOLDS, BATCHES),
    Case("reserved_room", HOLDS, "END=3 CAP=1", True),
    Case("reserved_room", HOLDS, "END=4 CAP=2", True),
    Case("reserved_room", HOLDS, "END=4 CAP=1", True),
    *(Case("reserved_room", MUTANT, f"END=3 CAP=1 ALONE {flag}") for flag in ("STAMP_SILENT", "GIVE_UP_SILENT", "TELL_FIRST")),
    Case("reserved_room", MUTANT, "END=4 CAP=1 FAILED_SILENT", True),       # takes a lap during a scan
    Case("reserved_room", FOUND, "END=3 CAP=1 ALONE WAS_FORGOTTEN"),
    Case("reserved_room", FOUND, "END=4 CAP=1 WAS_NEAR", True),

    Case("count", HOLDS, "END=3 CAP=2"),
    Case("count", HOLDS, "END=3 CAP=2 MOST=1"),
    Case("count", HOLDS, "END=4 CAP=3", True),
    Case("count", HOLDS, "END=4 CAP=3 MOST=1", True),
    Case("count", HOLDS, LAPS, True),
    # Harmless: who asks the message at the head finds the end of the ring, too; an old number is told anew.
    Case("count", HOLDS, "END=4 CAP=3 MOST=1 ASK_ALWAYS", True),
    Case("count", HOLDS, "END=3 CAP=3 NOTE_OLD"),
    *(Case("count", MUTANT, f"END=4 CAP=3 {flag}") for flag in ("NO_TOLD", "NOTE_FIRST")),
    Case("count", MUTANT, f"{LAPS} NO_SECOND_LOOK", True),

    Case("shutdown", HOLDS, "END=2"),
    Case("shutdown", HOLDS, "END=4", True),
    Case("shutdown", HOLDS, "END=3 CRASHES=1 JOINS=1", True),
    Case("shutdown", HOLDS, "END=3 CRASHES=1 JOINS=1 OTHER", True),
    *(Case("shutdown", MUTANT, f"END=2 {flag}") for flag in (
        "NO_COMMITTER_FENCE", "NO_DRAINER_FENCE", "NO_PONDERING", "LOOK_BEFORE", "PONDER_FIRST", "NO_LOOK", "COMMIT_FIRST",
        "CRASHES=1 JOINS=1 STALE_PONDERING")),
    Case("shutdown", FOUND, "END=2 WAS_BEHIND"),

    Case("observer", HOLDS, "END=5"),
    Case("observer", HOLDS, "END=7 CAP=4 CHUNK=2 MOST=4", True),
    Case("observer", HOLDS, "END=6 CAP=4 CHUNK=2 MOST=4"),
    Case("observer", HOLDS, "END=4 PRODUCERS=2", True),
    *(Case("observer", MUTANT, f"END=5 {flag}") for flag in (
        "NO_LAPPING_FENCE", "NO_OBSERVER_FENCE", "STAMP_EARLY", "LATE_CHECK")),
    Case("observer", MUTANT, "END=7 NO_RECHECK"),
    *(Case("observer", MUTANT, f"END=7 CAP=4 CHUNK=2 MOST=4 {flag}") for flag in ("NO_LEAVE", "SAME_ENTRY")),
    Case("observer", MUTANT, "END=4 PRODUCERS=2 NO_LEAD_CHECK"),
    Case("observer", FOUND, "END=5 WAS_NOTE_LATE"),
    Case("observer", FOUND, "END=5 WAS_TAIL"),
    Case("observer", FOUND, "END=5 WAS_NUMBER"),
    Case("observer", FOUND, "END=5 PRODUCERS=2 WAS_MISSING"),
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
    parser.add_argument("--mutants", type=int, metavar="N", help="only N of them, chosen at random")
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
    if options.mutants is not None:
        mutants = [case for case in cases if case.kind != HOLDS]
        chosen = random.sample(mutants, min(options.mutants, len(mutants)))
        cases = [case for case in cases if case.kind == HOLDS or case in chosen]
    print(f"{'model':<14} {'kind':<7} {'states':>10} {'s':>6}  {'flags':<46} result")
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda case: check(case, options.memory), cases):
            failed += not result.is_as_stated
            case = result.case
            print(f"{case.model:<14} {case.kind:<7} {result.states:>10} {result.seconds:>6.1f}  "
                  f"{case.flags:<46} {result.text}", flush=True)
    print(f"{len(cases)} checks, {failed} not as stated")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
