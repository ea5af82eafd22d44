"""Runs the fuzzers, survives what they find, and says how much was done.

    python tests/fuzz/campaign.py                                   a short run of every part
    python tests/fuzz/campaign.py --mutations 10000000 --seed 7     the long one: `make fuzz`
    python tests/fuzz/campaign.py --part kernel --seed 7 --first 1234 --count 1     one input again
    python tests/fuzz/campaign.py --part kernel --replay FILE       one that was kept

The work is done in children: one that crashes, or that uses more time for one input than any input may, is reported with the
number of its input; the bytes are kept, and the run goes on behind it. Parts:

    kernel      damaged control words and records under every kernel function, millions of them (kernel_target.pyx)
    pests       the same while another thread damages the same ring
    libfuzzer   the same, but inputs are made from what they covered, under the address and undefined-behaviour sanitizers
    ports       a ring's file under Python's producers, consumers, observers, repair, statistics, opening, the command line
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import build  # noqa: E402

SECONDS = 10  # of processor time that one step of a child may take; most take milliseconds
MOST_FINDINGS = 20
PESTS = 8


class Progress:
    """Numbers that a child writes and its parent reads: the input that runs, damages, acts, and more of a part's own."""

    def __init__(self) -> None:
        self.words = memoryview(mmap.mmap(-1, 4096)).cast("Q")


class Findings(list):
    def add(self, part: str, what: str) -> None:
        self.append(f"{part}: {what}")
        print(f"FOUND {self[-1]}", flush=True)


def supervise(part: str, work, first: int, count: int, progress: Progress, findings: Findings, keep=None) -> None:
    """Run work(first, end) in children until the end is reached. A child that dies is started again behind what killed it."""
    at, end = first, first + count
    while at < end and len(findings) < MOST_FINDINGS:
        progress.words[0] = at
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(at, end)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            return
        number = progress.words[0]
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            what = "an endless loop" if name in ("SIGPROF", "SIGALRM") else f"died of {name}"
        else:
            what = f"exit status {os.WEXITSTATUS(status)}"
        findings.add(part, f"{what} at input {number}" + (f"; {keep(number)}" if keep else ""))
        at = number + 1


