"""`make soak HOURS=n`: everything at once until the time is up, then a report of one page.

Two things run beside each other: storms, one after the other, all variants (storm_variants.py) over all backings, with many
producers and with one at a time, each with sizes drawn from its seed; and one ring that lives as long as the soak
(soak_steady.py). Ctrl-C ends it early, with the report of what was done. A failure ends nothing: what is needed to look into it
is kept in a folder beside the report, which names it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import soak_meter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from soak_report import Tally, write_report
from storm_variants import VARIANTS, configure

HERE = Path(__file__).parent
BACKINGS = ("shm", "file", "memfd")
TOPOLOGIES = ("multi", "single")
KILLS = 120  # in each storm
CHECKPOINT_S = 10  # seconds between two checkpoints of the lasting ring
SAMPLE_S = 10
PATIENCE_S = 900  # for a storm or a checkpoint: each notices a hang itself, much earlier
MOST_FAILURES = 10  # then nothing new is learned


class Part:
    """A long-lived process that answers with lines of JSON, in a session of its own so that Ctrl-C reaches only us."""

    def __init__(self, program: str, argument: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.heard_at = time.monotonic()
        self.rest = b""

    def say(self, line: str) -> None:
        self.heard_at = time.monotonic()
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict | None:
        """What it answered; None: it ended."""
        while b"\n" not in self.rest:
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                return None
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\n")
        self.heard_at = time.monotonic()
        return json.loads(line)

    def end(self) -> None:
        """With all that it started: its workers die with it."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def segment_of(name: str) -> Path:
    return Path(name if "/" in name else f"/dev/shm/{name}")


