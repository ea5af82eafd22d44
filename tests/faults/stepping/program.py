"""The programme: which scenes there are, which points of them are tried, and what came out of each."""

from __future__ import annotations

import itertools
import operator
import random
import time
from dataclasses import asdict, dataclass, field

from .scenes import (
    OPERATIONS,
    Operation,
    Scene,
    close_and_report,
    just_close,
    new_consumer,
    new_producer,
    peek_and_keep,
    recv,
    release_and_report,
)
from .scenes_tables import TABLES
from .trial import ASLEEP, ENTRY, EXIT, INSIDE, KIND, LEFT, Plan, Theatre, plans
from .world import LENGTH, Broken, payload

# In the middle of which operations somebody else is stopped, by the victim's role and the ring's producers.
CONTENDERS = {
    ("producer", "multi"): ("reserve, commit, elsewhere", "recv, shared"),
    ("producer", "single"): ("recv, shared",),
    ("consumer", "multi"): ("recv, shared", "peek, kept", "send, elsewhere"),
    ("consumer", "single"): ("peek, kept",),
    ("other", "multi"): ("send, elsewhere", "recv, shared"),
    ("other", "single"): ("recv, shared",),
}
DELICATE = ("send | middle | multi", "recv, shared | middle | multi", "peek, kept; alone | middle | multi")
MODES = ("kill", "kill both", "stop")
FUTEX = 202  # the system call's number
KEPT = 12  # failures whose texts are kept for each scene


@dataclass
class Result:
    """A scene's line in the table."""

    scene: str
    points: int = 0  # instructions of shmring, and system calls, that the operation has
    states: int = 0  # stretches of them that leave the same behind: see `states_of`
    killed: int = 0
    stopped: int = 0
    missed: int = 0  # the operation took another way this time, and was over before the point
    failures: int = 0
    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)

    def fail(self, text: str) -> None:
        self.failures += 1
        if len(self.texts) < KEPT:
            self.texts.append(text)


def scenes() -> list[Scene]:
    """All of them. `contended` stands once for each operation that the other one is stopped in."""
    found = []
    for operation in OPERATIONS + TABLES:
        for situation in operation.situations:
            for producers in operation.producers:
                if situation != "contended":
                    found.append(Scene(operation, situation, producers))
                    continue
                for name in CONTENDERS[operation.role, producers]:
                    found.append(Scene(operation, situation, producers, rival(name)))
    return found


def rival(name: str) -> Operation:
    """An operation as somebody else's: its messages have other names."""

    def commit(world, tx):
        claim = tx.reserve(LENGTH)
        claim.view[:] = payload("c0")
        claim.commit()

    if name == "peek, kept":
        return Operation(name, "consumer", new_consumer, peek_and_keep, release_and_report, is_shared=True)
    if name == "recv, shared":
        return Operation(name, "consumer", new_consumer, recv, close_and_report, takes=("b0",), is_shared=True)
    operate = commit if name.startswith("reserve") else lambda world, tx: tx.send(payload("c0"))
    return Operation(name, "producer", new_producer, operate, just_close, sends=("c0",))


def stops_of(theatre: Theatre, scene: Scene) -> list[Plan | None]:
    """Where the contender may be stopped: at the beginning, and behind each of its stores into shared memory."""
    if scene.contender is None:
        return [None]
    _, points = theatre.run(Scene(scene.contender, "middle", scene.producers), "trace")
    found = plans(points)
    return [plan for plan, (kind, _, changed) in zip(found, points, strict=True) if changed and kind in (INSIDE, LEFT)]


def run_scene(theatre: Theatre, scene: Scene, choose, until: float, modes=MODES) -> Result:
    """Tries those points of the scene that `choose` picks."""
    result = Result(scene.label)
    began = time.monotonic()
    try:
        stops = stops_of(theatre, scene)
        for stop in choose.stops(stops):
            _try_all(theatre, scene, stop, choose, until, modes, result)
    except (Broken, AssertionError, RuntimeError, OSError, ValueError, TimeoutError) as error:
        result.fail(f"undisturbed: {type(error).__name__}: {error}")
    result.seconds = round(time.monotonic() - began, 2)
    return result


def rehearse(theatre: Theatre, scene: Scene, stop) -> list[tuple]:
    """The points of an undisturbed run. Stepping is slow, and who waits long looks after the dead; so an operation that sleeps
    is stepped up to there, and another time brought there at full speed and stepped from there on.
    """
    _, points = theatre.run(scene, "trace", None, stop)
    if scene.operation.writes_elsewhere:
        return [(kind, where, True) for kind, where, _ in points]
    if scene.operation.on_sleep is None:
        return points
    sleeps = next(index for index, (kind, where, _) in enumerate(points) if kind == ENTRY and where == FUTEX)
    first = points[: sleeps + 1]
    _, rest = theatre.run(scene, "trace", plans(first)[sleeps], stop)
    return first + rest