def limited(seconds: int = SECONDS) -> None:
    """The child dies of SIGPROF unless this is called again before it has used so much processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


# ---- the kernel ----------------------------------------------------------------------------------------------------


def kernel(args, findings: Findings) -> str:
    import kernel_target as target

    progress = Progress()

    def work(at: int, end: int) -> None:
        for start in range(at, end, 1000):
            limited()
            target.run(args.seed, start, min(1000, end - start), progress.words)
            if args.mutations and progress.words[1] >= args.mutations:
                return

    def keep(number: int) -> str:
        path = args.folder / f"kernel-{args.seed}-{number}.input"
        path.write_bytes(target.input_of(args.seed, number))
        return f"kept in {path.name}"

    supervise("kernel", work, args.first, args.count or 1 << 62, progress, findings, keep)
    args.done += progress.words[1]
    return f"{progress.words[0] - args.first + 1} inputs, {progress.words[1]} mutations, {progress.words[2]} acts"


def pests(args, findings: Findings) -> str:
    """Not to be repeated exactly, as two threads race: the seed decides what they do, not when."""
    import kernel_target as target

    progress, cpus = Progress(), os.sched_getaffinity(0)
    each = max(1, args.count // PESTS) if args.count else max(10_000, args.mutations // 50)
    seconds = 0.5 if args.count else 10         # at least, so that the two threads really run at the same time

    def work(at: int, end: int) -> None:
        for number in range(at, end):
            target.run(args.seed, 0, 1, progress.words)  # makes the worlds
            progress.words[0] = number
            limited()
            counts: list[int] = []

            def disturb(number=number, counts=counts) -> None:
                os.sched_setaffinity(threading.get_native_id(), {max(cpus)})
                counts.append(target.pester(args.seed + number))

            # Else they take turns on one CPU, if the machine is busy.
            os.sched_setaffinity(threading.get_native_id(), {min(cpus)})
            thread = threading.Thread(target=disturb, daemon=True)
            thread.start()
            until, start = time.monotonic() + seconds, 0
            while start < each or time.monotonic() < until:
                limited()
                target.run(args.seed + 1 + number, start, 100, progress.words[8:])
                start += 100
            progress.words[4] += start
            target.leave_alone()
            thread.join()
            progress.words[3] += counts[0]

    supervise("pests", work, 0, PESTS, progress, findings)
    args.done += progress.words[9]
    return f"{progress.words[4]} inputs, {progress.words[9]} mutations, {progress.words[3]} more by another thread meanwhile"


def libfuzzer(args, findings: Findings) -> str:
    program = args.folder / "kernel_fuzzer"
    if not program.exists():
        return "not run: it needs clang with its fuzzer (Debian: apt-get install clang)"
    corpus = args.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    bound = f"-runs={args.count}" if args.count else f"-max_total_time={max(10, args.mutations // 100_000)}"
    done = subprocess.run(
        [program, f"-seed={args.seed & 0x7FFFFFFF or 1}", bound, f"-timeout={6 * SECONDS}", "-max_len=300",
         "-rss_limit_mb=2048",
         f"-artifact_prefix={args.folder}/", corpus],
        capture_output=True, text=True, errors="replace",
        env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"),
    )
    if done.returncode:
        findings.add("libfuzzer", f"exit status {done.returncode}:\n" + done.stderr[-3000:])
    covered = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    figures = re.findall(r"fuzzed: (\d+ inputs, (\d+) mutations, \d+ acts)", done.stderr)
    if not figures:
        return "no figures"
    args.done += int(figures[-1][1])
    return figures[-1][0] + (f", {covered[-1][0]} edges, {covered[-1][1]} features" if covered else "")


# ---- the ports -----------------------------------------------------------------------------------------------------


def ports(args, findings: Findings) -> str:
    import sessions

    progress = Progress()
    most = args.mutations // 25 if args.mutations else 0

    def work(at: int, end: int) -> None:
        for number in range(at, end):
            progress.words[0] = number
            sessions.run(args.seed, number, progress.words, place)
            if most and progress.words[1] >= most:
                return

    again = lambda number: f"--first {number} --count 1"  # noqa: E731
    # Ours, so that it goes even if a session dies.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else args.folder
    with tempfile.TemporaryDirectory(prefix="shmring-fuzz-", dir=memory) as place:
        supervise("ports", work, args.first, args.count or 1 << 62, progress, findings, again)
    args.done += progress.words[1]
    seen = ", ".join(f"{name} {progress.words[16 + index]}" for index, name in enumerate(sessions.OUTCOMES))
    return (f"{progress.words[0] - args.first + 1} sessions, {progress.words[1]} mutations, {progress.words[2]} calls "
            f"({seen}), {progress.words[3]} files cut or extended, "
            f"{progress.words[8] - progress.words[9]} of {progress.words[8]} ends of mappings fenced")


PARTS = {"kernel": kernel, "pests": pests, "libfuzzer": libfuzzer, "ports": ports}
SHORT = {"kernel": 300_000, "pests": 20_000, "libfuzzer": 100_000, "ports": 12}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--mutations", type=int, default=0, help="of the kernel part; the others follow in proportion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "build" / "fuzz", help="for what is built and kept")
    parser.add_argument("--built", action="store_true", help="it is built already")
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    parts = args.part or list(PARTS)
    args.folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(args.folder))
    if not args.built and parts != ["ports"]:
        build.build(args.folder)
        if "libfuzzer" in parts:
            build.build_libfuzzer(args.folder)
    if args.replay:
        import kernel_target

        limited()
        print(f"{kernel_target.one(args.replay.read_bytes())} mutations; nothing happened")
        return 0
    findings, asked, args.done = Findings(), args.count, 0
    for part in parts:
        args.count = asked or (0 if args.mutations else SHORT[part])
        began = time.monotonic()
        print(f"{part}: {PARTS[part](args, findings)} in {time.monotonic() - began:.0f} s (seed {args.seed})", flush=True)
    print(f"together {args.done} mutations; {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
