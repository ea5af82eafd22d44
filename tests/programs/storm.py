"""One storm over one ring: forks workers, kills, stops and continues them at random, replaces them, and checks what is left.

Run as: storm.py CONFIG, which is JSON (storm_variants.py makes it; tests/stress/test_storm.py says what each outcome may be).
Prints a line of JSON: {"ok": ..., ...}. With - as CONFIG, one storm for each line of standard input. A process that has
imported everything forks the workers, so that a death costs a few milliseconds.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback

import storm_books as books
import storm_check
from storm_workers import ROLES

import shmring

PATIENCE = 60  # seconds without an operation, of a worker that is not stopped, that count as a hang
PAUSE = 0.012  # seconds between two events, on average

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Life:
    """One worker process and what became of it."""

    def __init__(self, number, pid, job, log_path):
        self.number, self.pid, self.job, self.log_path = number, pid, job, log_path
        self.stopped_until = None
        self.was_killed = False
        self.state_at_end = None
        self.last_beats, self.silent = -1, 0


class Storm:
    def __init__(self, config):
        self.config = config
        self.folder = config["folder"]
        self.random = random.Random(config["seed"])
        self.table = books.Table(config["rows"])
        self.numbers = itertools.count()
        self.pid = os.getpid()
        self.living: dict[int, Life] = {}  # by pid
        self.ended: list[Life] = []
        self.kills = 0
        self.stops = 0
        self.replace = True
        self.checked_at = time.monotonic()
        shape = {each: config[each] for each in ("capacity", "producers", "align", "max_participants", "max_groups")}
        self.ring = shmring.create(config["name"], **shape) if config["name"] else shmring.anonymous(**shape)
        for group in config["groups"]:
            self.ring.consumer(group["name"], redeliver=group["redeliver"]).close()
        self.ring.remove_group("default")

    # ---- workers ---------------------------------------------------------------------------------------------

    def start(self, job) -> Life:
        number = next(self.numbers)
        log_path = os.path.join(self.folder, f"{number}.log") if job["role"] == "member" else None
        inherits = self.random.random() < 0.5 or not self.config["name"]
        pid = os.fork()
        if pid == 0:
            self.work(number, job, inherits, log_path)
        self.living[pid] = Life(number, pid, job, log_path)
        return self.living[pid]

    def work(self, number, job, inherits, log_path) -> None:
        """The child's life."""
        code = 3
        try:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # if the watchdog of the test ends the storm
            if os.getppid() != self.pid:  # it has ended already
                os._exit(0)
            ring = self.ring if inherits else shmring.open(self.config["name"])
            self.worker(number, ring, job, log_path).run()
            code = 0
        except BaseException:
            sys.stderr.write(f"worker {number} {job}:\n{traceback.format_exc()}\n")
            sys.stderr.flush()
        finally:
            os._exit(code)

    def worker(self, number, ring, job, log_path):
        log = books.Log(log_path) if log_path else None
        return ROLES[job["role"]](number, self.table, self.config, ring, job, log)

    def reap(self) -> None:
        """Take note of who ended, and replace them."""
        while self.living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            life = self.living.pop(pid)
            life.was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            life.state_at_end = self.table.get(life.number, books.STATE)
            self.ended.append(life)
            self.kills += life.was_killed
            if not life.was_killed and status != 0:
                raise AssertionError(f"worker {life.number} {life.job} ended with status {status:#x}")
            phase = self.table.phase
            if self.replace and phase < (books.FINISH if life.job["role"] == "producer" else books.DRAIN):
                self.start(life.job)

    def watch(self) -> None:
        """Raise if anybody has done nothing for too long. Counts looks, not the time that a slow machine takes."""
        if time.monotonic() - self.checked_at < 1:
            return  # looks are a second apart at least
        self.checked_at = time.monotonic()
        for life in self.living.values():
            beats = self.table.get(life.number, books.BEATS)
            life.silent = 0 if beats != life.last_beats or life.stopped_until else life.silent + 1
            life.last_beats = beats
            if life.silent > PATIENCE:
                raise AssertionError(f"hang: worker {life.number} {life.job}, pid {life.pid}, did nothing for {life.silent} s")

    # ---- the storm -------------------------------------------------------------------------------------------

    def jobs(self):
        config = self.config
        for _ in range(config["observers"]):
            readonly = bool(config["name"]) and self.random.random() < 0.3
            yield {"role": "observer", "doomed": "observer" in config["doomed"], "readonly": readonly}
        for group in config["groups"]:
            for index in range(group["members"]):
                doomed = "member" in config["doomed"] and (index > 0 or config["all_doomed"])
                yield {
                    "role": "member",
                    "group": group["name"],
                    "redeliver": group["redeliver"],
                    "loose": group["loose"],
                    "doomed": doomed,
                }
        for index in range(config["ephemeral"]):
            yield {"role": "member", "group": f"passing {index // 2}", "ephemeral": True, "loose": False, "doomed": True}
        for index in range(config["writers"]):
            doomed = "producer" in config["doomed"] and (index > 0 or config["all_doomed"])
            yield {"role": "producer", "doomed": doomed}

    def rage(self) -> None:
        counting = self.start({"role": "observer", "doomed": False, "counts": True})
        while self.table.get(counting.number, books.STATE) != books.ATTACHED:
            self.reap()
            time.sleep(0.001)
        for job in self.jobs():
            self.start(job)
        while self.kills < self.config["kills"]:
            time.sleep(self.random.expovariate(1 / PAUSE))
            self.strike()
            if self.random.random() < 0.7:  # else zombies stay a while
                self.reap()
            self.go_on(time.monotonic())
            self.watch()

    def strike(self) -> None:
        chance = self.random.random()
        if chance < 0.7:
            doomed = [life for life in self.living.values() if life.job["doomed"]]
            if doomed:
                # The youngest are just attaching.
                victim = doomed[-1] if self.random.random() < 0.2 else self.random.choice(doomed)
                os.kill(victim.pid, signal.SIGKILL)  # not used again: only we reap
        elif chance < 0.95:
            if sum(life.stopped_until is not None for life in self.living.values()) < 2:
                victim = self.random.choice(list(self.living.values()))
                os.kill(victim.pid, signal.SIGSTOP)
                victim.stopped_until = time.monotonic() + self.random.choice((0, 0.003, 0.01, 0.1))
                self.stops += 1
        elif chance < 0.98 or any(life.stopped_until for life in self.living.values()):
            self.ring.stats()
        else:
            self.ring.repair()  # waits for who was stopped at the tables, and only we could continue it

    def go_on(self, now: float) -> None:
        for life in self.living.values():
            if life.stopped_until is not None and life.stopped_until <= now:
                life.stopped_until = None
                os.kill(life.pid, signal.SIGCONT)

    def wait_for_ends(self, role=None) -> None:
        while any(role in (None, life.job["role"]) for life in self.living.values()):
            self.reap()
            self.watch()
            time.sleep(0.005)

    def subside(self) -> None:
        """Producers leave, receivers drain; half of the doomed die at it."""
        self.go_on(float("inf"))
        self.table.phase = books.FINISH
        self.wait_for_ends("producer")
        self.ring.repair()
        if self.config["end"] == "shutdown":
            self.ring.shutdown()
        self.table.phase = books.DRAIN
        self.replace = False
        for life in self.living.values():
            if life.job["doomed"] and self.random.random() < 0.5:
                os.kill(life.pid, signal.SIGKILL)
        self.wait_for_ends()
        self.ring.repair()

    def drain(self) -> dict[str, str]:
        """What dead members left at the very end. Returns the path of the log for each group."""
        paths = {}
        for group in self.config["groups"]:
            paths[group["name"]] = os.path.join(self.folder, f"rest-{group['name']}.log")
            log = books.Log(paths[group["name"]])
            with self.ring.consumer(group["name"]) as rx:
                misses = 0
                while misses < 3:
                    try:
                        with rx.peek(timeout=0) as view:
                            message = books.read_message(view.data)
                            position = view.sequence
                            log.write(position, *message, books.AGAIN if view.redelivered else books.FRESH)
                        log.write(position, *message, books.RELEASED)
                    except (TimeoutError, shmring.ShutDown):
                        misses += 1
        return paths

    # ---- failures --------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """Where everybody is, for who has to find out why."""
        lines = []
        for life in self.living.values():
            os.kill(life.pid, signal.SIGCONT)
            os.kill(life.pid, signal.SIGUSR1)
            with open(f"/proc/{life.pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
            words = [self.table.get(life.number, column) for column in range(books.ROW)]
            lines.append(f"worker {life.number} pid {life.pid} ({state}) silent {life.silent} s, row {words}, {life.job}")
        time.sleep(0.5)
        kept = os.path.join(self.folder, "ring")
        try:
            shutil.copyfile(segment_of(self.config["name"]), kept)
            lines.append(f"the ring is kept in {kept}")
            lines.append(json.dumps(self.ring.stats().as_dict(), indent=1))
        except Exception as error:
            lines.append(f"no statistics: {error!r}")
        with open(os.path.join(self.folder, "stderr"), errors="replace") as file:
            lines.append(file.read()[-20_000:])
        return "\n".join(lines)

    def end_all(self) -> None:
        for pid in self.living:
            os.kill(pid, signal.SIGKILL)
        for pid in self.living:
            os.waitpid(pid, 0)


def segment_of(name) -> str:
    """Where the bytes of a ring can be read. Without a name: the memfd that this process has open."""
    if name:
        return name if "/" in name else f"/dev/shm/{name}"
    paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return next(path for path in paths if os.path.islink(path) and os.readlink(path).startswith("/memfd:"))


def write_errors_to(folder: str) -> None:
    errors = os.open(os.path.join(folder, "stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def run(config) -> dict:
    """One storm, from the making of the ring to the check."""
    write_errors_to(config["folder"])
    descriptors = len(os.listdir("/proc/self/fd"))
    storm = Storm(config)
    gc.freeze()
    try:
        storm.rage()
        storm.subside()
        rest = storm.drain()
        summary = storm_check.check(storm, rest)
        storm_check.check_room(storm)
        storm.ring.close()
        left = len(os.listdir("/proc/self/fd"))
        assert left == descriptors, f"descriptors: {descriptors} at first, {left} at the end"
        summary["ok"] = True
    except BaseException:
        summary = {"ok": False, "error": traceback.format_exc(), "scene": storm.describe()}
    finally:
        storm.end_all()
        gc.unfreeze()
    return summary


def main() -> None:
    for line in sys.stdin if sys.argv[1] == "-" else sys.argv[1:]:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
