"""Who lives in the storm: producers, members of groups, observers. Each is a process of its own and may be killed anywhere.

A worker attaches, does some operations, leaves, and attaches again, until the phase tells it to end. What it finds wrong by
itself (torn bytes, an order that is not kept) is an AssertionError.
"""

from __future__ import annotations

import errno
import random
import time

import storm_books as books
import storm_fuse
from storm_books import ATTACHED, CHANGING, MOST_AT_ONCE, make_message, read_message

import shmring

POLICIES = ("park", "park", "adaptive", "adaptive", "spin")
SESSIONS = (0, 1, 10, 100, 1000)  # operations between attaching and leaving


class Worker:
    """`number`: its row of the table. `open_ring`: the ring, opened by this process or inherited."""

    def __init__(self, number, table, config, ring, job, log=None):
        self.number, self.table, self.config, self.ring, self.job = number, table, config, ring, job
        self.random = random.Random(f"{config['seed']} {number}")
        self.log = log

    def beat(self) -> None:
        self.table.add(self.number, books.BEATS)

    def moved(self, kind: str, count: int = 1) -> None:
        self.table.add(self.number, books.KIND[kind], count)

    def may_wait(self, *handles) -> None:
        """Now and then, begin with a wait for one of several."""
        if self.random.random() < 0.1:
            try:
                shmring.wait(handles, self.random.choice((0, 0.001, 0.01)))
                self.moved("wait")
            except OSError as error:  # a kernel without futex_waitv
                if error.errno != errno.ENOSYS:
                    raise

    def attach(self, make, until: int):
        """What `make` makes; None when the phase `until` came first. The tables may be full of those who died just now."""
        self.table.set(self.number, books.STATE, CHANGING)
        while self.table.phase < until:
            try:
                made = make()
            except (shmring.TooManyParticipants, shmring.TooManyGroups, shmring.ProducerTaken):
                time.sleep(0.002)
                continue
            self.table.set(self.number, books.STATE, ATTACHED)
            self.table.add(self.number, books.SESSIONS)
            self.beat()
            return made
        return None

    def leave(self, participant) -> None:
        self.table.set(self.number, books.STATE, CHANGING)
        participant.close()
        self.table.set(self.number, books.STATE, books.STARTING)
        self.beat()

    def wants_to_die(self) -> bool:
        return self.job["doomed"] and self.table.phase == books.RUN and self.random.random() < self.config["fuses"]

    def light(self, most_us: float) -> None:
        storm_fuse.light(self.random.uniform(1, most_us))

    def die_changing(self, participant, make) -> None:
        """Of leaving and attaching, again and again."""
        self.table.set(self.number, books.STATE, CHANGING)
        self.light(1000)
        while True:
            participant.close()
            try:
                participant = make()
            except (shmring.TooManyParticipants, shmring.TooManyGroups, shmring.ProducerTaken):
                pass

    def policy(self) -> str:
        return self.random.choice(POLICIES)

    def session(self) -> int:
        return self.random.choice(SESSIONS)


# ---- producers ---------------------------------------------------------------------------------------------


class Writer(Worker):
    """Its messages are numbered from 0; COMMITTED is raised when a call has returned."""

    sequence = 0

    def run(self) -> None:
        while self.table.phase < books.FINISH:
            tx = self.attach(lambda: self.ring.producer(wait=self.policy()), books.FINISH)
            if tx is None:
                return
            for _ in range(self.session()):
                if self.table.phase >= books.FINISH:
                    break
                self.may_wait(tx)
                self.random.choices(*self.WAYS)[0](self, tx)
                self.beat()
            if self.wants_to_die():
                if self.random.random() < 0.2:
                    self.die_changing(tx, self.ring.producer)
                self.die_sending(tx)
            self.leave(tx)

    def next_message(self, ahead: int = 0) -> bytes:
        small, large = self.config["sizes"]
        length = self.random.randint(16, small if self.random.random() < 0.95 else large)
        return make_message(self.number, self.sequence + ahead, length)

    def committed(self, kind: str, count: int = 1) -> None:
        self.sequence += count
        self.moved(kind, count)
        self.table.set(self.number, books.COMMITTED, self.sequence)

    def send(self, tx) -> None:
        tx.send(self.next_message())
        self.committed("send")

    def send_in_time(self, tx) -> None:
        try:
            tx.send(memoryview(self.next_message()), timeout=self.random.choice((0, 0.001)))
        except TimeoutError:
            return
        self.committed("send")

    def try_send(self, tx) -> None:
        if tx.try_send(self.next_message()):
            self.committed("try_send")

    def send_many(self, tx) -> None:
        batch = [self.next_message(ahead) for ahead in range(self.random.randint(1, MOST_AT_ONCE))]
        try:
            count = tx.send_many(batch, timeout=self.random.choice((None, None, 0.001)))
        except TimeoutError:
            return
        self.committed("send_many", count)

    def write_in_place(self, tx) -> None:
        message = self.next_message()
        claim = tx.reserve(len(message) + self.random.choice((0, 0, 1, 50, 500)))
        claim.view[: len(message)] = message
        self.dawdle()
        claim.commit(len(message))
        self.committed("reserve")

    def give_up(self, tx) -> None:
        if not self.config["gives_up"]:
            return
        self.table.add(self.number, books.GIVEN_UP)
        message = make_message(self.number, self.sequence, self.random.randint(16, 200), books.ABORTED)
        claim = tx.reserve(len(message))
        claim.view[:] = message
        self.dawdle()
        claim.abort()

    def die_sending(self, tx) -> None:
        batch = [self.next_message(ahead) for ahead in range(MOST_AT_ONCE)]
        way = self.random.randrange(3)
        self.light(50)
        if way == 0:
            tx.send_many(batch)
        elif way == 1:
            for message in batch:
                tx.send(message)
        else:
            for message in batch:
                claim = tx.reserve(len(message))
                claim.view[:] = message
                claim.commit()
        while True:
            time.sleep(1)

    def dawdle(self) -> None:
        """Be caught with a claim open more often."""
        if self.random.random() < 0.1:
            time.sleep(self.random.choice((0, 0.001, 0.005)))

    WAYS = (send, send_in_time, try_send, send_many, write_in_place, give_up), (4, 1, 1, 3, 2, 1)


