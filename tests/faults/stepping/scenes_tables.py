"""More of what is stepped: whoever changes the tables, observers, and the life of a ring.

A repairer is stepped too: killed at any instruction, it leaves what the next one begins again.
"""

from __future__ import annotations

import contextlib
import os

import shmring

from .player import corpse
from .scenes import Operation, close_and_report, new_consumer
from .survivors import survive
from .world import LENGTH, PATIENT, Broken, World, name_of, payload

NOBODY = {"deaths": (0, 0)}


def nothing(world: World):
    return []


def close_first(world: World, state) -> str:
    state[0].close()
    return "[]"


# ---- repair --------------------------------------------------------------------------------------------------------


def dead_ones(world: World):
    """A producer died with an open claim behind a message, a member with two views."""

    def produce():
        tx = world.ring.producer()
        tx.send(payload("d0"), timeout=0)
        claim = tx.reserve(2 * LENGTH, timeout=0)
        claim.view[:] = b"!" * (2 * LENGTH)
        return tx, claim

    def consume():
        rx = world.ring.consumer()
        return rx, rx.peek(0), rx.peek(0)

    corpse(produce)
    corpse(consume)
    world.base.append("d0")


# ---- an orphan's slot ----------------------------------------------------------------------------------------------


def only_an_orphan_left(world: World):
    """A member died with a view; all other slots are taken, so that the next member gets the orphan's."""

    def play():
        rx = world.ring.consumer()
        return rx, rx.peek(0)

    corpse(play)
    world.ring.repair()
    while True:
        try:
            world.others.append(world.ring.consumer(lossy=True))
        except shmring.TooManyParticipants:
            return


def after_the_crowd(world: World, scene, rival, took, newcomer_first: bool):
    while world.others:
        world.others.pop().close()
    return survive(world, scene, rival, took, newcomer_first)


# ---- groups --------------------------------------------------------------------------------------------------------


def join(**options):
    def operate(world, state):
        state.append(world.ring.consumer("fresh", wait=PATIENT, **options))

    return operate


def unread_group(world: World):
    world.ring.consumer("fresh").close()


# ---- the end -------------------------------------------------------------------------------------------------------


def after_shutdown(world: World, scene, rival, took, newcomer_first: bool):
    """It was shut down, or not; then somebody else does it. Producers are refused, consumers get what was there, and end."""
    began = world.ring.is_shutdown
    if not began:
        world.try_send("a0")
        world.ring.shutdown()
    with contextlib.suppress(shmring.ShutDown):
        world.tx.try_send(payload("x"))
        raise Broken("a producer sends after the shutdown")
    with contextlib.suppress(shmring.ShutDown):
        world.ring.producer()
        raise Broken("a producer attaches after the shutdown")
    expected = world.base + world.after
    received = ([name for name, _ in world.got["default"]], [name for name, _ in world.got["other"]], world.seen)
    for rx, before in zip((world.rx, world.other, world.ob), received, strict=True):
        names = before + [name_of(message) for message in rx]
        if names != expected:
            raise Broken(f"after the shutdown came {names}, not {expected}")
    world.check_nothing_left()
    return int(began), 0


def folder(world: World) -> str:
    return f"{world.path}-folder"


def make_folder(world: World):
    os.makedirs(folder(world), exist_ok=True)
    for name in os.listdir(folder(world)):
        os.unlink(f"{folder(world)}/{name}")


def after_create(world: World, scene, rival, took, newcomer_first: bool):
    """The name has a whole ring, or nothing has that name; nothing else is left."""
    names = os.listdir(folder(world))
    if names not in ([], ["made"]):
        raise Broken(f"{names} are left")
    if took is not None and not names:
        raise Broken("the ring was made, and is not there")
    try:
        with (
            shmring.create(f"{folder(world)}/made", 4096, exist_ok=True, max_participants=8, max_groups=4) as ring,
            shmring.open(f"{folder(world)}/made") as other,
            ring.producer() as tx,
            other.consumer() as rx,
        ):
            tx.send(payload("a0"), timeout=0)
            if name_of(rx.recv(0)) != "a0":
                raise Broken("the ring does not work")
    finally:
        make_folder(world)
        os.rmdir(folder(world))
    world.check_nothing_left()
    return len(names), 0


