"""Wake-ups are never lost: peers that sleep for an hour unless they are woken, over rings that are always
full or empty."""

from __future__ import annotations

import layout_bytes as layout
import pytest

import shmring


@pytest.mark.parametrize(
    "ask, answer, count",
    [
        ("patient", "patient", 30_000),
        ("patient", "patient spinner", 30_000),
        ("patient spinner", "patient spinner", 30_000),
        ("patient yielder", "patient", 30_000),
        ("spin", "patient", 20_000),
    ],
    ids=str,
)
def test_no_wake_up_is_lost_between_two_processes(unique_name, peer, ask, answer, count):
    with shmring.create(unique_name + "a", 4096), shmring.create(unique_name + "b", 4096):
        peers = [
            peer("pingpong.py", "answer", unique_name, count, answer),
            peer("pingpong.py", "ask", unique_name, count, ask),
        ]
        for each in peers:
            each.expect("attached")
        for each in peers:
            each.expect("done")
            each.finish()


@pytest.mark.parametrize(
    "writer, reader",
    [
        ("patient", "patient"),
        ("patient spinner", "patient"),
        ("patient", "patient spinner"),
        ("patient yielder", "patient yielder"),
    ],
)
@pytest.mark.parametrize("shape", ["tiny", "large"])
def test_no_wake_up_is_lost_in_a_stream(unique_name, peer, writer, reader, shape):
    count = 4_000 if "yielder" in writer and shape == "large" else 40_000  # a yield may cost three time slices on a busy CPU
    with shmring.create(unique_name, 4096):
        peers = [
            peer("stream.py", "recv", unique_name, count, 1, shape, reader),
            peer("stream.py", "send", unique_name, count, 2, shape, writer),
        ]
        for each in peers:
            each.expect("attached")
        for each in peers:
            each.expect("done")
            each.finish()


@pytest.mark.parametrize("keep", ["peek", "peek_behind_an_open_view"])
def test_room_before_a_message_that_is_kept_is_told_of_at_once(tmp_path, keep):
    """What was given up before it is free when it is claimed; who waited for that room was told when the view ended."""
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx, ring.producer() as sleeper, ring.consumer() as rx:
        first = None
        if keep == "peek_behind_an_open_view":
            tx.send(b"first")
            first = rx.peek()
        tx.reserve(1000).abort()
        tx.send(b"kept")
        while tx.try_send(bytes(100)):
            pass
        # It sleeps until the gate is where the kept message begins.
        slot = layout.participant(path, 1)
        layout.write(path, slot + layout.SLOT_AWAITED, 1024 if first is None else 32 + 1024)
        for bits in (layout.ARMED, layout.PARKED):
            layout.write(path, layout.ROOM_BELL + bits, 1 << 1)
        before = layout.read(path, layout.ROOM_BELL + layout.SEQUENCE, "I")
        view = rx.peek()
        assert bytes(view.data) == b"kept"
        if first is not None:
            assert layout.read(path, layout.ROOM_BELL + layout.SEQUENCE, "I") == before, "the first view holds that room"
            first.release()
        assert layout.read(path, layout.ROOM_BELL + layout.SEQUENCE, "I") != before
        assert sleeper.try_send(bytes(900))
        view.release()
        for bits in (layout.ARMED, layout.PARKED):
            layout.write(path, layout.ROOM_BELL + bits, 0)
