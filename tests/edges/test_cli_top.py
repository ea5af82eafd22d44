"""`shmring top`: true rates, 80 columns, and a terminal that is as it was."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

import pytest
from shmring_command import call_shmring, command_line, environment

import shmring
from shmring.cli import find, units
from shmring.cli.blocks import who_blocks
from shmring.cli.top_rates import Watch, rates_of, sparkline
from shmring.cli.top_screen import COLUMNS, plain, screen


@pytest.fixture
def ring(ring_name):
    with shmring.create(ring_name, "64 KiB") as made:
        yield made
    shmring.unlink(ring_name)


def watch_of(name):
    (found,) = find.given([name])
    return Watch(found)


def test_rates_are_what_was_done_in_the_time_between(ring, ring_name):
    watch = watch_of(ring_name)
    with ring.producer() as tx, ring.consumer() as rx:
        watch.enter(ring.stats(), 100.0)
        assert (watch.sample.sent, list(watch.rates)) == (0.0, [])
        tx.send_many([b"x" * 10] * 50)
        rx.recv_many(20)
        watch.enter(ring.stats(), 102.0)
        assert (watch.sample.sent, watch.sample.sent_bytes, watch.sample.received) == (25.0, 250.0, 10.0)
        assert watch.sample.lag == 30 and list(watch.rates) == [25.0]
    with ring.producer() as tx:  # another one, probably in the slot of the first
        tx.send(b"x")
        watch.enter(ring.stats(), 103.0)
        assert watch.sample.sent >= 0
    watch.close()


def test_a_counter_that_began_anew_gives_no_negative_rate(ring):
    with ring.producer() as tx:
        tx.send(b"x")
        (before,) = ring.stats().participants
    with ring.producer():
        (now,) = ring.stats().participants
    assert min(rates_of(now, before, 1.0).values()) == 0.0


def test_sparklines():
    assert sparkline([], 3) == "   "
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline(range(9), 4) == "▅▆▇█"
    assert sparkline([5.0], 1, 1.0) == "█"


def test_every_line_fits_into_80_columns(ring, ring_name):
    names = ["g" * 63, "default", "ü" * 20]
    members = [ring.consumer(name, ephemeral=True) for name in (names[0], names[2]) for _ in range(3)]
    with ring.producer() as tx:
        while tx.try_send(b"x" * 100):
            pass
        watch = watch_of(ring_name)
        watch.look()
        watch.look()
        other = watch_of("/" + "n" * 200)
        other.look()
        lines = plain(screen([watch, other], 0, None, "↑↓ choose, q quits")).split("\n")
        assert max(map(len, lines[:-2])) <= COLUMNS, lines
        assert any("which nobody reads" in line for line in lines)
        few = screen([watch, other] * 20, 24, 24, "")
        assert len(few) == 24
        watch.close()
    for member in members:
        member.close()


def test_plain_text_where_there_is_no_terminal(ring, ring_name):
    with ring.producer() as tx, ring.consumer():
        tx.send_many([b"x"] * 5)
        done = call_shmring("top", ring_name, "--count", "1", "--interval", "0.05")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"") and "\x1b" not in text
    assert ring_name[:15] in text and f"{os.getpid():>8} active" in text and "default" in text


def test_json_for_scripts(ring, ring_name):
    with ring.producer() as tx:
        tx.send(b"x")
        done = call_shmring("top", ring_name, "--json", "--count", "2", "--interval", "0.05")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [look["rings"][0]["name"] for look in looks] == [ring_name] * 2
    assert looks[0]["rings"][0]["groups"][0]["lag"] == 1
    assert looks[0]["rings"][0]["participants"][0]["messages_per_s"] == 0


def test_a_ring_that_goes_away_or_is_damaged_is_shown_as_such(tmp_path):
    path = tmp_path / "a.ring"
    shmring.create(path, 4096).close()
    watch = watch_of(str(path))
    watch.look()
    assert watch.sample is not None
    with open(path, "r+b") as file:
        file.truncate(4096)
    watch.look()
    assert watch.sample is None and watch.error
    assert "a.ring" in plain(screen([watch], 0, 24, ""))
    watch.look()
    watch.close()


class Terminal:
    """A command on a terminal of its own, whose output is collected."""

    def __init__(self, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        env = {**environment(), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command_line(*words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.output = b""
        self.seen = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            with self.seen:
                self.output += data
                self.seen.notify_all()
            if not data or b"THE END" in data:
                return

    def wait_for(self, pattern):
        with self.seen:
            self.seen.wait_for(lambda: re.search(pattern, self.output))

    def end(self):
        """Wait for it: its exit status, and whether the terminal is as it was."""
        status = self.process.wait()
        is_restored = termios.tcgetattr(self.slave) == self.before
        os.write(self.slave, b"THE END")
        self.reader.join()
        os.close(self.slave)
        os.close(self.master)
        return status, is_restored


@pytest.mark.parametrize("how", ["q", "ctrl-c", "sigterm"])
def test_leaving_puts_the_terminal_back(ring, ring_name, how):
    pytest.importorskip("rich", reason="rich is in the extra shmring[cli]")
    with ring.producer():
        top = Terminal("top", ring_name, "--interval", "0.1")
        top.wait_for(rb"q quits(.|\n)*q quits")
        if how == "sigterm":
            top.process.send_signal(signal.SIGTERM)
        else:
            os.write(top.master, {"q": b"q", "ctrl-c": b"\x03"}[how])
        status, is_restored = top.end()
    assert (status, is_restored) == (143 if how == "sigterm" else 0, True)
    # The other screen, and the cursor.
    for on, off in (b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25h", b"\x1b[?25l"):
        assert on in top.output and off in top.output
    assert top.output.rindex(b"\x1b[?1049l") > top.output.rindex(b"\x1b[?1049h")
    assert top.output.rindex(b"\x1b[?25h") > top.output.rindex(b"\x1b[?25l")
    assert b"Traceback" not in top.output


def test_keys_choose_the_ring_that_is_shown_in_full(tmp_path):
    pytest.importorskip("rich", reason="rich is in the extra shmring[cli]")
    paths = [tmp_path / "a.ring", tmp_path / "b.ring"]
    rings = [shmring.create(path, 4096) for path in paths]
    rings[1].consumer("only-in-b").close()
    top = Terminal("top", *paths, "--interval", "0.1")
    top.wait_for(rb"q quits")
    assert b"only-in-b" not in top.output
    os.write(top.master, b"\x1b[B")
    top.wait_for(rb"only-in-b")
    os.write(top.master, b"q")
    assert top.end() == (0, True)
    for ring in rings:
        ring.close()


# ---- full stalls, and who waits for whom ----


@pytest.fixture
def full(ring_name):
    """A ring without room, its producer, and its only group's member, which holds a message."""
    with shmring.create(ring_name, 4096) as ring, ring.producer(wait="park") as tx, ring.consumer() as rx:
        while tx.try_send(bytes(48)):
            pass
        with rx.peek():
            yield ring, tx
    shmring.unlink(ring_name)


