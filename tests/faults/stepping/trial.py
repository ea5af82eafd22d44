"""One trial: set the stage, bring the victim to a point, kill or stop it there, and see that all others go on as promised."""

from __future__ import annotations

import ast
import gc
import os
import signal
import traceback
from dataclasses import dataclass

from .player import Player, Sleeper, corpse, segments
from .scenes import SEAM, Operation, Scene
from .survivors import survive, while_stopped
from .world import HANG, QUICK, Broken, World, name_of, payload

INSIDE, LEFT, ENTRY, EXIT, ASLEEP = range(5)
KIND = ("before", "behind", "before system call", "behind system call", "asleep in")
LONGEST = 100  # seconds that a trial may take
NEAR = 250  # points that are stepped at most, behind a breakpoint


@dataclass(frozen=True)
class Plan:
    """How to reach a point: see Traced.run_to."""

    address: int = 0
    occurrence: int = 0
    steps: int = 0
    calls: int = 0
    asleep: bool = False

    def __call__(self, traced):
        return traced.run_to(self.address, self.occurrence, self.steps, self.calls, self.asleep)


def plans(points) -> list[Plan]:
    """The cheapest way to each point: a breakpoint that is not hit often before, then steps or stops at system calls."""
    seen: dict[int, int] = {}
    often = []  # of each point inside: how many times its address came up to here
    for kind, where, _ in points:
        if kind == INSIDE:
            seen[where] = seen.get(where, 0) + 1
        often.append(seen.get(where, 0) if kind == INSIDE else 0)
    found = []
    calls = 0
    for index, (kind, _, _) in enumerate(points):
        calls += kind in (ENTRY, EXIT)
        if kind in (INSIDE, LEFT):
            best = None
            at = index - (kind == LEFT)
            while at >= 0 and index - at <= NEAR and points[at][0] == INSIDE:
                cost = often[at] * 4 + index - at
                if best is None or cost < best[0]:
                    best = cost, Plan(points[at][1], often[at], index - at)
                if index - at > best[0]:
                    break
                at -= 1
            found.append(best[1])
        else:
            # As many stops at system calls as lie between a breakpoint and the point; with none, from the beginning on.
            best = calls * 4, Plan(calls=calls, asleep=kind == ASLEEP)
            stops = kind in (ENTRY, EXIT)
            at = index - 1
            while at >= 0 and index - at <= 4 * NEAR:
                if points[at][0] == INSIDE and (cost := often[at] * 4 + stops * 4) < best[0]:
                    best = cost, Plan(points[at][1], often[at], 0, stops, kind == ASLEEP)
                stops += points[at][0] in (ENTRY, EXIT)
                at -= 1
            found.append(best[1])
    return found


@dataclass
class Outcome:
    """What a trial ended with: how many of the victim's messages are there, how many it has received for good."""

    where: object
    sent: int
    taken: int


class Theatre:
    """The worlds of this process, and what is needed to run trials in them."""

    def __init__(self, stepper):
        self.stepper = stepper
        self.worlds: dict[tuple[str, int], World] = {}
        self.count = 0
        self.places: list[tuple[int, int]] = []

    def world(self, scene: Scene) -> World:
        key = scene.producers, SEAM if scene.situation == "wrapping" else 0
        if key not in self.worlds:
            self.worlds[key] = World(*key)
            # Everything that is loaded or opened once, before the first fork.
            self.worlds[key].begin(0, True, True)
            corpse(lambda: self.worlds[key].ring.consumer())
            self.worlds[key].ring.repair()
            self.worlds[key].tx.close()
            corpse(lambda: self.worlds[key].ring.producer().reserve(1))
            self.worlds[key].ring.repair()
            self.worlds[key].ring.stats()
            self.worlds[key].leave()
            self.places = segments()
        return self.worlds[key]

    def close(self) -> None:
        for each in self.worlds.values():
            each.close()

    def player(self, world: World, operation: Operation, on_sleep=None) -> Player:
        return Player(
            self.stepper,
            self.places,
            lambda: operation.prepare(world),
            lambda state: operation.operate(world, state),
            lambda state: operation.finish(world, state),
            on_sleep,
        )

    def run(self, scene: Scene, mode: str, plan=None, contender_plan=None, newcomer_first=False):
        """Mode "trace" or "walk": no harm is done, and the points are returned beside the outcome; with a plan, from its
        system call on. "kill", "kill both" and "stop": at plan's point. Both: the contender dies, too, where it was stopped.
        """
        world = self.world(scene)
        operation = scene.operation
        self.count += 1
        if self.count % 256 == 0:
            gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        players = []
        before_us = signal.signal(signal.SIGALRM, hang)
        signal.alarm(LONGEST)
        points = None
        try:
            keeps = operation.keeps_producer
            world.begin(
                scene.base,
                keeps_producer=world.is_multi or (operation.role != "producer" if keeps is None else keeps),
                has_reader=operation.role != "consumer" or operation.is_shared,
            )
            operation.stage(world)
            world.sleeper = None
            if operation.sleeper is not None:
                world.sleeper = Sleeper(SLEEPERS[operation.sleeper](world))
                players.append(world.sleeper)
            rival = None
            if scene.contender is not None:
                rival = self.player(world, scene.contender)
                players.append(rival)
            on_sleep = operation.on_sleep and (lambda: operation.on_sleep(world))
            victim = self.player(world, operation, on_sleep)
            players.append(victim)
            operation.between(world)
            if rival is not None and contender_plan is not None:
                contender_plan(rival.traced)
            where = None
            if mode == "trace":
                if plan is not None:
                    plan(victim.traced)
                points = victim.traced.trace(memoryview(world.memory), 1 << 21, plan is not None)
            elif mode == "walk":
                points = victim.traced.walk(1 << 21)
            else:
                where = plan(victim.traced)
            if mode.startswith("kill"):
                victim.kill()
                took = None
                if rival is not None and mode == "kill both":
                    rival.kill()
            else:
                if mode == "stop":
                    victim.stop()
                    while_stopped(world, scene)
                took = ast.literal_eval(victim.complete())
            check = operation.verify or survive
            sent, taken = check(world, scene, rival, took, newcomer_first)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before_us)
            for each in players:
                each.close()
            world.leave()
        after = len(os.listdir("/proc/self/fd"))
        if after != before:
            raise Broken(f"{after - before} descriptors are left")
        outcome = Outcome(where, sent, taken)
        return (outcome, points) if points is not None else outcome


def sleeping_consumer(world: World):
    def play():
        with world.ring.consumer(wait=QUICK) as rx:
            return repr([name_of(rx.recv(HANG))])

    return play


def sleeping_producer(world: World):
    def play():
        with world.ring.producer(wait=QUICK) as tx:
            tx.send(payload("z0"), HANG)
        return "[]"

    return play


SLEEPERS = {"consumer": sleeping_consumer, "producer": sleeping_producer}


def hang(number, frame):
    raise Broken("somebody hangs: " + "".join(traceback.format_stack(frame, 6)))
