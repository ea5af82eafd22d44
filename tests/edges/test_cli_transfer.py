"""`shmring send` and `shmring recv` move any input to any output, byte for byte, in either order."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import pytest
from shmring_command import environment, run_shmring, wait_until

import shmring
from shmring.cli.ring_name import remove

RANDOM = random.Random(20).randbytes(3_000_001)
CONTENTS = {
    "random": RANDOM,
    "empty": b"",
    "one byte": b"x",
    "text": b"".join(b"line %d\n" % number for number in range(20_000)),
    "no newline at the end": b"first\nsecond\nthird",
    "only newlines": b"\n" * 1000,
    "other line ends": b"a\r\nb\rc\x0bd\x0ce\x85f\n",
    "a line longer than a block": b"short\n" + b"x" * 700_000 + b"\nshort\n",
}


@pytest.fixture(params=CONTENTS)
def content(request: pytest.FixtureRequest) -> bytes:
    return CONTENTS[request.param]


@pytest.mark.parametrize("mode", [[], ["--lines"], ["--chunk", "1000"]], ids=["chunks", "lines", "small chunks"])
def test_every_byte_arrives_when_the_sender_is_first(ring_name, content, mode):
    sent = run_shmring("send", ring_name, *mode, given=content)
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    received = run_shmring("recv", ring_name)
    assert (received.returncode, received.stderr) == (0, b"")
    assert received.stdout == content


@pytest.mark.parametrize("mode", [[], ["--lines"]], ids=["chunks", "lines"])
def test_every_byte_arrives_when_the_receiver_is_first(ring_name, content, mode, start, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    receiver = start("recv", ring_name, "--output", target)
    wait_until(target.exists)  # it opens its output before it waits for the ring
    sent = run_shmring("send", ring_name, source, *mode)
    assert (sent.returncode, sent.stderr) == (0, b"")
    assert receiver.wait() == 0
    assert target.read_bytes() == content


@pytest.mark.parametrize("mode", [[], ["--lines"]], ids=["chunks", "lines"])
def test_an_input_larger_than_the_ring_passes_through_it(ring_name, mode, start):
    content = CONTENTS["text"] * 10
    sender = start("send", ring_name, "--capacity", "16 KiB", *mode, stdin=subprocess.PIPE)
    receiver = start("recv", ring_name)
    feeder = threading.Thread(target=lambda: (sender.stdin.write(content), sender.stdin.close()))
    feeder.start()
    assert receiver.stdout.read() == content
    feeder.join()
    assert (sender.wait(), receiver.wait()) == (0, 0)


def test_a_ring_in_a_file_carries_the_bytes_and_is_removed(tmp_path):
    ring = tmp_path / "disk.ring"
    assert run_shmring("send", ring, given=RANDOM).returncode == 0
    assert ring.exists()
    received = run_shmring("recv", ring)
    assert (received.returncode, received.stdout) == (0, RANDOM)
    assert not ring.exists()


def test_each_line_is_one_message(ring_name):
    run_shmring("send", ring_name, "--lines", given=b"a\n\nb\r\nc\rd")
    ring = shmring.open(ring_name, timeout=0)
    with ring.consumer() as rx:
        assert list(rx) == [b"a\n", b"\n", b"b\r\n", b"c\rd"]
    ring.close()
    shmring.unlink(ring_name)


def test_a_line_reaches_the_receiver_while_the_input_is_still_open(ring_name, start):
    sender = start("send", ring_name, "--lines", stdin=subprocess.PIPE)
    receiver = start("recv", ring_name)
    for number in range(3):
        sender.stdin.write(b"line %d\n" % number)
        assert receiver.stdout.read(7) == b"line %d\n" % number
    sender.stdin.close()
    assert (receiver.wait(), sender.wait()) == (0, 0)


def test_chunks_have_at_most_the_size_asked_for(ring_name):
    run_shmring("send", ring_name, "--chunk", "1 KiB", given=RANDOM[:2500])
    ring = shmring.open(ring_name, timeout=0)
    with ring.consumer() as rx:
        messages = list(rx)
    assert b"".join(messages) == RANDOM[:2500]
    assert max(map(len, messages)) <= 1024
    ring.close()
    shmring.unlink(ring_name)


def test_keep_leaves_the_ring_in_place(ring_name):
    run_shmring("send", ring_name, given=b"data")
    assert run_shmring("recv", ring_name, "--keep").stdout == b"data"
    again = run_shmring("recv", ring_name)
    assert (again.returncode, again.stdout) == (0, b"")
    assert run_shmring("recv", ring_name, "--timeout", "0").returncode == 1


def test_the_ring_stays_while_another_group_has_to_receive(ring_name):
    ring = shmring.create(ring_name, "64 KiB", producers="single")
    ring.consumer(group="archive").close()
    ring.close()
    run_shmring("send", ring_name, given=b"data")
    assert run_shmring("recv", ring_name).stdout == b"data"
    assert run_shmring("recv", ring_name, "--group", "archive").stdout == b"data"


@pytest.mark.parametrize("mode, expected", [([], b"new"), (["--append"], b"old new")], ids=["anew", "append"])
def test_the_output_file_is_written_anew_or_added_to(ring_name, tmp_path, mode, expected):
    target = tmp_path / "target"
    target.write_bytes(b"old ")
    run_shmring("send", ring_name, given=b"new")
    assert run_shmring("recv", ring_name, "--output", target, *mode).returncode == 0
    assert target.read_bytes() == expected


def test_an_output_file_keeps_its_content_while_there_is_no_ring(ring_name, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    assert run_shmring("recv", ring_name, "--output", target, "--timeout", "0").returncode == 1
    assert target.read_bytes() == b"old"


# ---- an earlier ring of that name ----


def test_a_complete_transfer_that_nobody_received_is_not_overwritten(ring_name):
    run_shmring("send", ring_name, "--lines", given=b"one\ntwo\n")
    refused = run_shmring("send", ring_name, given=b"other")
    assert refused.returncode == 1
    assert b"holds 2 messages" in refused.stderr and b"--replace" in refused.stderr
    assert run_shmring("send", ring_name, "--replace", given=b"other").returncode == 0
    assert run_shmring("recv", ring_name).stdout == b"other"


def test_a_received_ring_is_replaced(ring_name):
    run_shmring("send", ring_name, given=b"one")
    run_shmring("recv", ring_name, "--keep")
    assert run_shmring("send", ring_name, given=b"two").returncode == 0
    assert run_shmring("recv", ring_name).stdout == b"two"


def test_a_ring_in_use_is_not_replaced(ring_name, start):
    sender = start("send", ring_name, stdin=subprocess.PIPE)
    receiver = start("recv", ring_name)
    sender.stdin.write(b"x")
    assert receiver.stdout.read(1) == b"x"
    refused = run_shmring("send", ring_name, "--replace", given=b"other")
    assert refused.returncode == 1
    assert str(sender.pid).encode() in refused.stderr and str(receiver.pid).encode() in refused.stderr
    sender.stdin.close()
    assert (receiver.wait(), receiver.stdout.read(), sender.wait()) == (0, b"", 0)


def test_another_capacity_than_that_of_the_ring_is_an_error(ring_name):
    shmring.create(ring_name, "64 KiB", producers="single").close()
    refused = run_shmring("send", ring_name, "--capacity", "128 KiB", given=b"x")
    assert refused.returncode == 1 and refused.stderr.startswith(b"shmring: send: ")
    assert run_shmring("send", ring_name, "--capacity", "64 KiB", given=b"x").returncode == 0
    assert run_shmring("recv", ring_name).stdout == b"x"


def test_a_name_that_changed_hands_is_not_removed(tmp_path):
    path = tmp_path / "a.ring"
    with shmring.create(path, "4 KiB") as mine:
        path.rename(tmp_path / "b.ring")
        assert not remove(str(path), mine)
        shmring.create(path, "4 KiB").close()
        assert not remove(str(path), mine)
        assert path.exists()
        assert remove(str(tmp_path / "b.ring"), mine)
        assert not (tmp_path / "b.ring").exists()


def test_the_command_line_is_not_imported_with_the_package():
    code = "import sys, shmring; sys.exit(not {'shmring.cli', 'rich', 'hdrh'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
