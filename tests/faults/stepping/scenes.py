"""What is stepped: operations of one participant, each in several situations.

An operation says what its process prepares, does and ends with, which messages it may add and which it may take; a situation
says how the ring stands. Both are data for trial.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from .player import corpse
from .world import LENGTH, MOST, PATIENT, World, name_of, payload

SITUATIONS = ("empty", "middle", "full", "wrapping", "contended")
SEAM = (1 << 32) - 64  # of "wrapping": the first record crosses the end of the data area, and of 32 bits


@dataclass
class Operation:
    """One thing that one participant does.

    Attributes
    ----------
    prepare, operate, finish
        In the victim: see player.Player. They get the world, and what prepare returned.
    role : "producer" | "consumer" | "other"
    sends : names that it adds, in order: those of a prefix are there, whole, however far it came
    takes : names of `default` that it may have received for good when it dies
    is_shared : `default` has another member
    locks : it takes the registry lock
    deaths : how many are found dead after it was killed, at least and at most
    stage, between : what is arranged before the victim is forked, and when it has attached
    on_sleep : what others do when it sleeps
    verify : instead of trial.survive
    may_repeat : killed while it adopts, it leaves a range in two slots
    had : names of `default` that it has received and released when the operation begins
    lent : names that somebody dead had before it began
    dead_before : participants that were dead when it began
    dead_producers : how many of these were producers; not 0: the other dead are members
    keeps_producer : is there another producer? None: if there can be
    sleeper : "consumer" or "producer": somebody sleeps until it does its work
    gives_up : messages that it reserves and does not send
    writes_elsewhere : into other memory than the ring of the world, so that what it changes is not seen
    is_gone_with_it : the group that it makes is ephemeral
    """

    name: str
    role: str
    prepare: Callable
    operate: Callable
    finish: Callable = lambda world, state: "[]"
    situations: tuple[str, ...] = ("middle",)
    producers: tuple[str, ...] = ("single", "multi")
    sends: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    is_shared: bool = False
    locks: bool = False
    deaths: tuple[int, int] = (1, 1)
    stage: Callable = lambda world: None
    between: Callable = lambda world: None
    on_sleep: Callable | None = None
    verify: Callable | None = None
    may_repeat: bool = False
    lent: tuple[str, ...] = ()
    had: tuple[str, ...] = ()
    dead_before: int = 0
    dead_producers: int = 0
    keeps_producer: bool | None = None
    sleeper: str | None = None
    is_gone_with_it: bool = False
    gives_up: int = 0
    writes_elsewhere: bool = False


@dataclass(frozen=True)
class Scene:
    """An operation in a situation; `contender` is one that somebody else is stopped in the middle of."""

    operation: Operation
    situation: str
    producers: str
    contender: Operation | None = None

    @property
    def name(self) -> str:
        return f"{self.operation.name} | {self.situation} | {self.producers}"

    @property
    def label(self) -> str:
        return self.name + (f" | {self.contender.name}" if self.contender else "")

    @property
    def base(self) -> int:
        if self.situation == "full":
            return MOST
        if self.operation.role == "producer":
            return 0 if self.situation in ("empty", "wrapping") else 5
        return {"empty": 0}.get(self.situation, 6) + len(self.operation.had)


def close_and_report(world: World, state) -> str:
    """For consumers: what they got, by name."""
    rx, got = state[0], state[1:]
    rx.close()
    return repr([name_of(message) for message in got])


def just_close(world: World, state) -> str:
    state.close()
    return "[]"


# ---- producers -----------------------------------------------------------------------------------------------------


def new_producer(world):
    return world.ring.producer(wait=PATIENT)


def send(world, tx):
    tx.send(payload("v0"))


def send_many(world, tx):
    tx.send_many([payload("v0"), payload("v1"), payload("v2")])


def claim_commit(world, tx):
    claim = tx.reserve(LENGTH + 64)
    claim.view[:LENGTH] = payload("v0")
    claim.commit(LENGTH)


def claim_abort(world, tx):
    claim = tx.reserve(LENGTH)
    claim.view[:] = b"!" * LENGTH
    claim.abort()


def make_some_room(world):
    """The victim attached to a full ring; the groups go on, so it has to look again how far they are."""
    if len(world.base) == MOST:
        for _ in range(4):
            if world.rx is not None:
                world.take("default", world.rx, 0)
            world.take("other", world.other, 0)


def make_room(world):
    for _ in range(3):
        world.take("default", world.rx, 0)
        world.take("other", world.other, 0)


# ---- consumers -----------------------------------------------------------------------------------------------------


def new_consumer(world):
    return [world.ring.consumer(wait=PATIENT)]


def experienced_consumer(world):
    """It has claimed before: the fast path of a group's only member is for who claimed last."""
    rx = world.ring.consumer(wait=PATIENT)
    rx.recv(0)
    return [rx]


def peek_and_keep(world, state):
    with contextlib.suppress(TimeoutError):
        state.append(state[0].peek(timeout=0))


def release_and_report(world, state):
    names = [name_of(view.data) for view in state[1:]]
    for view in state[1:]:
        view.release()
    state[0].close()
    return repr(names)


def experienced_producer(world):
    tx = world.ring.producer(wait=PATIENT)
    tx.send(payload("p0"))
    return tx


def count_the_first(world):
    world.base.append("p0")


def recv(world, state):
    message = state[0].try_recv()
    if message is not None:
        state.append(message)


def recv_many(world, state):
    with contextlib.suppress(TimeoutError):
        state.extend(state[0].recv_many(3, timeout=0))