def _try_all(theatre, scene, stop, choose, until, modes, result):
    if choose.is_thorough:
        rehearse(theatre, scene, stop)  # the second time nothing is new to the process
    points = rehearse(theatre, scene, stop)
    result.points = max(result.points, len(points))
    result.states = max(result.states, len(states_of(points)))
    found = plans(points)
    ends: dict[str, list[tuple[int, int, int]]] = {mode: [] for mode in modes}
    for mode in modes:
        if mode == "kill both" and scene.contender is None:
            continue
        for index in choose.points(points, mode):
            if time.monotonic() > until:
                return
            kind, where, _ = points[index]
            try:
                outcome = theatre.run(scene, mode, found[index], stop, newcomer_first=bool(index & 1))
            except Exception as error:
                place = f"{mode} at point {index} of {len(points)}, {KIND[kind]} {where:#x}"
                result.fail(f"{place}: {type(error).__name__}: {error}")
                continue
            finally:
                if mode.startswith("kill"):
                    result.killed += 1
                else:
                    result.stopped += 1
            if (kind in (INSIDE, LEFT) and outcome.where != where) or (kind in (ENTRY, EXIT) and outcome.where == "ended"):
                result.missed += 1
            elif mode == "kill":
                ends[mode].append((index, outcome.sent, outcome.taken))
    check_course(scene, len(points), sorted(ends.get("kill", [])), result)


def check_course(scene: Scene, total: int, ends, result: Result) -> None:
    """What is done stays done: dying later undoes nothing, and at the end all of it is done."""
    for (index, sent, taken), (later, sent_later, taken_later) in itertools.pairwise(ends):
        if sent_later < sent or taken_later < taken:
            result.fail(f"at point {index}: {sent} sent and {taken} taken, at {later}: {sent_later} and {taken_later}")
    if ends and ends[-1][0] == total - 1 and ends[-1][1] < len(scene.operation.sends):
        result.fail(f"behind its last instruction only {ends[-1][1]} are sent")
    if ends and ends[0][0] == 0 and (ends[0][1] or ends[0][2]):
        result.fail(f"before its first instruction {ends[0][1]} are sent, {ends[0][2]} taken")


def states_of(points) -> list[range]:
    """The stretches of points between which neither the ring's bytes nor what the system keeps for the process changed. Whoever
    is killed leaves just that behind, and takes its registers along: all points of a stretch are the same death.
    """
    begins = [at for at, (kind, _, changed) in enumerate(points) if at == 0 or changed or kind in (ENTRY, EXIT, ASLEEP)]
    return [range(first, last) for first, last in itertools.pairwise([*begins, len(points)])]


class EveryState:
    """Of each state one point, another in each run. Who is stopped goes on with its registers: of its points also each
    STRIDEth, from a random one on.
    """

    is_thorough = True
    STRIDE = 16

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def stops(self, stops):
        return stops

    def points(self, points, mode):
        chosen = {self.random.choice(state) for state in states_of(points)}
        if mode == "stop":
            chosen.update(range(self.random.randrange(self.STRIDE), len(points), self.STRIDE))
        return sorted(chosen)


class EveryInstruction:
    """Every point; with a contender each of its places gets another third of them."""

    is_thorough = True

    def __init__(self):
        self.place = self.places = 0

    def stops(self, stops):
        self.places = len(stops)
        for self.place, each in enumerate(stops):
            yield each

    def points(self, points, mode):
        return range(self.place % 3, len(points), 3) if self.places > 1 else range(len(points))


class Sample:
    """Each `stride`th point from a random one on, and one place of the contender. With a count of 0: every point."""

    is_thorough = False

    def __init__(self, seed: int, count: int):
        self.random = random.Random(seed)
        self.count = count

    def stops(self, stops):
        return [self.random.choice(stops)]

    def points(self, points, mode):
        if not self.count:
            return range(len(points))
        stride = max(1, len(points) // self.count)
        # The last store of one kind may be the only point that matters: what changes shared memory is looked at as well.
        chosen = set(range(self.random.randrange(stride), len(points), stride))
        writes = [index for index, point in enumerate(points) if point[2]]
        chosen.update(self.random.sample(writes, min(len(writes), max(1, self.count // 2))))
        return sorted(chosen)


def table(results: list[Result]) -> str:
    head = f"{'operation | situation | producers | stopped in the middle of':72}"
    head += f" {'points':>7} {'states':>7} {'killed':>8} {'stopped':>8} {'missed':>7} {'failed':>7}"
    lines = [head, "-" * len(head)]
    row = "{:72} {:7} {:7} {:8} {:8} {:7} {:7}".format
    counts = operator.attrgetter("points", "states", "killed", "stopped", "missed", "failures")
    for each in results:
        lines.append(row(each.scene, *counts(each)))
        lines += [f"    {text}" for text in each.texts]
    sums = [sum(column) for column in zip(*map(counts, results), strict=True)] or [0] * 6
    lines += ["-" * len(head), row("all", *sums)]
    return "\n".join(lines)


def as_json(results: list[Result]) -> list[dict]:
    return [asdict(each) for each in results]