# ---- members -----------------------------------------------------------------------------------------------


class Member(Worker):
    """Logs each message after it looked at it and before it releases it; a loose one receives by copy, and logs after."""

    newest = -1
    is_over = False

    def run(self) -> None:
        group = self.job["group"]
        options = {"ephemeral": True} if self.job.get("ephemeral") else {"redeliver": self.job["redeliver"]}
        while not self.is_over and not self.log.is_full:
            rx = self.attach(lambda: self.ring.consumer(group, wait=self.policy(), **options), books.DRAIN)
            if rx is None:
                return
            if self.job.get("ephemeral"):
                self.newest = -1  # it may be another group of that name
            self.views = []
            self.most = self.random.choice((1, 1, 3, 6))
            for _ in range(self.session()):
                if self.is_over or self.log.is_full:
                    break
                if not self.views:
                    self.may_wait(rx)
                if self.job["loose"]:
                    self.receive(rx)
                else:
                    self.peek(rx)
                self.beat()
            self.release_all()
            if not self.is_over and not self.log.is_full and self.wants_to_die():
                if self.random.random() < 0.2:
                    self.die_changing(rx, lambda: self.ring.consumer(group, **options))
                self.die_receiving(rx)
            left = self.abandon(rx)
            self.leave(rx)
            del left
            if self.job.get("ephemeral") and self.random.random() < 0.3:
                time.sleep(0.02)  # time for the group to go

    def timeout(self, holds: bool):
        """Who holds something must not wait for ever: what it holds may be what everybody waits for."""
        if self.config["end"] == "shutdown" and not holds and not self.job.get("ephemeral"):
            return self.random.choice((None, 0.05))
        return self.random.choice((0.001, 0.05))

    def came_nothing(self, error) -> None:
        self.release_all()
        if isinstance(error, shmring.ShutDown) or self.table.phase == books.DRAIN:
            self.is_over = True

    def peek(self, rx) -> None:
        try:
            view = rx.peek(timeout=self.timeout(bool(self.views)))
        except (TimeoutError, shmring.ShutDown) as error:
            self.came_nothing(error)
            return
        except shmring.TooManyViews:
            assert self.views, "too many views, and none is held"
            self.release_all()
            return
        producer, sequence = read_message(view.data)
        self.moved("peek")
        if not view.redelivered:
            assert view.sequence > self.newest, f"order: {view.sequence} ({producer}, {sequence}) came after {self.newest}"
            self.newest = view.sequence
        self.log.write(view.sequence, producer, sequence, books.AGAIN if view.redelivered else books.FRESH)
        self.views.append((view, producer, sequence))
        while len(self.views) >= self.most or (self.views and self.random.random() < 0.3):
            self.release(self.random.randrange(len(self.views)))

    def release(self, index: int) -> None:
        view, producer, sequence = self.views.pop(index)
        assert read_message(view.data) == (producer, sequence), "what was held was written over"
        position = view.sequence
        view.release()
        self.log.write(position, producer, sequence, books.RELEASED)

    def release_all(self) -> None:
        while self.views:
            self.release(-1)

    def abandon(self, rx) -> list:
        """Now and then, leave with messages that were peeked and not looked at: others have to get them."""
        left = []
        if self.job["loose"] or self.random.random() > 0.1:
            return left
        self.table.add(self.number, books.ABANDONED)
        for _ in range(2):
            try:
                left.append(rx.peek(timeout=0))
            except (TimeoutError, shmring.ShutDown, shmring.TooManyViews):
                break
        return left

    def die_receiving(self, rx) -> None:
        """Nothing that was not told of is released; a loose one receives no more than it may without telling."""
        while rx.lag == 0 and self.table.phase == books.RUN:
            time.sleep(0.0005)
        way = self.random.randrange(2)
        views = []
        self.light(30)
        try:
            if not self.job["loose"]:
                for _ in range(MOST_AT_ONCE):
                    views.append(rx.peek(1))
            elif way == 0:
                rx.recv_many(MOST_AT_ONCE, 1)
            else:
                for _ in range(MOST_AT_ONCE):
                    rx.recv(1)
        except (TimeoutError, shmring.ShutDown, shmring.TooManyViews):
            pass
        while True:
            time.sleep(1)

    def receive(self, rx) -> None:
        way = self.random.choice(("recv", "try_recv", "recv_many", "recv_into"))
        timeout = self.timeout(False)
        try:
            if way == "recv":
                messages = [rx.recv(timeout)]
            elif way == "try_recv":
                message = rx.try_recv()
                messages = [] if message is None else [message]
            elif way == "recv_many":
                messages = rx.recv_many(self.random.randint(1, MOST_AT_ONCE), timeout)
            else:
                buffer = bytearray(1 << 16)
                messages = [buffer[: rx.recv_into(buffer, timeout)]]
        except (TimeoutError, shmring.ShutDown) as error:
            self.came_nothing(error)
            return
        for message in messages:
            self.log.write(0, *read_message(message), books.PLAIN)
        self.moved(way, len(messages))


