"""What `shmring send` and `shmring recv` leave to each other and to their successors when one is ended."""

from __future__ import annotations

import os
import random
import signal
import subprocess

import pytest
from shmring_command import run_shmring, wait_until

import shmring

LINES = [b"%d %s\n" % (number, b"x" * (number % 50)) for number in range(50_000)]
RANDOM = random.Random(21).randbytes(4_000_000)


@pytest.mark.parametrize("content, mode", [(RANDOM, []), (b"".join(LINES), ["--lines"])], ids=["chunks", "lines"])
def test_a_receiver_killed_half_way_is_continued_by_the_next_one(ring_name, content, mode, start, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(content)
    sender = start("send", ring_name, source, "--capacity", "256 KiB", *mode)
    first = start("recv", ring_name)
    head = b""
    while len(head) < len(content) // 2:
        piece = first.stdout.read(65536)
        assert piece, first.stderr.read()
        head += piece
    first.send_signal(signal.SIGKILL)
    head += first.communicate()[0]
    second = start("recv", ring_name)
    tail = second.communicate()[0]
    assert (second.returncode, sender.wait()) == (0, 0)
    assert content.startswith(head) and content.endswith(tail)
    assert len(content) <= len(head) + len(tail)


def test_a_sender_killed_half_way_is_continued_by_the_next_one(ring_name, start):
    receiver = start("recv", ring_name)
    first = start("send", ring_name, "--lines", stdin=subprocess.PIPE)
    first.stdin.write(b"one\ntwo\nhalf a li")
    assert receiver.stdout.read(4) == b"one\n" and receiver.stdout.read(4) == b"two\n"
    first.kill()
    first.wait()
    assert run_shmring("send", ring_name, "--lines", given=b"three\n").returncode == 0
    assert receiver.communicate()[0] == b"three\n"
    assert receiver.returncode == 0


def test_a_second_sender_is_told_who_the_first_one_is(ring_name, start):
    receiver = start("recv", ring_name)
    first = start("send", ring_name, stdin=subprocess.PIPE)
    first.stdin.write(b"x")
    assert receiver.stdout.read(1) == b"x"
    second = run_shmring("send", ring_name, given=b"y")
    assert second.returncode == 1
    assert second.stderr.startswith(b"shmring: send: ") and str(first.pid).encode() in second.stderr
    other = run_shmring("recv", ring_name)
    assert other.returncode == 1
    assert other.stderr.startswith(b"shmring: recv: ") and str(receiver.pid).encode() in other.stderr
    first.stdin.close()
    assert (receiver.communicate()[0], receiver.returncode) == (b"", 0)


def test_a_closed_standard_output_ends_quietly_and_loses_nothing(ring_name, start):
    run_shmring("send", ring_name, "--lines", given=b"one\ntwo\n")
    reading, writing = os.pipe()
    os.close(reading)
    receiver = start("recv", ring_name, stdout=writing)
    os.close(writing)
    assert (receiver.communicate()[1], receiver.returncode) == (b"", 141)
    assert run_shmring("recv", ring_name).stdout == b"one\ntwo\n"


def test_a_full_disk_is_reported_and_loses_nothing(ring_name):
    run_shmring("send", ring_name, given=b"data")
    failed = run_shmring("recv", ring_name, "--output", "/dev/full")
    assert failed.returncode == 1
    assert failed.stderr == b"shmring: recv: /dev/full: No space left on device\n"
    assert run_shmring("recv", ring_name).stdout == b"data"


ENDINGS = pytest.mark.parametrize(
    "signum, status",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "term", "hangup"],
)


@ENDINGS
def test_a_receiver_that_waits_for_the_ring_ends_at_a_signal(ring_name, start, tmp_path, signum, status):
    receiver = start("recv", ring_name, "--output", tmp_path / "target")
    wait_until((tmp_path / "target").exists)
    receiver.send_signal(signum)
    assert (receiver.communicate(), receiver.returncode) == ((b"", b""), status)


@ENDINGS
def test_an_interrupted_receiver_is_continued(ring_name, start, signum, status):
    sender = start("send", ring_name, "--lines", stdin=subprocess.PIPE)
    first = start("recv", ring_name)
    sender.stdin.write(b"one\n")
    assert first.stdout.read(4) == b"one\n"
    first.send_signal(signum)
    assert (first.communicate(), first.returncode) == ((b"", b""), status)
    sender.stdin.write(b"two\n")
    sender.stdin.close()
    assert run_shmring("recv", ring_name).stdout in (b"two\n", b"one\ntwo\n")  # at least once
    assert sender.wait() == 0


@ENDINGS
def test_an_interrupted_sender_removes_a_ring_that_nobody_used(ring_name, start, signum, status):
    sender = start("send", ring_name, "--lines", stdin=subprocess.PIPE)
    sender.stdin.write(b"one\n")

    def is_sent() -> bool:
        try:
            ring = shmring.open(ring_name, timeout=0)
        except shmring.RingNotFound:
            return False
        tail = ring.stats().tail
        ring.close()
        return tail > 0

    wait_until(is_sent)
    sender.send_signal(signum)
    assert (sender.communicate(), sender.returncode) == ((b"", b""), status)
    assert run_shmring("recv", ring_name, "--timeout", "0").returncode == 1


@ENDINGS
def test_an_interrupted_sender_does_not_end_the_transfer(ring_name, start, signum, status):
    receiver = start("recv", ring_name)
    sender = start("send", ring_name, "--lines", stdin=subprocess.PIPE)
    sender.stdin.write(b"one\n")
    assert receiver.stdout.read(4) == b"one\n"
    sender.send_signal(signum)
    assert sender.wait() == status
    assert run_shmring("send", ring_name, given=b"two\n").returncode == 0
    assert (receiver.communicate()[0], receiver.returncode) == (b"two\n", 0)


def test_a_receiver_gives_up_when_its_ring_was_removed_and_has_no_sender(ring_name, start):
    receiver = start("recv", ring_name)
    sender = start("send", ring_name, stdin=subprocess.PIPE)
    sender.stdin.write(b"x")
    assert receiver.stdout.read(1) == b"x"
    sender.kill()
    sender.wait()
    shmring.unlink(ring_name)
    _, complaint = receiver.communicate()
    assert receiver.returncode == 1 and b"was removed" in complaint
