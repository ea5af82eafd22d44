"""What must hold when one is dead or stopped: the others go on, somebody new can join, and the books are right."""

from __future__ import annotations

import ast

from .player import Player
from .scenes import Scene
from .world import HANG, QUICK, Broken, World, newcomer, observed


def while_stopped(world: World, scene: Scene) -> None:
    """The victim is alive, but does not move: nobody takes it for dead, and it is in nobody's way but where it says so."""
    operation = scene.operation
    if world.tx is not None and scene.situation != "full" and not world.ring.is_shutdown:
        world.try_send("s0")
        world.claim("s1")
    world.take_what_is_there()
    if not operation.locks and (dead := world.ring.repair()):
        raise Broken(f"{dead} were taken for dead, but it is only stopped")
    here = [name for name, _ in world.got["other"]]
    expected = world.base + (world.after if operation.role != "producer" and scene.contender is None else [])
    if here[: len(expected)] != expected:
        raise Broken(f"group other got {here}, and not {expected}, while the victim was stopped")


def survive(world: World, scene: Scene, rival: Player | None, took, newcomer_first: bool) -> tuple[int, int]:
    """Everybody else goes on, and then the books are checked. `took`: what the victim reports, if it is not dead."""
    operation = scene.operation
    if newcomer_first:
        world.others.append(world.ring.consumer("default"))  # looks after the dead before anything else
        world.others.pop().close()
    if world.tx is None:
        world.tx = world.ring.producer(wait="park")
    if world.rx is None and scene.situation == "full":
        world.rx = world.ring.consumer("default", wait="park")
    if scene.situation == "full":
        world.send("a0")
        world.send("a1")
    else:
        world.try_send("a0")
        world.claim("a1")
    rivals: list[str] = []
    if rival is not None:
        world.take_what_is_there()
        if not rival.is_over:
            rivals = ast.literal_eval(rival.complete())
            world.skipped.update(rivals)
    if world.sleeper is not None:
        if operation.sleeper == "producer":
            world.take_what_is_there()
        rivals += ast.literal_eval(world.sleeper.report())
        world.skipped.update(rivals)
    if took is not None:
        world.skipped.update(took)
    if world.rx is not None:
        world.take_until("default", world.rx, "a1")
    world.take_until("other", world.other, "a1")
    # Somebody new: sends, and receives what the old ones left.
    fresh = newcomer(world)
    try:
        if not world.is_multi:
            world.tx.close()
        tx, world.tx = world.tx, fresh.producer()
        world.others.append(tx)
        late = fresh.consumer("default")
        world.others.append(late)
        world.send("n0")
        world.take_until("default", late, "n0")
        world.take_until("other", world.other, "n0")
        world.ring.repair()
        while any([world.take("default", rx, 0) for rx in (world.rx, late) if rx is not None]):
            pass
        extra_groups(world, scene, took)
        large = b"large:" + bytes(world.ring.max_message - 6)
        try:
            world.tx.send(large, timeout=HANG)
        except TimeoutError as error:
            raise Broken(f"the ring is not empty: {error}") from None
        world.after.append("large")
        world.take_until("default", late, "large")
        world.take_until("other", world.other, "large")
        result = check_books(world, scene, rivals, took, rival is not None and rival.is_dead)
        world.leave()
    finally:
        fresh.close()
    world.check_nothing_left()
    return result


def extra_groups(world: World, scene: Scene, took) -> None:
    """A group that the victim made, or was to remove, is whole, and gets everything from where it began; or it is gone."""
    for group in world.ring.stats().groups[2:]:
        if scene.operation.is_gone_with_it:
            raise Broken(f"the ephemeral group is there without members: {group}")
        with world.ring.consumer(group.name, wait=QUICK) as rx:
            world.got[group.name] = []
            while world.take(group.name, rx, 0):
                pass
        names = [name for name, _ in world.got[group.name]]
        order = [name for name, _ in world.got["other"]]
        if names != order[len(order) - len(names) :] or not {"a0", "a1", "n0"} <= set(names):
            raise Broken(f"group {group.name} got {names} of {order}")
        world.ring.remove_group(group.name)