def test_full_stalls_are_waits_for_room_and_nothing_else(full, ring_name):
    """Waiting until everything was read was shown as a full ring, and how long the stalls took was shown nowhere."""
    ring, tx = full
    watch = watch_of(ring_name)
    watch.enter(ring.stats(), 100.0)
    with pytest.raises(TimeoutError):
        tx.drain(timeout=0.01)
    watch.enter(ring.stats(), 101.0)
    assert watch.sample.stalls == 0.0
    assert "waited" not in call_shmring("stat", ring_name).stdout.decode()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            tx.send(bytes(48), timeout=0.1)
    watch.enter(ring.stats(), 102.0)
    assert watch.sample.stalls == 3.0 == watch.as_dict()["full_stalls_per_s"]
    (line,) = [line for line in plain(screen([watch], 0, None, "")).split("\n") if line.startswith("  producer")]
    assert line.split()[5:7] == ["B", "3"]
    text = call_shmring("stat", ring_name).stdout.decode()
    assert f"producer with pid {os.getpid()} waited 3 times for room, " in text
    (user,) = [user for user in ring.stats().participants if user.role == "producer"]
    assert user.stalled_ns > 150_000_000 and f"room, {units.format_ns(user.stalled_ns)} in all" in text


def test_who_waits_for_room_and_why_is_one_sentence(full, ring_name):
    ring, tx = full

    pid = os.getpid()
    (line,) = who_blocks(ring.stats())
    assert line.startswith("100% full: group 'default', read by pid ")

    def send():
        with pytest.raises(shmring.ShutDown):
            tx.send(bytes(48))

    waiter = threading.Thread(target=send)
    waiter.start()
    stats = ring.stats()
    while not next(user for user in stats.participants if user.role == "producer").parked:  # now and then it looks
        stats = ring.stats()
    ring.shutdown()
    waiter.join()
    assert who_blocks(stats) == [
        f"producer with pid {pid} waits for room: group 'default', read by pid {pid}, is behind; "
        f"consumer of 'default' with pid {pid} has not released what it took"
    ]


def test_the_dead_wait_for_nothing(full):
    ring, _ = full
    stats = ring.stats()
    users = [dataclasses.replace(user, alive=False, parked=True) for user in stats.participants]
    (line,) = who_blocks(dataclasses.replace(stats, participants=users))
    assert line.startswith("100% full: ") and "dead consumer of 'default' with pid" in line
