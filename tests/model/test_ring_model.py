"""Any sequence of calls on a tiny ring against a model made of a list and some indices."""

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
HEADER = 16

# Deterministic: the same examples on every machine, and nothing kept between runs.
BOUNDED = settings(
    max_examples=40,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

# Sizes of every kind: tiny, around the alignments, a quarter of the ring, around its limit.
SIZES = st.one_of(
    st.integers(0, 130), st.sampled_from([1008, 1007, 1009, 2032, 4079, 4080, 4081]), st.integers(0, 1500)
)
ORIGINS = {
    "zero": 0,
    "below 2^32": (1 << 32) - 1024,
    "below 2^52": (1 << 52) - 1024,
    "below 2^64": (1 << 64) - 1024,
}
NAMES = ["default", "b", "c"]


class Group:
    """What the model knows of a consumer group: indices into the list of all messages."""

    def __init__(self, start):
        self.released = start  # index of the first message it still needs
        self.cursor = start  # index of the next to be handed out
        self.seen = start  # everything before it was handed out to some member
        self.views = []  # (index, View), oldest first
        self.consumer = None


class RingMachine(RuleBasedStateMachine):
    origin, align = 0, 16

    @initialize()
    def create(self):
        shape = creation._Shape(CAPACITY, "single", 8, 3, self.align, origin=self.origin)
        self.ring = creation._make_anonymous(shape, True)
        self.sent = []  # (position relative to the first, payload)
        self.tail = 0
        self.serial = 0
        self.is_shut = False
        self.groups = {"default": Group(0)}
        self.producer = self.ring.producer()
        self.groups["default"].consumer = self.ring.consumer()

    def teardown(self):
        if hasattr(self, "ring"):
            for group in self.groups.values():
                for _, view in group.views:
                    view.release()
            self.ring.close()

    # ---- the model's arithmetic ----------------------------------------------------------------------------

    def span(self, size):
        return (size + HEADER + self.align - 1) // self.align * self.align

    def position(self, index):
        return self.sent[index][0] if index < len(self.sent) else self.tail

    def gate(self):
        return min((self.position(group.released) for group in self.groups.values()), default=self.tail)

    def fits(self, size):
        return self.tail + self.span(size) - self.gate() <= CAPACITY

    def payload(self, size):
        self.serial += 1
        return (self.serial.to_bytes(4, "little") * (size // 4 + 1))[:size]

    def accept(self, payload):
        self.sent.append((self.tail, payload))
        self.tail += self.span(len(payload))

    # ---- sending -------------------------------------------------------------------------------------------

    def is_writing(self):
        return self.producer is not None and not self.is_shut

    @precondition(is_writing)
    @rule(size=SIZES, tries=st.booleans())
    def send(self, size, tries):
        payload = self.payload(size)
        if size > CAPACITY - HEADER:
            with pytest.raises(shmring.MessageTooLarge):
                self.producer.try_send(payload) if tries else self.producer.send(payload, timeout=0)
        elif tries:
            assert self.producer.try_send(payload) is self.fits(size)
            if self.fits(size):
                self.accept(payload)
        elif self.fits(size):
            self.producer.send(payload, timeout=0)
            self.accept(payload)
        else:
            with pytest.raises(TimeoutError):
                self.producer.send(payload, timeout=0)

    @precondition(is_writing)
    @rule(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=12))
    def send_many(self, sizes):
        payloads = [self.payload(size) for size in sizes]
        count = 0
        before = self.gate()
        tail = self.tail
        for payload in payloads:
            if tail + self.span(len(payload)) - before > CAPACITY:
                break
            tail += self.span(len(payload))
            count += 1
        if payloads and not count:
            with pytest.raises(TimeoutError):
                self.producer.send_many(payloads, timeout=0)
        else:
            assert self.producer.send_many(payloads, timeout=0) == count
        if not self.groups:
            return  # the model keeps to rings that somebody reads
        for payload in payloads[:count]:
            self.accept(payload)

    @precondition(is_writing)
    @rule(
        size=st.integers(0, 1500),
        how=st.sampled_from(["commit", "shorten", "abort", "raise", "drop"]),
        keep=st.floats(0, 1),
    )
    def reserve(self, size, how, keep):
        if not self.fits(size):
            with pytest.raises(TimeoutError):
                self.producer.reserve(size, timeout=0)
            return
        claim = self.producer.reserve(size, timeout=0)
        payload = self.payload(size)
        claim.view[:] = payload
        with pytest.raises(shmring.ClaimOpen):
            self.producer.try_send(b"")
        if how == "commit":
            with claim:
                pass
        elif how == "shorten":
            payload = payload[: int(size * keep)]
            claim.commit(len(payload))
        elif how == "abort":
            claim.abort()
        elif how == "raise":
            with pytest.raises(KeyError), claim:
                raise KeyError
        del claim
        if how in ("commit", "shorten"):
            self.accept(payload)

    @precondition(lambda self: not self.is_shut)
    @rule()
    def reattach_producer(self):
        if self.producer is not None:
            self.producer.close()
        self.producer = self.ring.producer()

    # ---- receiving -----------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), start=st.sampled_from(["earliest", "latest"]))
    def attach(self, name, start):
        group = self.groups.get(name)
        if group is not None and group.consumer is not None:
            with pytest.raises(shmring.MemberTaken):
                self.ring.consumer(name)
            return
        if group is None:
            oldest = min((each.released for each in self.groups.values()), default=len(self.sent))
            group = self.groups[name] = Group(oldest if start == "earliest" else len(self.sent))
        group.consumer = self.ring.consumer(name, start=start)
        group.cursor = group.released

    def reader(self, name):
        group = self.groups.get(name)
        return group if group is not None and group.consumer is not None else None

    def served(self):
        """The groups whose member has something to receive."""
        return [
            each
            for each in self.groups.values()
            if each.consumer is not None and each.cursor < len(self.sent)
        ]

    def lending(self):
        return [each for each in self.groups.values() if each.views]

    def handed_out(self, group, count):
        group.cursor += count
        group.seen = max(group.seen, group.cursor)
        self.settle(group)

    def settle(self, group):
        group.released = group.views[0][0] if group.views else group.cursor

    def call(self, group, how):
        buffer = bytearray(CAPACITY)
        if how == "recv_into":
            return bytes(buffer[: group.consumer.recv_into(buffer, timeout=0)])
        return group.consumer.recv(timeout=0) if how == "recv" else group.consumer.try_recv()

    @precondition(served)
    @rule(which=st.integers(0, 5), how=st.sampled_from(["recv", "try_recv", "recv_into"]))
    def recv(self, which, how):
        group = self.served()[which % len(self.served())]
        assert self.call(group, how) == self.sent[group.cursor][1]
        self.handed_out(group, 1)

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["recv", "try_recv", "recv_into"]))
    def recv_from_an_empty_group(self, name, how):
        group = self.reader(name)
        if group is None or group in self.served():
            return
        if self.is_shut:
            with pytest.raises(shmring.ShutDown):
                self.call(group, how)
        elif how == "try_recv":
            assert self.call(group, how) is None
        else:
            with pytest.raises(TimeoutError):
                self.call(group, how)

    @precondition(served)
    @rule(which=st.integers(0, 5), limit=st.integers(1, 20))
    def recv_many(self, which, limit):
        group = self.served()[which % len(self.served())]
        expected = [payload for _, payload in self.sent[group.cursor : group.cursor + limit]]
        assert group.consumer.recv_many(limit, timeout=0) == expected
        self.handed_out(group, len(expected))

    @precondition(served)
    @rule(which=st.integers(0, 5), count=st.integers(1, 4))
    def peek(self, which, count):
        group = self.served()[which % len(self.served())]
        for _ in range(min(count, len(self.sent) - group.cursor)):
            view = group.consumer.peek(timeout=0)
            origin = self.origin + self.align - HEADER
            assert view.sequence == (origin + self.position(group.cursor)) % (1 << 64)
            assert view.redelivered is (group.cursor < group.seen)
            group.views.append((group.cursor, view))
            self.handed_out(group, 1)

    @precondition(lending)
    @rule(group=st.integers(0, 5), which=st.integers(0, 9))
    def release(self, group, which):
        group = self.lending()[group % len(self.lending())]
        _, view = group.views.pop(which % len(group.views))
        view.release()
        self.settle(group)

    @rule(name=st.sampled_from(NAMES))
    def detach(self, name):
        group = self.reader(name)
        if group is None:
            return
        if group.views:
            with pytest.raises(BufferError):
                group.consumer.close()
            return
        group.consumer.close()
        group.consumer = None

    @rule(name=st.sampled_from(NAMES))
    def abandon_views_and_detach(self, name):
        """Like a death: what was not released comes again."""
        group = self.reader(name)
        if group is None:
            return
        for _, view in group.views:
            assert view.data.release() is None  # lends nothing any more, and is still not released
        group.consumer.close()
        group.views, group.consumer = [], None

    @rule(name=st.sampled_from(NAMES))
    def remove_group(self, name):
        group = self.groups.get(name)
        if group is None:
            with pytest.raises(KeyError):
                self.ring.remove_group(name)
        elif group.consumer is not None:
            with pytest.raises(shmring.MemberTaken):
                self.ring.remove_group(name)
        elif len(self.groups) > 1:
            self.ring.remove_group(name)
            del self.groups[name]

    @precondition(lambda self: len(self.sent) > 40)
    @rule()
    def shutdown(self):
        self.ring.shutdown()
        self.is_shut = True

    # ---- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def contents_agree(self):
        if not hasattr(self, "ring"):
            return
        stats = self.ring.stats()
        assert stats.used == self.tail - self.gate()
        assert {each.name: each.lag for each in stats.groups} == {
            name: len(self.sent) - group.released for name, group in self.groups.items()
        }
        for group in self.groups.values():
            if group.consumer is not None:
                assert group.consumer.lag == len(self.sent) - group.cursor
            for index, view in group.views:
                assert bytes(view.data) == self.sent[index][1]


@pytest.mark.parametrize("align", [16, 64])
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS.keys())
def test_any_sequence_of_calls_agrees_with_the_model(origin, align):
    machine = type("Machine", (RingMachine,), {"origin": origin, "align": align})
    run_state_machine_as_test(machine, settings=BOUNDED)
