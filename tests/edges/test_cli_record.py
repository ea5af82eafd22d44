"""`shmring record` and `replay`: every message, its border and its time; files that were cut, and files of other tools."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
from shmring_command import call_shmring, run_shmring, wait_until

import shmring

pytest.importorskip("mcap", reason="mcap is in the extra shmring[cli]")

SIZES = random.Random(7)
MESSAGES = [SIZES.randbytes(SIZES.choice([0, 1, 15, 100, 5000])) for _ in range(300)]


@pytest.fixture
def recorded(ring_name, tmp_path):
    """A file with MESSAGES, recorded from a ring of that name, which is gone."""
    with shmring.create(ring_name, "4 MiB", producers="single", align=64, content="of a kind") as ring:
        with ring.producer() as tx:
            for message in MESSAGES:
                tx.send(message)
        ring.shutdown()
        path = tmp_path / "file.mcap"
        done = call_shmring("record", ring_name, path, "--json")
    shmring.unlink(ring_name)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": str(path), "messages": 300, "bytes": sum(map(len, MESSAGES)), "lost": 0}
    return path


def replayed(path, name, *words):
    """What replay sends, and its exit status and standard error."""
    done = call_shmring("replay", path, name, "--fast", "--capacity", "4 MiB", *words)
    with shmring.open(name) as ring, ring.consumer() as rx:
        ring.shutdown()
        messages = list(rx)
    shmring.unlink(name)
    return messages, done


def test_what_was_recorded_comes_again_in_a_ring_like_the_first(recorded, ring_name):
    done = call_shmring("replay", recorded, ring_name, "--fast", "--shutdown", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["messages"] == 300 and not json.loads(done.stdout)["cut"]
    with shmring.open(ring_name) as ring, ring.consumer() as rx:
        assert list(rx) == MESSAGES
        assert (ring.capacity, ring.producers, ring.align, ring.content) == (4 << 20, "single", 64, "of a kind")
    shmring.unlink(ring_name)


def test_another_tool_reads_the_file(recorded):
    from mcap.reader import make_reader

    with open(recorded, "rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        found = list(reader.iter_messages())
    assert summary.statistics.message_count == 300
    assert [message.data for _, _, message in found] == MESSAGES
    assert [message.sequence for _, _, message in found] == list(range(1, 301))
    assert all(channel.metadata["content"] == "of a kind" for _, channel, _ in found)


def test_a_file_that_was_cut_anywhere_gives_every_whole_message_before_the_cut(recorded, ring_name, tmp_path):
    content, cut = recorded.read_bytes(), tmp_path / "cut.mcap"
    most = 0
    for length in sorted({*random.Random(8).sample(range(600, len(content)), 25), len(content) - 1, len(content) - 9}):
        cut.write_bytes(content[:length])
        messages, done = replayed(cut, ring_name)
        assert done.returncode == 0 and b"was cut" in done.stderr
        assert messages == MESSAGES[: len(messages)] and len(messages) >= most
        most = len(messages)
    assert most == 300


def test_a_recorder_killed_at_any_moment_leaves_a_file_and_loses_nothing(ring_name, start, tmp_path):
    path = tmp_path / "file.mcap"
    sent = [b"%d" % number for number in range(20_000)]
    with shmring.create(ring_name, "64 KiB") as ring:
        recorder = start("record", ring_name, path, "--group", "default")
        with ring.producer() as tx:
            for begin in range(0, len(sent), 100):
                tx.send_many(sent[begin : begin + 100], timeout=60)
                if begin == 10_000:
                    recorder.kill()
                    recorder.wait()
                    other = start("record", ring_name, tmp_path / "rest.mcap", "--group", "default")
            ring.shutdown()
        assert other.wait() == 0
    shmring.unlink(ring_name)
    first, done = replayed(path, ring_name)
    assert b"was cut" in done.stderr
    rest, _ = replayed(tmp_path / "rest.mcap", ring_name)
    # At least once: what was in hand is in both files.
    again = len(first) - sent.index(rest[0])
    assert 0 <= again <= 256 and first[: len(first) - again] + rest == sent


def test_the_distances_in_time_are_those_of_the_recording(ring_name, tmp_path):
    from mcap.writer import Writer

    path = tmp_path / "slow.mcap"
    with open(path, "wb") as file:
        writer = Writer(file)  # in chunks, with zstd: as others write it
        writer.start("other")
        here = writer.register_channel("here", "json", 0)
        there = writer.register_channel("there", "json", 0)
        for number in range(4):
            writer.add_message(here, 5_000_000_000 + number * 100_000_000, b"%d" % number, 0)
            writer.add_message(there, 5_000_000_000 + number * 100_000_000, b"other", 0)
        writer.finish()
    for words, least in ([], 0.3), (["--speed", "3"], 0.1), (["--speed", "0.5"], 0.6):
        began = time.monotonic()
        done = call_shmring("replay", path, ring_name, "--topic", "here", *words)
        assert done.returncode == 0 and time.monotonic() - began >= least
        with shmring.open(ring_name) as ring, ring.consumer() as rx:
            assert rx.recv_many(10, timeout=0) == [b"0", b"1", b"2", b"3"]
        shmring.unlink(ring_name)
    refused = call_shmring("replay", path, ring_name, "--topic", "nowhere", "--fast")
    assert refused.returncode == 1 and b"it has here, there" in refused.stderr
    shmring.unlink(ring_name)


def test_messages_are_not_mixed_with_those_of_another_kind(recorded, ring_name):
    with shmring.create(ring_name, "4 MiB", content="codec pickle") as ring:
        refused = call_shmring("replay", recorded, ring_name)
        assert refused.returncode == 1 and b"'codec pickle'" in refused.stderr and b"'of a kind'" in refused.stderr
        assert ring.stats().tail == 0
    shmring.unlink(ring_name)


@pytest.mark.parametrize("content", [b"", b"no mcap file at all", b"\x89MCAP0\r\n"])
def test_what_is_no_recording_is_an_error(ring_name, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    done = call_shmring("replay", tmp_path / "file", ring_name)
    if content.startswith(b"\x89MCAP0"):  # one that was cut at its very begin
        assert done.returncode == 0 and b"was cut" in done.stderr
        shmring.unlink(ring_name)
    else:
        assert done.returncode == 1 and b"is no MCAP file" in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_with_a_complete_file(ring_name, start, tmp_path, signum):
    path = tmp_path / "file.mcap"
    with shmring.create(ring_name, "64 KiB") as ring, ring.producer() as tx:
        tx.send(b"hello")
        recorder = start("record", ring_name, path)
        wait_until(lambda: path.exists() and b"hello" in path.read_bytes())
        recorder.send_signal(signum)
        assert recorder.wait() == 0 and b"1 message, 5 B" in recorder.stderr.read()
    shmring.unlink(ring_name)
    assert replayed(path, ring_name)[0] == [b"hello"]
    assert replayed(path, ring_name)[1].stderr == b""


def test_a_file_is_not_overwritten_unless_asked(ring_name, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with shmring.create(ring_name, 4096) as ring:
        ring.shutdown()
        refused = call_shmring("record", ring_name, path)
        assert refused.returncode == 1 and b"--overwrite" in refused.stderr and path.read_text() == "precious"
        assert call_shmring("record", ring_name, path, "--overwrite").returncode == 0
    shmring.unlink(ring_name)


def test_a_group_made_for_the_recording_goes_with_it_and_an_old_one_stays(ring_name, tmp_path):
    with shmring.create(ring_name, 4096) as ring, ring.producer() as tx:
        tx.send(b"x")
        for words, groups in (["--group", "new"], {"default"}), (["--group", "kept", "--keep-group"], {"default", "kept"}):
            done = call_shmring("record", ring_name, tmp_path / "file", "--overwrite", "--duration", "0.1", *words)
            assert done.returncode == 0
            assert {group.name for group in ring.stats().groups} == groups
        assert call_shmring("record", ring_name, tmp_path / "more", "--group", "default", "--count", "1").returncode == 0
        assert {group.name: group.lag for group in ring.stats().groups}["default"] == 0
    shmring.unlink(ring_name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_loses_no_message_of_a_group(ring_name):
    with shmring.create(ring_name, "64 KiB") as ring, ring.producer() as tx:
        tx.send_many([b"x" * 1000] * 20)
        ring.shutdown()
        done = run_shmring("record", ring_name, "/dev/full", "--overwrite", "--group", "default")
        assert done.returncode == 1 and b"/dev/full: No space left" in done.stderr
        with ring.consumer() as rx:
            assert len(list(rx)) == 20
    shmring.unlink(ring_name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_ends_an_observers_recording_with_the_reason(ring_name):
    with shmring.create(ring_name, "64 KiB") as ring, ring.producer() as tx:
        tx.send_many([b"x" * 1000] * 20)
        ring.shutdown()
        done = call_shmring("record", ring_name, "/dev/full", "--overwrite")
        assert (done.returncode, done.stderr) == (1, b"shmring: record: /dev/full: No space left on device\n")
    shmring.unlink(ring_name)


def test_a_recording_that_could_not_begin_leaves_no_file(ring_name, tmp_path):
    """The next try failed: the file existed."""
    path = tmp_path / "file.mcap"
    shmring.create(ring_name, 4096).close()
    done = call_shmring("record", ring_name, path, "--group", "g" * 100)
    assert done.returncode == 1 and b"group's name" in done.stderr and not path.exists()
    path.write_bytes(b"mine")
    assert call_shmring("record", ring_name, path, "--group", "g" * 100).returncode == 1 and path.read_bytes() == b"mine"
    shmring.unlink(ring_name)