def recv_into(world, state):
    buffer = bytearray(LENGTH)
    with contextlib.suppress(TimeoutError):
        state[0].recv_into(buffer, timeout=0)
        state.append(buffer)


def peek_release(world, state):
    with contextlib.suppress(TimeoutError), state[0].peek(timeout=0) as view:
        state.append(bytes(view.data))


def peek_two(world, state):
    """Released in the other order."""
    views = []
    with contextlib.suppress(TimeoutError):
        for _ in range(2):
            views.append(state[0].peek(timeout=0))
            state.append(bytes(views[-1].data))
    for view in reversed(views):
        view.release()


def recv_sleeping(world, state):
    state.append(state[0].recv())


def wake_consumer(world):
    world.tx.send(payload("woke"))
    world.after.append("woke")


def others_are_through(world):
    """Only the first record of `default` is in the way of the producer that sleeps."""
    while world.take("other", world.other, 0):
        pass


def adopting(world):
    """A member died with a view of the first message; nobody has adopted what it held."""

    def play():
        rx = world.ring.consumer()
        return rx, rx.peek()

    corpse(play)


def adopt_prepare(world):
    state = new_consumer(world)  # attaching buries the dead one: its slot is an orphan from here on
    return state


OPERATIONS = [
    Operation("send", "producer", new_producer, send, just_close, ("empty", "middle", "full", "wrapping", "contended"),
              sends=("v0",), between=make_some_room),
    Operation("send, once more", "producer", experienced_producer, send, just_close, ("empty", "middle", "wrapping"),
              sends=("v0",), between=count_the_first),
    Operation("recv, alone, first", "consumer", new_consumer, recv, close_and_report, ("empty", "middle"), takes=("b0",)),
    Operation("peek, kept; alone", "consumer", experienced_consumer, peek_and_keep, release_and_report,
              ("middle", "full", "wrapping"), had=("b0",)),
    Operation("peek, kept; shared", "consumer", new_consumer, peek_and_keep, release_and_report,
              ("middle", "full", "wrapping", "contended"), is_shared=True),
    Operation("send_many", "producer", new_producer, send_many, just_close, ("empty", "full", "wrapping", "contended"),
              sends=("v0", "v1", "v2"), between=make_some_room),
    Operation("reserve, commit", "producer", new_producer, claim_commit, just_close, ("empty", "full", "wrapping", "contended"),
              sends=("v0",), between=make_some_room),
    Operation("reserve, abort", "producer", new_producer, claim_abort, just_close, ("middle", "full", "wrapping", "contended"),
              between=make_some_room, gives_up=1),
    Operation("attach a producer", "producer", lambda world: [], lambda world, state: state.append(world.ring.producer()),
              lambda world, state: just_close(world, state[0]), ("empty", "full", "wrapping"), locks=True, deaths=(0, 1)),
    Operation("close a producer", "producer", new_producer, lambda world, tx: tx.close(), situations=("middle",), deaths=(0,
              1)),
    Operation("recv, alone", "consumer", experienced_consumer, recv, close_and_report, ("empty", "middle", "full", "wrapping"),
              takes=("b1",), had=("b0",)),
    Operation("recv, shared", "consumer", new_consumer, recv, close_and_report, SITUATIONS, takes=("b0",), is_shared=True),
    Operation("recv_many, alone", "consumer", experienced_consumer, recv_many, close_and_report, ("middle", "full", "wrapping"),
              takes=("b1", "b2", "b3"), had=("b0",)),
    Operation("recv_many, shared", "consumer", new_consumer, recv_many, close_and_report, ("middle", "full", "contended"),
              takes=("b0", "b1", "b2"), is_shared=True),
    Operation("recv_into", "consumer", new_consumer, recv_into, close_and_report, ("middle",), takes=("b0",)),
    Operation("peek, release; alone", "consumer", experienced_consumer, peek_release, close_and_report, ("middle", "full",
              "wrapping"),
              takes=("b1",), had=("b0",)),
    Operation("peek, release; shared", "consumer", new_consumer, peek_release, close_and_report,
              ("middle", "full", "wrapping", "contended"), takes=("b0",), is_shared=True),
    Operation("two views, released in the other order", "consumer", new_consumer, peek_two, close_and_report, ("middle",
              "full"),
              takes=("b0", "b1"), is_shared=True),
    Operation("adopt, recv", "consumer", adopt_prepare, recv, close_and_report, ("middle", "full"), stage=adopting,
              takes=("b0",), lent=("b0",), locks=True, may_repeat=True, dead_before=1, is_shared=False),
    Operation("recv, asleep and woken", "consumer", new_consumer, recv_sleeping, close_and_report, ("empty",), takes=("woke",),
              on_sleep=wake_consumer),
    Operation("send, asleep and woken", "producer", new_producer, send, just_close, ("full",), sends=("v0",),
              on_sleep=make_room),
    Operation("send, waking a consumer", "producer", new_producer, send, just_close, ("empty",), sends=("v0",),
              sleeper="consumer"),
    Operation("recv, waking a producer", "consumer", new_consumer, recv, close_and_report, ("full",), producers=("multi",),
              takes=("b0",), is_shared=True, sleeper="producer", between=others_are_through),
    Operation("attach a member", "consumer", lambda world: [], lambda world, state: state.append(world.ring.consumer()),
              close_and_report, ("empty", "middle", "full"), is_shared=True, locks=True, deaths=(0, 1)),
    Operation("close a member", "consumer", new_consumer, lambda world, state: state[0].close(), situations=("middle", "full"),
              is_shared=True, deaths=(0, 1)),
]