def check_books(world: World, scene: Scene, rivals: list[str], took, both_died: bool) -> tuple[int, int]:
    """What each group got, against what was sent; what is counted, against both."""
    operation = scene.operation
    most_taken = (len(operation.takes) if took is None else len(took)) + (len(scene.contender.takes) if both_died else 0)
    stats = world.ring.stats()
    order = [name for name, _ in world.got["other"]]
    rest = list(order)
    sent = 0
    for name in world.base:
        if not rest or rest.pop(0) != name:
            raise Broken(f"what was there before came as {order}")
    for name in operation.sends:
        if name in rest:
            if next(each for each in rest if each in operation.sends) != name:
                raise Broken(f"{name} came out of order: {order}")
            rest.remove(name)
            sent += 1
    if scene.contender is not None or world.sleeper is not None:
        for name in scene.contender.sends if scene.contender else ("z0",) if operation.sleeper == "producer" else ():
            if name in rest:
                rest.remove(name)
            elif not both_died:
                raise Broken(f"{name}, of one who lives, is lost: {order}")
    if rest != world.after:
        raise Broken(f"group other got {order}; expected beside the victim's: {world.after}")
    default = world.got["default"]
    flagged = [name for name, again in default if again]
    plain = [name for name, again in default if not again]
    if plain != [name for name in order if name in plain]:
        raise Broken(f"group default got {default}, the order is {order}")
    names = plain + flagged
    if len(set(names)) != len(names) and not (operation.may_repeat and len(set(plain)) == len(plain)):
        raise Broken(f"a message came twice to group default: {default}")
    missing = [name for name in order if name not in names and name not in operation.had]
    if set(operation.had) & set(names):
        raise Broken(f"{operation.had} came again: {default}")
    takes = set(operation.takes)
    lent = set(world.base) if operation.role == "consumer" else set()
    if scene.contender is not None and scene.contender.role == "consumer":
        lent = set(world.base)
        if most_taken:
            takes = set(world.base)  # whichever came next when the other one was stopped
    lent |= takes | set(operation.lent) | set(rivals)
    if not set(missing) <= (takes | set(rivals) if took is None else set(took) | set(rivals)):
        raise Broken(f"lost to group default: {missing}; it got {default} of {order}; others took {rivals} {took}")
    if len(set(missing) - set(rivals)) > most_taken:
        raise Broken(f"lost to group default: {missing}; it got {default} of {order}")
    if took is not None and set(names) & set(took):
        raise Broken(f"{took} was received by the victim, too: {default}")
    if rivals and set(names) & set(rivals):
        raise Broken(f"{rivals} was received by the contender, too: {default}")
    if not set(flagged) <= lent:
        raise Broken(f"called redelivered although nobody had it: {default}")
    low, high = operation.deaths if took is None else (0, 0)
    low, high = low + operation.dead_before + both_died, high + operation.dead_before + both_died
    if not low <= stats.repairs <= high:
        raise Broken(f"{stats.repairs} were found dead, not {low} to {high}")
    begun = max(1, len(operation.sends))
    repaired = sum(group.repaired for group in stats.groups)
    if operation.dead_producers and not both_died and repaired != stats.repairs - operation.dead_producers:
        raise Broken(f"{repaired} members were found dead, but of {stats.repairs} {operation.dead_producers} were producers")
    if stats.aborted and not both_died and (not world.is_multi or stats.aborted + sent != begun):
        raise Broken(f"{stats.aborted} messages are counted as aborted, {sent} are there")
    if scene.operation.dead_before == 0 and stats.groups[0].redelivered != len(flagged):
        raise Broken(f"{stats.groups[0].redelivered} are counted as redelivered: {default}")
    # What the victim gave up by itself is not counted as aborted; of two that died, what is counted may be the other one's.
    gaps = stats.aborted + operation.gives_up if both_died else max(stats.aborted, operation.gives_up)
    observed(world, order, gaps)
    return sent, len([name for name in missing if name not in rivals])

