"""Death at every instruction: `python tests/faults/stepping` (or `make deaths`) steps through all of them, kills once for each
state that they leave behind; with --every at each of them (a day), with --count at a sample.

Prints a table: operation and situation, the points that it has, how many of them were tried, and what failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2])]

from stepping import build, program, trial  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="stepping", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="scenes whose names contain this")
    parser.add_argument("--count", type=int, default=0, help="a sample: so many points of each scene")
    parser.add_argument("--every", action="store_true", help="each instruction, also those that leave the same behind")
    parser.add_argument("--seed", type=int, default=None, help="of the sample; a random one by default")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--modes", default=",".join(program.MODES))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--verbose", action="store_true", help="each scene as it is done")
    parser.add_argument("--json", help="write the results there")
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "little") if options.seed is None else options.seed
    try:
        stepper = build.load()
    except build.Unavailable as error:
        print(f"skipped: {error}")
        return 77
    everything = program.scenes()
    if options.count:
        random.Random(seed).shuffle(everything)  # if the time is up, others each time
        everything.sort(key=lambda scene: scene.label not in program.DELICATE)
    chosen = [scene for scene in everything if all(part in scene.label for part in options.only)]
    until = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        todo, fill = os.pipe()
        os.write(fill, b"".join(index.to_bytes(2, "little") for index in range(len(chosen))))
        os.close(fill)
        workers = []
        for number in range(options.jobs):
            pid = os.fork()
            if pid == 0:
                work(number, options, seed, stepper, chosen, todo, until, f"{folder}/{number}")
            workers.append(pid)
        os.close(todo)
        codes = [os.waitpid(pid, 0)[1] for pid in workers]
        for pid in workers:  # of one that failed
            for left in Path("/dev/shm").glob(f"shmring-stepping-{pid}-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        lines = [line for number in range(options.jobs) for line in read(f"{folder}/{number}")]
    order = {scene.label: number for number, scene in enumerate(chosen)}
    results = sorted((program.Result(**json.loads(line)) for line in lines), key=lambda each: order[each.scene])
    print(program.table(results))
    print(f"seed {seed}; {len(results)} of {len(chosen)} scenes")
    if options.json:
        Path(options.json).write_text(json.dumps({"seed": seed, "scenes": program.as_json(results)}, indent=1) + "\n")
    return 1 if any(codes) or any(each.failures for each in results) else 0


def read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def work(number, options, seed, stepper, scenes, todo, until, path):
    """One of several processes: takes one scene after the other, whose numbers lie in the pipe `todo`."""
    code = 70
    try:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})  # a step is two switches: on one CPU they are short
        gc.disable()
        theatre = trial.Theatre(stepper)
        with open(path, "w") as file:
            while (taken := os.read(todo, 2)) and time.monotonic() < until:
                index = int.from_bytes(taken, "little")
                scene = scenes[index]
                if options.count:
                    choose = program.Sample(seed + index, 0 if scene.label in program.DELICATE else options.count)
                else:
                    choose = program.EveryInstruction() if options.every else program.EveryState(seed + index)
                result = program.run_scene(theatre, scene, choose, until, options.modes.split(","))
                file.write(json.dumps(program.as_json([result])[0]) + "\n")
                file.flush()
                if options.verbose:
                    print(program.table([result]).splitlines()[2:-2], file=sys.stderr, flush=True)
        theatre.close()
        code = 0
    finally:
        os._exit(code) if code == 0 else None
        import traceback

        traceback.print_exc()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