class Soak:
    def __init__(self, hours: float, seed: int, folder: Path, console: Console) -> None:
        self.seed, self.folder, self.console = seed, folder, console
        self.tally = Tally(hours, seed)
        self.meter = soak_meter.Meter()
        self.until = time.monotonic() + 3600 * hours
        self.plan = self.rounds()
        self.prefix = f"shmring-soak-{os.getpid()}"
        self.storms: Part | None = None
        self.steady: Part | None = None
        self.config: dict = {}
        self.label = ("", "", "")
        self.sampled_at = 0.0

    def rounds(self):
        """Labels and configurations, for ever; each lap over all combinations is in an order of its own."""
        chance = random.Random(self.seed)
        combinations = list(itertools.product(VARIANTS, BACKINGS, TOPOLOGIES))
        for number in itertools.count():
            if number % len(combinations) == 0:
                chance.shuffle(combinations)
            variant, backing, topology = combinations[number % len(combinations)]
            changes = {"kills": KILLS, "producers": topology, "align": chance.choice((16, 64))}
            if chance.random() < 0.3:
                changes["capacity"] = chance.choice((4096, 1 << 14, 1 << 17, 1 << 20))
            name = {"shm": f"{self.prefix}-{number}", "file": str(self.folder / f"{number}.ring"), "memfd": None}[backing]
            folder = self.folder / f"storm-{number}"
            yield (variant, backing, topology), configure(variant, name, str(folder), self.seed + number, **changes)

    # ---- the two parts ---------------------------------------------------------------------------------------

    def next_storm(self) -> None:
        if self.storms is None:
            self.storms = Part("storm.py", "-")
        self.label, self.config = next(self.plan)
        os.mkdir(self.config["folder"])
        self.storms.say(json.dumps(self.config))

    def begin_steady(self) -> None:
        number = len(self.tally.failures)
        folder = self.folder / f"steady-{number}"
        folder.mkdir()
        groups = [{"name": name, "redeliver": True} for name in ("whole", "shared")]
        shape = {"capacity": 1 << 16, "align": 16, "producers": "multi", "max_participants": 24, "max_groups": 4}
        life = {"rows": 0, "fuses": 0.3, "gives_up": True, "sizes": [200, 1200], "end": "phase", "every": CHECKPOINT_S}
        config = {"name": f"{self.prefix}-steady-{number}", "folder": str(folder), "seed": self.seed + number}
        self.steady_config = config | {"groups": groups} | shape | life
        self.tally.begin_steady()
        self.steady = Part("soak_steady.py", json.dumps(self.steady_config))

    def heard_from_storms(self) -> None:
        answer = self.storms.hear()
        folder = Path(self.config["folder"])
        if answer is None or not answer.pop("ok"):
            self.keep("storm", self.config, folder, answer)
            self.storms.end()
            self.storms = None
        else:
            self.tally.add_storm(self.label, answer)
            shutil.rmtree(folder)
        self.remove(self.config["name"])
        words = f"{' / '.join(self.label)}, seed {self.config['seed']}"
        self.console.print(f"{self.left()} storm {self.tally.rounds}: {words}: {self.tally.totals()}")
        if self.storms:
            self.meter.add("storms", soak_meter.read(self.storms.process.pid))

    def heard_from_steady(self) -> None:
        answer = self.steady.hear()
        if answer is None or not answer.pop("ok"):
            self.keep("steady", self.steady_config, Path(self.steady_config["folder"]), answer)
            self.steady.end()
            self.steady = None
            self.remove(self.steady_config["name"])
            return
        if answer.get("is_over"):
            self.steady.end()
            self.steady = None
            self.remove(self.steady_config["name"])
            shutil.rmtree(self.steady_config["folder"])
            return
        for name, sample in answer.pop("meters").items():
            self.meter.add(name, sample)
        self.tally.add_checkpoint(answer)

    def keep(self, what: str, config: dict, folder: Path, answer: dict | None) -> None:
        """Everything that tells why: the configuration with its seed, the logs, the ring, where everybody was."""
        kept = self.folder / f"failure-{len(self.tally.failures) + 1}"
        shutil.move(folder, kept)
        (kept / "config.json").write_text(json.dumps(config, indent=1))
        if config["name"] and not (kept / "ring").exists() and segment_of(config["name"]).exists():
            shutil.copyfile(segment_of(config["name"]), kept / "ring")
        answer = answer or {"error": "it ended, or was ended, without an answer", "scene": ""}
        (kept / "scene.txt").write_text(f"{answer['error']}\n{answer['scene']}\n")
        last = answer["error"].strip().rpartition("\n")[2]
        self.tally.failures.append(f"{what}, seed {config['seed']}: {last[:300]} (see {kept})")
        self.console.print("FAILURE:", self.tally.failures[-1], markup=False, style="bold red")

    def remove(self, name: str | None) -> None:
        if name:
            segment_of(name).unlink(missing_ok=True)

    # ---- the time --------------------------------------------------------------------------------------------

    def left(self) -> str:
        seconds = max(0, int(self.until - time.monotonic()))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left,"

    def run(self) -> None:
        total = self.until - time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("of"), TimeRemainingColumn()
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("soak", total=total)
            while time.monotonic() < self.until and len(self.tally.failures) < MOST_FAILURES and not self.tally.is_interrupted:
                self.step()
                progress.update(task, completed=total - (self.until - time.monotonic()), description=self.tally.totals())

    def step(self) -> None:
        if self.steady is None:
            self.begin_steady()
        if self.storms is None or not self.config:
            self.next_storm()
        self.look()
        self.look_for_names(2)
        if time.monotonic() > self.sampled_at + SAMPLE_S:
            self.sampled_at = time.monotonic()
            self.meter.add("soak", soak_meter.read(os.getpid()))

    def look(self) -> None:
        """Hear who has something to say; end who says nothing for too long."""
        parts = [part for part in (self.storms, self.steady) if part]
        ready = select.select([part.process.stdout for part in parts], [], [], 0.5)[0]
        for part in parts:
            if part.process.stdout in ready:
                if part is self.storms:
                    self.heard_from_storms()
                    self.config = {}
                else:
                    self.heard_from_steady()
            elif time.monotonic() > part.heard_at + PATIENCE_S:
                part.process.send_signal(signal.SIGUSR1)  # its stack, into its errors
                time.sleep(1)
                part.process.kill()  # the next look hears its end

    def interrupt(self, *_) -> None:
        """Ctrl-C ends it between two steps, so that nothing is left half done; a second one ends everything at once."""
        if self.tally.is_interrupted:
            raise KeyboardInterrupt
        self.tally.is_interrupted = True

    def finish(self) -> None:
        """The storm that is under way ends, or is ended; the lasting ring is checked once more."""
        self.console.print("ending: the last storm, and the last check of the lasting ring")
        if self.storms and self.config and self.tally.is_interrupted:
            self.storms.end()
            self.storms = None
            self.remove(self.config["name"])
            shutil.rmtree(self.config["folder"])
        if self.steady:
            self.steady.process.stdin.close()
        while self.steady or (self.storms and self.config):
            self.look()
        self.tally.failures += self.meter.growing()
        self.look_for_names(0)

    def look_for_names(self, most: int) -> None:
        names = [name for name in os.listdir("/dev/shm") if name.startswith(self.prefix)]
        self.tally.most_names = max(self.tally.most_names, len(names))
        if len(names) > most:
            self.tally.failures.append(f"names are left in /dev/shm: {names}")

    def end(self) -> None:
        for part in (self.storms, self.steady):
            if part:
                part.end()
        for name in os.listdir("/dev/shm"):
            if name.startswith(self.prefix):
                self.remove(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1, help="how long; 0.05 is three minutes")
    parser.add_argument("--seed", type=int, default=None, help="repeat the storms of another soak (default: a new one)")
    parser.add_argument("--folder", type=Path, default=None, help="where the report goes (default: build/soak/TIME)")
    args = parser.parse_args()
    folder = args.folder or Path("build/soak") / time.strftime("%Y%m%d-%H%M%S")
    folder = folder.absolute()
    if folder.exists():
        parser.error(f"{folder} is there already")
    folder.mkdir(parents=True)
    console = Console(highlight=False, soft_wrap=True)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 24)
    console.print(f"soak: {args.hours} hours, seed {seed}, in {folder}")
    soak = Soak(args.hours, seed, folder, console)
    signal.signal(signal.SIGINT, soak.interrupt)
    try:
        soak.run()
        soak.finish()
    finally:
        soak.end()
        report = write_report(folder / "report.md", soak.tally, soak.meter)
        console.print(report, markup=False)
        console.print(f"report: {folder / 'report.md'}", markup=False)
    return 1 if soak.tally.failures else 130 if soak.tally.is_interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