# ---- observers ---------------------------------------------------------------------------------------------


class Observer(Worker):
    """Whole messages, in order; the one that `counts` is there from the first message to the last."""

    def run(self) -> None:
        if self.job.get("counts"):
            rx = self.attach(lambda: self.ring.consumer(lossy=True, wait="adaptive"), books.DRAIN)
            self.order = {}
            while self.look(rx, lambda: [rx.recv(0.05)]):
                pass
            self.leave(rx)
            return
        is_over = False
        while not is_over:
            start = self.random.choice(("earliest", "latest"))
            readonly = self.job.get("readonly")
            ring = shmring.open(self.config["name"], readonly=True) if readonly else self.ring
            rx = self.attach(lambda: ring.consumer(lossy=True, start=start, wait=self.policy()), books.DRAIN)  # noqa: B023
            if rx is None:
                return
            self.order = {}
            for _ in range(self.session()):
                if not readonly:
                    self.may_wait(rx)
                is_over = not self.look(rx, lambda: self.random.choice(self.WAYS)(self, rx))  # noqa: B023
                if is_over:
                    break
            if not is_over and not readonly and self.wants_to_die():
                self.die_changing(rx, lambda: ring.consumer(lossy=True))  # noqa: B023
            self.leave(rx)
            if readonly:
                ring.close()

    def look(self, rx, receive) -> bool:
        """Returns whether there may be more."""
        lost = rx.lost
        try:
            messages = receive()
        except shmring.ShutDown:
            return False
        except (TimeoutError, shmring.Lapped):
            messages = []
            if self.table.phase == books.DRAIN:
                return False
        for message in messages:
            producer, sequence = message if isinstance(message, tuple) else read_message(message)
            assert sequence > self.order.get(producer, -1), f"order: {sequence} of {producer} came after {self.order[producer]}"
            self.order[producer] = sequence
        assert rx.lost >= lost, "lost went down"
        self.table.add(self.number, books.RECEIVED, len(messages))
        self.moved("observed", len(messages))
        self.table.set(self.number, books.LOST, rx.lost)
        self.beat()
        return True

    def recv(self, rx):
        return [rx.recv(0.05)]

    def recv_many(self, rx):
        return rx.recv_many(MOST_AT_ONCE, 0.05)

    def recv_into(self, rx):
        buffer = bytearray(1 << 16)
        return [buffer[: rx.recv_into(buffer, 0.05)]]

    def latest(self, rx):
        return [rx.latest(0.05)]

    def peek(self, rx):
        with rx.peek(0.05) as view:
            data = view.data
            copy = bytes(data)
            is_valid = view.valid
        return [copy] if is_valid else []

    WAYS = recv, recv_many, recv_into, latest, peek


ROLES = {"producer": Writer, "member": Member, "observer": Observer}
