"""What messages call a ring: its name, or of one without where its process has it. Never "None"."""

from __future__ import annotations

import logging
import os
import re

import pytest

import shmring
from shmring.cli.ring_name import open_ring


def errors_of(ring):
    """What the errors about the ring say, of as many kinds as come easily, and how its handles look."""
    calls = [lambda: ring.remove_group("nobody's"), lambda: ring.consumer(group="g" * 64)]
    tx, rx = ring.producer(), ring.consumer()
    only = ring.consumer(group="only", exclusive=True)
    calls += [lambda: ring.consumer(group="only"), lambda: ring.remove_group("only"), lambda: ring.consumer(redeliver=False)]
    calls += [lambda: rx.recv(timeout=0), lambda: tx.send(bytes(5000)), lambda: only.recv(timeout=0)]
    calls += [lambda: [tx.send(bytes(1000), timeout=0) for _ in range(5)], lambda: tx.drain(timeout=0)]
    claim = None

    def claim_open():
        nonlocal claim
        while rx.try_recv() or only.try_recv():
            pass
        claim = tx.reserve(8)
        tx.send(b"")

    calls += [claim_open, lambda: claim.abort(), ring.shutdown, lambda: tx.send(b""), lambda: rx.recv(0)]
    calls += [rx.close, rx.recv, ring.close, ring.stats, ring.repair]
    for call in calls:
        try:
            call()
        except Exception as error:
            yield error.args[-1]
    for handle in (ring, tx, rx):
        yield repr(handle)


def test_errors_call_an_anonymous_ring_by_where_it_is():
    """They said "ring None is full"."""
    ring = shmring.anonymous(4096)
    assert re.fullmatch(rf"/proc/{os.getpid()}/fd/\d+ \(anonymous\)", ring.label)
    found = list(errors_of(ring))
    assert len(found) >= 16, found
    assert [text for text in found if "None" in text] == []
    without = [text for text in found if ring.label not in text]
    assert len(without) == 1 and "a group's name has" in without[0], without
    assert sum("is full" in text for text in found) == sum("was shut down" in text for text in found) / 2 == 1


def test_errors_call_a_named_ring_by_its_name(named):
    with named.create(4096) as ring:
        assert ring.label == repr(ring.name)
        found = list(errors_of(ring))
        assert sum(f"{ring.name!r}" in text for text in found) == len(found) - 1, found


def test_the_command_line_takes_an_anonymous_rings_label_for_a_name():
    with shmring.anonymous(4096) as ring, open_ring(ring.label.split()[0], readonly=True) as seen:
        assert seen.uuid == ring.uuid


def test_records_rings_and_queues_are_called_alike():
    numpy = pytest.importorskip("numpy")
    with shmring.anonymous(4096, dtype="f8") as arrays:
        tx = arrays.producer()
        with pytest.raises(TypeError, match=re.escape(f"ring {arrays.label} have dtype")):
            tx.write(numpy.zeros(2, "i4"))
        assert arrays.label == arrays.ring.label and arrays.label in repr(arrays) and arrays.label in repr(tx)
    with shmring.Queue() as queue:
        assert queue.ring.label in repr(queue)


def test_the_log_calls_it_alike_and_its_facts_give_the_name(caplog):
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer(lossy=True) as rx:
        ring.remove_group("default")
        with caplog.at_level(logging.INFO, "shmring"):
            for _ in range(9):
                tx.send(bytes(1000))
            assert rx.recv(0) and rx.lost
    (record,) = caplog.records
    assert record.getMessage().startswith(f"ring {ring.label}: an observer")
    assert record.shmring["ring"] is None


def test_no_message_formats_a_name_that_may_be_none():
    """Places have names; rings have labels."""
    folder = os.path.dirname(shmring.__file__)
    for name in os.listdir(folder):
        if name.endswith((".py", ".pyx")):
            with open(os.path.join(folder, name)) as file:
                assert re.findall(r".*ring \{(?!place\.)[\w.]*name!r\}.*", file.read()) == [], name