def create(world: World, state):
    state.append(shmring.create(f"{folder(world)}/made", 4096, max_participants=8, max_groups=4))


# ---- observers -----------------------------------------------------------------------------------------------------


def new_observer(world: World):
    return [world.ring.consumer(lossy=True, wait=PATIENT)]


def lap(world: World):
    """The others go on until it was lapped."""
    for number in range(40):
        world.try_send(f"l{number}")
        world.take_what_is_there()


def observe_peek(world: World, state):
    with state[0].peek(0) as view:
        bytes(view.data)


TABLES = [
    Operation("attach a member of a new group", "other", nothing, join(), close_first, ("empty", "middle", "wrapping"),
              locks=True,
              deaths=(0, 1)),
    Operation("attach a member of a new ephemeral group", "other", nothing, join(ephemeral=True), close_first, ("middle",),
              locks=True, deaths=(0, 1), is_gone_with_it=True),
    Operation("leave an ephemeral group", "other", lambda world: [world.ring.consumer("fresh", ephemeral=True)],
              lambda world, state: state[0].close(), situations=("middle",), locks=True, deaths=(0, 1), is_gone_with_it=True),
    Operation("remove a group", "other", nothing, lambda world, state: world.ring.remove_group("fresh"), situations=("middle",),
              stage=unread_group, locks=True, **NOBODY),
    Operation("repair", "other", nothing, lambda world, state: world.ring.repair(), situations=("middle", "wrapping",
              "contended"),
              stage=dead_ones, locks=True, dead_before=2, dead_producers=1, deaths=(0, 0), lent=("b0", "b1"), may_repeat=True,
              keeps_producer=False),
    # Whoever comes next finds two dead, the repairer first, and whom it had begun with behind it.
    Operation("repair, from a lower slot", "consumer", new_consumer, lambda world, state: world.ring.repair(), close_and_report,
              ("middle", "wrapping"), between=dead_ones, locks=True, dead_before=2, dead_producers=1, lent=("b0", "b1"),
              may_repeat=True, keeps_producer=False),
    Operation("attach a member into an orphan's slot", "consumer", nothing,
              lambda world, state: state.append(world.ring.consumer(wait=PATIENT)), close_and_report, ("middle", "wrapping"),
              stage=only_an_orphan_left, verify=after_the_crowd, locks=True, dead_before=1, deaths=(0, 1), lent=("b0",),
              may_repeat=True),
    Operation("shutdown", "other", nothing, lambda world, state: world.ring.shutdown(), situations=("empty", "middle"),
              verify=after_shutdown, **NOBODY),
    Operation("observer: attach", "other", nothing, lambda world, state: state.append(world.ring.consumer(lossy=True)),
              close_first, ("empty", "middle", "full"), locks=True, deaths=(0, 1)),
    Operation("observer: recv", "other", new_observer, lambda world, state: state[0].try_recv(), close_first,
              ("empty", "middle", "wrapping")),
    Operation("observer: recv when lapped", "other", new_observer, lambda world, state: state[0].try_recv(), close_first,
              ("middle",), between=lap),
    Operation("observer: latest", "other", new_observer, lambda world, state: state[0].latest(timeout=0), close_first,
              ("middle", "wrapping")),
    Operation("observer: peek", "other", new_observer, observe_peek, close_first, ("middle",)),
    Operation("open", "other", nothing, lambda world, state: shmring.open(world.path).close(), situations=("middle",),
              **NOBODY),
    Operation("stats", "other", nothing, lambda world, state: world.ring.stats(), situations=("middle",), **NOBODY),
    Operation("create", "other", nothing, create, close_first, ("empty",), stage=make_folder, verify=after_create,
              writes_elsewhere=True, **NOBODY),
]
