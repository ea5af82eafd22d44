"""Wake-ups are never lost: peers that sleep for an hour unless they are woken, over rings that are always
full or empty."""

from __future__ import annotations

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
