"""Rings and event loops: what is behind `await rx.arecv()`, `async for`, `await tx.asend()`.

    async for message in rx:
        await tx.asend(message.upper())

Joins a handle's watch (watch.pyx: a descriptor that becomes readable when there may be something) and a running asyncio loop,
of whatever make (uvloop too), through its `add_reader`. Other loops use `handle.fileno()`; with trio:

    while (message := rx.try_recv()) is None:
        await trio.lowlevel.wait_readable(rx.fileno())

Those who await the same handle form a line, and only the first one looks, waits, and takes what it finds, in one step without
an await in between: so a cancellation finds a message either returned or still in the ring. Who leaves the line with something
there that it did not take, tells the next one, and other members of its group.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import types
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shmring import participant
from shmring.errors import ShutDown
from shmring.watch import backend as _backend
from shmring.watch import use as _use
from shmring.watch import watch_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from shmring.consumer import Consumer
    from shmring.observer import Observer
    from shmring.producer import Producer

_Found = TypeVar("_Found")
_NOTHING = object()

IN_A_ROW = 100  # messages that are received or sent without a wait, before other tasks get their turn


def backend() -> Literal["io_uring", "thread"]:
    """How handles of this process wait: "io_uring" (the kernel does) or "thread" (one waiter thread for 127 handles).

    The first unless the kernel is older than Linux 6.7, or io_uring is refused to this process; the environment variable
    SHMRING_AIO or `use` say otherwise. A handle keeps what it began with. Where io_uring has no memory for one more handle,
    that one takes the thread.
    """
    return _backend()


def use(name: Literal["io_uring", "thread"] | None) -> None:
    """Choose how handles wait that were not awaited or asked for their descriptor yet. None: find out.

    Raises
    ------
    OSError
        io_uring cannot wait for futexes here.
    ValueError
        There is no such way.
    """
    _use(name)


async def ready(handle: Consumer | Observer | Producer) -> None:
    """Until `try_recv` of a consumer may find something, or a producer has room for the message that it last had none for.

    For what has no coroutine of its own, `peek` or `reserve`; call that with timeout=0, as another member may be faster.
    Raises as `arecv` for a closed handle; ended rings are ready.
    """
    line = _line(handle)
    await line.until(lambda: line.watch.is_ready() or None)


async def receive(rx: Consumer | Observer) -> bytes:
    """`rx.arecv()`."""
    line = _line(rx)
    if line.may_go_on():
        message = rx.try_recv()
        if message is not None:
            return message
    return await line.until(rx.try_recv)


async def receive_many(rx: Consumer | Observer, limit: int) -> list[bytes]:
    """`rx.arecv_many(limit)`."""
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    line = _line(rx)

    def some() -> list[bytes] | None:
        if line.watch.is_ready():
            try:
                return rx.recv_many(limit, 0)
            except TimeoutError:
                return None
        line.watch.found_nothing()
        return None

    return await line.until(some)


async def receive_obj(rx: Consumer | Observer) -> Any:
    """`rx.arecv_obj()`."""
    line = _line(rx)

    def one() -> tuple[Any] | None:  # any object may be the one, None as well
        found = rx.try_recv_obj(_NOTHING)
        return None if found is _NOTHING else (found,)

    if line.may_go_on() and (found := one()) is not None:
        return found[0]
    return (await line.until(one))[0]


async def receive_next(rx: Consumer | Observer) -> bytes:
    """`async for message in rx`."""
    try:
        return await receive(rx)
    except ShutDown:
        raise StopAsyncIteration from None


async def send(tx: Producer, message: Buffer) -> None:
    """`tx.asend(message)`."""
    line = _line(tx)
    if not line.may_go_on() or not tx.try_send(message):
        await line.until(lambda: tx.try_send(message) or None)


async def send_obj(tx: Producer, obj: object) -> None:
    """`tx.asend_obj(obj)`."""
    line = _line(tx)
    if not line.may_go_on() or not tx.try_send_obj(obj):
        await line.until(lambda: tx.try_send_obj(obj) or None)


async def send_many(tx: Producer, messages: Iterable[Buffer]) -> int:
    """`tx.asend_many(messages)`."""
    line = _line(tx)
    batch = list(messages)
    sent = 0

    def more() -> int | None:
        nonlocal sent
        try:
            sent += tx.send_many(batch[sent:] if sent else batch, 0)
        except TimeoutError:
            return None
        return sent if sent == len(batch) else None

    try:
        return await line.until(more)
    except BaseException as error:
        error.sent = sent + getattr(error, "sent", 0)  # type: ignore[attr-defined]
        raise


def _line(handle: Any) -> _Line:
    watch = watch_of(handle)
    line: _Line | None = watch.line
    if line is None:
        line = watch.line = _Line(watch)
    return line


@types.coroutine
def _others_turn() -> Generator[None, None, None]:
    """The loop runs whatever else is ready, and comes back."""
    yield


class _Line:
    """Those who await one handle, in the order in which they came. It belongs to one loop at a time."""

    def __init__(self, watch: Any) -> None:
        self.watch = watch
        self.loop: asyncio.AbstractEventLoop | None = None
        self.fd = -1  # that the loop watches
        self.is_taken = False  # somebody is first in the line,
        self.first: object = None  # this one: a coroutine that its loop left behind may end much later
        self.behind: deque[asyncio.Future[None]] = deque()
        self.signal: asyncio.Future[None] | None = None  # the first one sleeps until it is set
        self.in_a_row = 0

    def may_go_on(self) -> bool:
        """May a call go ahead without joining the line?"""
        self.in_a_row += 1
        return self.in_a_row <= IN_A_ROW and not self.is_taken

    async def until(self, attempt: Callable[[], _Found | None]) -> _Found:
        """Stand in the line until attempt() gives something, and return that. Its exceptions pass."""
        loop = self.enter()
        if self.is_taken:
            await self.stand_behind(loop)
        me = self.first = object()
        self.is_taken = True
        has_taken = False
        try:
            if self.in_a_row > IN_A_ROW:
                await _others_turn()
            self.in_a_row = 0
            found = attempt()
            if found is None:
                found = await self.look_for_a_while(attempt)
            while found is None:
                is_quiet = self.watch.rearm()
                if is_quiet:
                    self.signal = loop.create_future()
                    await self.signal
                found = attempt()
                if found is None and not is_quiet:
                    await _others_turn()  # somebody else was faster, again and again
            has_taken = True
            return found
        finally:
            if self.first is me:
                self.first = self.signal = None
                self.is_taken = False
                self.let_next()
                self.watch.give_up(has_taken)
                if self.watch.is_public:
                    self.unwatch()

    async def stand_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = loop.create_future()
        self.behind.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self.behind:
                self.behind.remove(turn)
            elif turn.done() and not turn.cancelled() and loop is self.loop:
                self.is_taken = False
                self.let_next()
            raise

    def let_next(self) -> None:
        if self.loop is None or self.loop.is_closed():
            self.behind.clear()  # it ended with them
        while self.behind:
            turn = self.behind.popleft()
            if not turn.done():
                self.is_taken = True  # so that nobody who comes now is faster
                turn.set_result(None)
                return

    async def look_for_a_while(self, attempt: Callable[[], _Found | None]) -> _Found | None:
        """Before a park, as the handle's policy says: others tasks run between the looks."""
        patience = self.watch.patience_ns()
        until = time.monotonic_ns() + patience
        while patience < 0 or time.monotonic_ns() < until:
            await _others_turn()
            found = attempt()
            if found is not None:
                self.watch.calm()
                return found
        return None

    # ---- the loop ------------------------------------------------------------------------------------------------

    def enter(self) -> asyncio.AbstractEventLoop:
        """The running loop watches the descriptor."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no running event loop of asyncio: other kinds wait until handle.fileno() is readable, and then call try_recv"
            ) from None
        if loop is not self.loop or self.fd != self.watch.fd:
            if self.loop is not None and loop is not self.loop and (self.is_taken or self.behind) and not self.loop.is_closed():
                raise RuntimeError("this handle is awaited in another event loop; ask the ring for one of this loop's own")
            if loop is not self.loop and (self.is_taken or self.behind):
                self.behind.clear()  # of a loop that was closed
                self.first = self.signal = None
                self.is_taken = False
                self.watch.give_up(False)
            self.unwatch_from(loop)
            loop.add_reader(self.watch.fd, self.came)
            self.loop, self.fd = loop, self.watch.fd
        return loop

    def came(self) -> None:
        """The descriptor is readable."""
        self.watch.came()
        if self.signal is not None and not self.signal.done():
            self.signal.set_result(None)

    def unwatch(self) -> None:
        """The loop watches the descriptor no longer; called in its thread, or while it does not run."""
        loop, fd, self.fd = self.loop, self.fd, -1
        if fd >= 0 and loop is not None and not loop.is_closed():
            loop.remove_reader(fd)

    def unwatch_from(self, other: asyncio.AbstractEventLoop) -> None:
        """The same, called in another loop, or in the same one."""
        loop, fd = self.loop, self.fd
        if loop is None or loop is other or not loop.is_running():
            self.unwatch()
        elif fd >= 0:
            self.fd = -1
            with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                loop.call_soon_threadsafe(loop.remove_reader, fd)

    def end(self, then: Callable[[], None]) -> None:
        """The handle is closed; `then` closes its descriptor, which no loop may watch then. Called in any thread."""
        loop = self.loop
        if loop is None or loop.is_closed():
            then()
        elif participant.ending_thread is not None and loop is not asyncio._get_running_loop() and loop.is_running():
            pass  # the interpreter ends, and threads end without a word
        elif loop is asyncio._get_running_loop() or not loop.is_running():
            self.finish(then)
        else:
            try:
                loop.call_soon_threadsafe(self.finish, then)
            except RuntimeError:  # it was closed meanwhile
                then()

    def finish(self, then: Callable[[], None]) -> None:
        self.unwatch()
        then()
        if self.signal is not None and not self.signal.done():
            self.signal.set_result(None)  # the next attempt finds that the handle is closed
