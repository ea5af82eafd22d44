"""Any sequence of calls on a tiny ring against a model made of a list of records and some indices."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import shmring
from shmring import creation

CAPACITY = 4096
CHUNK = CAPACITY // 16
HEADER = 16
MOST_CLAIM = 1500  # bytes
WRAP = 1 << 64

# Deterministic: the same examples on every machine, and nothing kept between runs.
BOUNDED = settings(
    max_examples=20,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

# Sizes of every kind: small, around the alignments, a quarter of the ring, around its limit. At least 4, so that
# each message can be told from every other.
SIZES = st.one_of(
    st.integers(4, 130), st.sampled_from([1008, 1007, 1009, 2032, 4079, 4080, 4081]), st.integers(4, MOST_CLAIM)
)
ORIGINS = {
    "zero": 0,
    "below 2^32": (1 << 32) - 1024,
    "below 2^52": (1 << 52) - 1024,
    "below 2^64": (1 << 64) - 1024,
}
NAMES = ["default", "b", "c"]
INDEX = st.integers(0, 11)
OPEN, SENT, GIVEN_UP = "open", "sent", "given up"


class Record:
    """Bytes of the ring in a row: of a message, of a claim that is open, or of room that was given up."""

    def __init__(self, position, span, state, payload=None, missing=0):
        self.position, self.span, self.state = position, span, state
        self.payload = payload
        self.missing = missing  # given up: messages that were to be there


class Kept:
    """Records in a row that a member keeps: `views` of some, and those from `pending` to `end` still to be delivered again."""

    def __init__(self, end, views=(), pending=None):
        self.end, self.views, self.pending = end, list(views), pending

    def start(self):
        """The index of the first record that is still needed; None if there is none."""
        live = [record for record, _ in self.views]
        return min(live) if live else self.pending


class Member:
    def __init__(self, consumer):
        self.consumer = consumer
        self.kept = []

    def views(self):
        return [(kept, *view) for kept in self.kept for view in kept.views]


class Group:
    def __init__(self):
        self.members = []
        self.orphans = []  # Kept, of members that are gone
        self.had_peers = False


class Watcher:
    def __init__(self, observer, index):
        self.observer = observer
        self.index = index  # everything before was seen, lost, or not to be
        self.is_new = True  # the first message tells where it began
        self.lapped = False  # it may have been, since
        self.lost = 0  # as last compared


class RingMachine(RuleBasedStateMachine):
    origin, align, producers = 0, 16, "single"

    @initialize()
    def create(self):
        shape = creation._Shape(CAPACITY, self.producers, 20, 3, self.align, origin=self.origin)
        self.ring = creation._make_anonymous(shape, True)
        self.first = shape.origin
        self.records = []
        self.index_of = {}  # payload -> index
        self.serial = 0
        self.is_shut = False
        self.groups = {"default": Group()}
        self.writers = [self.ring.producer()]
        self.claims = {}  # producer -> (Claim, index of its record or None)
        self.join("default")
        self.watchers = []

    def teardown(self):
        if hasattr(self, "ring"):
            for claim, _ in self.claims.values():
                claim.abort()
            for _, _, view in self.all_views():
                view.release()
            self.ring.close()

    # ---- the model's arithmetic ----------------------------------------------------------------------------

    @property
    def is_multi(self):
        return self.producers == "multi"

    @property
    def tail(self):
        return self.records[-1].position + self.records[-1].span if self.records else 0

    def span(self, size):
        return (size + HEADER + self.align - 1) // self.align * self.align

    def position(self, index):
        return self.records[index].position if index < len(self.records) else self.tail

    def head(self, name):
        """Where the ring says that the group stands, as an index: where it is past room that was given up is its own affair."""
        stats = next(group for group in self.ring.stats().groups if group.name == name)
        position = (stats.head - self.first) % WRAP
        places = {record.position: index for index, record in enumerate(self.records)} | {self.tail: len(self.records)}
        assert position in places, "a head between records"
        return places[position]

    def gate(self):
        """The position of the first record that somebody needs."""
        needed = [self.head(name) for name in self.groups]
        for group in self.groups.values():
            needed += [kept.start() for kept in group.orphans]
            needed += [kept.start() for member in group.members for kept in member.kept]
        return min(map(self.position, needed))

    def fits(self, size):
        return self.tail + self.span(size) - self.gate() <= CAPACITY

    def payload(self, size):
        self.serial += 1
        return (self.serial.to_bytes(4, "little") * (size // 4 + 1))[:size]

    def accept(self, payload):
        self.index_of[payload] = len(self.records)
        self.records.append(Record(self.tail, self.span(len(payload)), SENT, payload))
        self.overtake()

    def overtake(self):
        """Whose record may have been written over?"""
        ahead = 0 if self.is_multi else self.span(MOST_CLAIM) + CHUNK  # a single producer says so in advance
        for each in self.watchers:
            each.lapped |= self.tail + ahead - self.position(each.index) > CAPACITY

    def next_of(self, index):
        """The index of the first message from `index` on, or of where one may come."""
        while index < len(self.records) and self.records[index].state == GIVEN_UP:
            index += 1
        return index

    def is_sent(self, index):
        return index < len(self.records) and self.records[index].state == SENT

    def visible(self, index):
        """Indices of the messages from `index` on that can be received now."""
        found = []
        while True:
            index = self.next_of(index)
            if not self.is_sent(index):
                return found
            found.append(index)
            index += 1

    def all_views(self):
        return [view for group in self.groups.values() for member in group.members for view in member.views()]

    # ---- sending -------------------------------------------------------------------------------------------

    def free(self):
        """Producers without an open claim."""
        return [] if self.is_shut else [tx for tx in self.writers if tx not in self.claims]

    @precondition(free)
    @rule(who=INDEX, size=SIZES, tries=st.booleans())
    def send(self, who, size, tries):
        tx = self.free()[who % len(self.free())]
        payload = self.payload(size)
        if size > CAPACITY - HEADER:
            with pytest.raises(shmring.MessageTooLarge):
                tx.try_send(payload) if tries else tx.send(payload, timeout=0)
        elif tries:
            fits = self.fits(size)
            assert tx.try_send(payload) is fits
            if fits:
                self.accept(payload)
        elif self.fits(size):
            tx.send(payload, timeout=0)
            self.accept(payload)
        else:
            with pytest.raises(TimeoutError):
                tx.send(payload, timeout=0)

    @precondition(free)
    @rule(who=INDEX, sizes=st.lists(st.integers(4, 700), min_size=1, max_size=12), mixed=st.booleans())
    def send_many(self, who, sizes, mixed):
        tx = self.free()[who % len(self.free())]
        payloads = [self.payload(size) for size in sizes]
        count, end, gate = 0, self.tail, self.gate()
        while count < len(payloads) and end + self.span(sizes[count]) - gate <= CAPACITY:
            end += self.span(sizes[count])
            count += 1
        batch = [bytearray(each) if mixed and number % 3 == 1 else each for number, each in enumerate(payloads)]
        if count:
            assert tx.send_many(batch, timeout=0) == count
        else:
            with pytest.raises(TimeoutError):
                tx.send_many(batch, timeout=0)
        for payload in payloads[:count]:
            self.accept(payload)

    @precondition(free)
    @rule(who=INDEX, size=st.integers(0, MOST_CLAIM))
    def reserve(self, who, size):
        tx = self.free()[who % len(self.free())]
        if not self.fits(size):
            with pytest.raises(TimeoutError):
                tx.reserve(size, timeout=0)
            return
        claim = tx.reserve(size, timeout=0)
        index = None
        if self.is_multi:
            index = len(self.records)
            self.records.append(Record(self.tail, self.span(size), OPEN))
            self.overtake()
        self.claims[tx] = (claim, index)
        with pytest.raises(shmring.ClaimOpen):
            tx.try_send(b"")

    @precondition(lambda self: self.claims)
    @rule(who=INDEX, how=st.sampled_from(["commit", "shorten", "abort", "raise", "drop", "close"]), keep=st.floats(0, 1))
    def end_claim(self, who, how, keep):
        tx = list(self.claims)[who % len(self.claims)]
        claim, index = self.claims.pop(tx)
        kept = None
        if how in ("commit", "shorten"):
            kept = self.payload(claim.nbytes if how == "commit" else max(4, int(claim.nbytes * keep)))
            kept = None if len(kept) < 4 or len(kept) > claim.nbytes else kept
        if kept is not None and not self.is_shut:
            claim.view[: len(kept)] = kept
            claim.commit(len(kept))
        elif kept is not None:
            with pytest.raises(shmring.ShutDown):
                claim.commit(len(kept))
            kept = None
        elif how == "raise":
            with pytest.raises(KeyError), claim:
                raise KeyError
        elif how == "drop":
            pass
        elif how == "close":
            tx.close()
            self.writers.remove(tx)
        else:
            claim.abort()
        del claim
        if index is None:
            if kept is not None:
                self.accept(kept)
            return
        record = self.records[index]
        if kept is None:
            record.state, record.missing = GIVEN_UP, 1
            return
        whole, record.span = record.span, self.span(len(kept))
        record.state, record.payload = SENT, kept
        self.index_of[kept] = index
        if record.span != whole:
            self.insert(index + 1, Record(record.position + record.span, whole - record.span, GIVEN_UP))

    def insert(self, place, record):
        """What was one record is two: every index behind moves."""
        self.records.insert(place, record)
        moved = lambda index: index + (index is not None and index >= place) if index is not None else None  # noqa: E731
        self.index_of = {payload: moved(index) for payload, index in self.index_of.items()}
        self.claims = {tx: (claim, moved(index)) for tx, (claim, index) in self.claims.items()}
        for each in self.watchers:
            each.index = moved(each.index)
        for group in self.groups.values():
            for kept in [*group.orphans, *(kept for member in group.members for kept in member.kept)]:
                kept.end, kept.pending = moved(kept.end), moved(kept.pending)
                kept.views = [(moved(index), view) for index, view in kept.views]

    @precondition(lambda self: not self.is_shut)
    @rule()
    def attach_producer(self):
        if not self.writers or (self.is_multi and len(self.writers) < 3):
            self.writers.append(self.ring.producer())
        elif not self.is_multi:
            with pytest.raises(shmring.ProducerTaken):
                self.ring.producer()

    @precondition(free)
    @rule(who=INDEX)
    def detach_producer(self, who):
        tx = self.free()[who % len(self.free())]
        tx.close()
        self.writers.remove(tx)

    # ---- receiving -----------------------------------------------------------------------------------------

    def join(self, name, **options):
        group = self.groups[name]
        group.members.append(Member(self.ring.consumer(name, **options)))
        group.had_peers |= len(group.members) > 1

    @rule(name=st.sampled_from(NAMES), start=st.sampled_from(["earliest", "latest"]))
    def attach(self, name, start):
        if name in self.groups:
            if len(self.groups[name].members) < 3:
                self.join(name, start=start)
            return
        oldest = min(self.head(each) for each in self.groups)
        self.groups[name] = Group()
        self.join(name, start=start)
        assert self.position(self.head(name)) == (self.position(oldest) if start == "earliest" else self.tail)

    def readers(self):
        return [(name, member) for name, group in self.groups.items() for member in group.members]

    def reader(self, which):
        name, member = self.readers()[which % len(self.readers())]
        return self.groups[name], name, member

    def take(self, group, name, member, message, expected):
        """A member got `message`. Its index, and what was kept of it before: a Kept, if it was delivered again."""
        self.adopt(group, member)
        again = [kept for kept in member.kept if kept.pending is not None]
        if again:
            kept = next((kept for kept in again if self.records[kept.pending].payload == message), None)
            assert kept is not None, "not what the dead had"
            index = kept.pending
            kept.pending = self.next_of(index + 1)
            if kept.pending >= kept.end:
                kept.pending = None
            return index, kept
        assert expected and message == self.records[expected[0]].payload
        return expected.pop(0), None

    def settle(self, member):
        member.kept = [kept for kept in member.kept if kept.start() is not None]

    def has_something(self, group, name, member):
        return bool(
            group.orphans or any(kept.pending is not None for kept in member.kept) or self.visible(self.head(name))
        )

    def call(self, member, how):
        buffer = bytearray(CAPACITY)
        if how == "recv_into":
            return bytes(buffer[: member.consumer.recv_into(buffer, timeout=0)])
        return member.consumer.recv(timeout=0) if how == "recv" else member.consumer.try_recv()

    @precondition(readers)
    @rule(which=INDEX, how=st.sampled_from(["recv", "try_recv", "recv_into"]))
    def recv(self, which, how):
        group, name, member = self.reader(which)
        if self.has_something(group, name, member):
            before = self.head(name)
            index, again = self.take(group, name, member, self.call(member, how), self.visible(before))
            assert self.head(name) == (before if again else index + 1)
            self.settle(member)
        elif self.is_shut and self.next_of(self.head(name)) == len(self.records):
            with pytest.raises(shmring.ShutDown):
                self.call(member, how)
        elif how == "try_recv":
            assert self.call(member, how) is None
            assert self.head(name) == self.next_of(self.head(name))  # it goes past room that was given up
        else:
            with pytest.raises(TimeoutError):
                self.call(member, how)

    @precondition(readers)
    @rule(which=INDEX)
    def recv_into_too_little(self, which):
        group, name, member = self.reader(which)
        if self.has_something(group, name, member):
            with pytest.raises(ValueError):
                member.consumer.recv_into(bytearray(3), timeout=0)
            self.adopt(group, member)

    def adopt(self, group, member):
        """A member that has nothing left to deliver again takes what those that are gone had."""
        if not any(kept.pending is not None for kept in member.kept):
            for kept in group.orphans:
                kept.pending, kept.views = kept.start(), []
            member.kept += group.orphans
            group.orphans = []

    @precondition(readers)
    @rule(which=INDEX, limit=st.integers(1, 20))
    def recv_many(self, which, limit):
        group, name, member = self.reader(which)
        if not self.has_something(group, name, member):
            return
        before = self.head(name)
        expected = self.visible(before)
        received = member.consumer.recv_many(limit, timeout=0)
        assert 1 <= len(received) <= limit
        last, fresh = None, 0
        for message in received:
            index, again = self.take(group, name, member, message, expected)
            if again is None:
                last, fresh = index, fresh + 1
        if not group.had_peers and not any(kept.pending is not None for kept in member.kept):
            assert len(received) == limit or not expected
        now = self.head(name)
        if last is None:
            assert before <= now <= self.next_of(before)
        else:
            assert last + 1 <= now <= self.next_of(last + 1)
        self.settle(member)

    @precondition(readers)
    @rule(which=INDEX, count=st.integers(1, 4))
    def peek(self, which, count):
        group, name, member = self.reader(which)
        for _ in range(count):
            kept = len(group.orphans) + sum(len(each.kept) for each in group.members)
            if kept > 12 or not self.has_something(group, name, member):
                return  # one member can adopt as many as this from all the others
            before = self.head(name)
            expected = self.visible(before)
            view = member.consumer.peek(timeout=0)
            index, again = self.take(group, name, member, bytes(view.data), expected)
            assert view.sequence == (self.first + self.position(index)) % WRAP
            assert view.redelivered is (again is not None)
            kept = again
            if kept is None:
                kept = next((each for each in member.kept if each.end == index and each.pending is None), None)
                if kept is None:
                    kept = Kept(index)
                    member.kept.append(kept)
                kept.end = index + 1
            kept.views.append((index, view))

    @precondition(all_views)
    @rule(which=INDEX)
    def release(self, which):
        kept, index, view = self.all_views()[which % len(self.all_views())]
        view.release()
        kept.views.remove((index, view))
        for group in self.groups.values():
            for member in group.members:
                self.settle(member)

    @precondition(readers)
    @rule(which=INDEX)
    def detach(self, which):
        """Views that were not released, and lend nothing: as in a death, what was kept goes to others."""
        group, _, member = self.reader(which)
        if member.views():
            with pytest.raises(BufferError):
                member.consumer.close()
        for _, _, view in member.views():
            view.data.release()
        member.consumer.close()
        group.members.remove(member)
        group.orphans += member.kept
        self.ring.repair()

    @rule(name=st.sampled_from(NAMES))
    def remove_group(self, name):
        group = self.groups.get(name)
        if group is None:
            with pytest.raises(KeyError):
                self.ring.remove_group(name)
        elif group.members:
            with pytest.raises(shmring.MemberTaken):
                self.ring.remove_group(name)
        elif len(self.groups) > 1:
            self.ring.remove_group(name)
            del self.groups[name]

    @precondition(lambda self: len(self.records) > 60)
    @rule()
    def shutdown(self):
        self.ring.shutdown()
        self.is_shut = True

    # ---- observing -----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.watchers) < 2)
    @rule(start=st.sampled_from(["earliest", "latest"]))
    def watch(self, start):
        observer = self.ring.consumer(lossy=True, start=start)
        watcher = Watcher(observer, 0)
        self.watchers.append(watcher)
        if start == "latest":  # behind the newest that can be received, and before or behind claims that are open
            opened = (index for index, record in enumerate(self.records) if record.state == OPEN)
            watcher.index = next(opened, len(self.records))

    @precondition(lambda self: self.watchers)
    @rule(which=INDEX, count=st.integers(1, 8))
    def observe(self, which, count):
        watcher = self.watchers[which % len(self.watchers)]
        for _ in range(count):
            expected = self.next_of(watcher.index)
            try:
                message = watcher.observer.try_recv()
            except shmring.ShutDown:
                assert self.is_shut and (watcher.lapped or watcher.is_new or not self.is_sent(expected))
                return
            if message is None:
                assert watcher.lapped or watcher.is_new or not self.is_sent(expected)
                return
            index = self.index_of[message]  # whole, and one that was sent
            assert self.tail - self.position(index) <= CAPACITY
            assert index >= expected
            if not watcher.lapped:
                assert watcher.is_new or index == expected
                assert watcher.observer.lost == watcher.lost
            elif not watcher.is_new:
                skipped = self.records[watcher.index : index]
                most = sum(each.missing + (each.state != GIVEN_UP) for each in skipped)
                least = sum(each.state == SENT for each in skipped)
                assert least <= watcher.observer.lost - watcher.lost <= most
            watcher.is_new = False
            watcher.lost = watcher.observer.lost
            watcher.index = index + 1
            watcher.lapped = False
            self.overtake()

    @precondition(lambda self: self.watchers)
    @rule(which=INDEX)
    def stop_watching(self, which):
        self.watchers.pop(which % len(self.watchers)).observer.close()

    # ---- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def contents_agree(self):
        if not hasattr(self, "ring"):
            return
        stats = self.ring.stats()
        assert stats.used == self.tail - self.gate()
        assert (stats.tail - self.first) % WRAP == self.tail
        lags = {name: len(self.visible(self.head(name))) for name in self.groups}
        assert {each.name: each.lag for each in stats.groups} == lags
        for name, group in self.groups.items():
            for member in group.members:
                assert member.consumer.lag == lags[name]
                for _, index, view in member.views():
                    assert view.valid and bytes(view.data) == self.records[index].payload
        assert stats.repairs == stats.aborted == 0


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("align", [16, 64])
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS.keys())
def test_any_sequence_of_calls_agrees_with_the_model(origin, align, producers):
    machine = type("Machine", (RingMachine,), {"origin": origin, "align": align, "producers": producers})
    run_state_machine_as_test(machine, settings=BOUNDED)
