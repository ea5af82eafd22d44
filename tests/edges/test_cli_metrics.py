"""`shmring metrics` is what a scraper reads, and completion is what a shell asks for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request

import pytest
from shmring_command import call_shmring, command_line, environment

import shmring
from shmring.cli import COMMANDS


@pytest.fixture
def ring(ring_name):
    with shmring.create(ring_name, "64 KiB") as made:
        yield made
    shmring.unlink(ring_name)


def samples_of(text):
    """name{labels} -> value, by the parser of prometheus_client, which is strict."""
    reason = "prometheus_client is in the extra shmring[cli]"
    parser = pytest.importorskip("prometheus_client.openmetrics.parser", reason=reason)
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.items()))] = sample.value
    return found


def test_the_text_has_every_number(ring, ring_name):
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"x" * 10] * 5)
        rx.recv()
        done = call_shmring("metrics", ring_name)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.endswith(b"# EOF\n")
    found = samples_of(done.stdout.decode())
    here = ("ring", ring_name)
    assert found["shmring_ring_capacity_bytes", here] == 65536
    assert found["shmring_group_lag_messages", ("group", "default"), here] == 4
    assert found["shmring_ring_participants", here, ("role", "consumer")] == 1
    who = ("group", ""), ("pid", str(os.getpid())), here, ("role", "producer"), ("slot", "0")
    assert found[("shmring_participant_messages_total", *who)] == 5
    assert found[("shmring_participant_payload_bytes_total", *who)] == 50


def test_a_ring_that_cannot_be_read_is_told_and_does_not_hide_the_others(ring, ring_name, tmp_path):
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    bad = tmp_path / "bad.ring"
    shmring.create(bad, 4096).close()
    with open(bad, "r+b") as file:
        file.seek(24)
        file.write(b"\x07")
    found = samples_of(call_shmring("metrics", bad, ring_name).stdout.decode())
    assert found["shmring_ring_error", ("ring", str(bad)), ("state", "damaged")] == 1
    assert found["shmring_ring_capacity_bytes", ("ring", ring_name)] == 65536


def test_it_serves_a_scraper_until_it_is_told_to_end(ring, ring_name, start):
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    server = start("metrics", ring_name, "--serve", "0")
    address = server.stderr.readline().decode().split()[-1]
    with ring.producer() as tx:
        for sent in 1, 2:
            tx.send(b"x")
            request = urllib.request.Request(address, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
            with urllib.request.urlopen(request) as answer:
                assert "openmetrics" in answer.headers["Content-Type"]
                found = samples_of(answer.read().decode())
            assert found["shmring_group_lag_messages", ("group", "default"), ("ring", ring_name)] == sent
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0


def test_full_stalls_are_told_in_times_and_seconds(ring, ring_name):
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    with ring.producer() as tx:
        while tx.try_send(bytes(1000)):
            pass
        with pytest.raises(TimeoutError):
            tx.send(bytes(1000), timeout=0.1)
        (user,) = ring.stats().participants
        found = samples_of(call_shmring("metrics", ring_name).stdout.decode())
    who = ("group", ""), ("pid", str(os.getpid())), ("ring", ring_name), ("role", "producer"), ("slot", "0")
    assert found[("shmring_participant_full_stalls_total", *who)] == 1
    assert found[("shmring_participant_full_stalled_seconds_total", *who)] == pytest.approx(user.stalled_ns / 1e9)


def test_a_ring_that_is_named_twice_is_told_once(ring, ring_name):
    """The same sample twice is no OpenMetrics text."""
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    text = call_shmring("metrics", ring_name, ring_name).stdout.decode()
    assert text.count("shmring_ring_fill_ratio{") == 1


def test_a_port_that_is_taken_is_named(ring_name):
    pytest.importorskip("prometheus_client", reason="prometheus_client is in the extra shmring[cli]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = call_shmring("metrics", ring_name, "--serve", number)
    reason = f"shmring: metrics: 127.0.0.1, port {number}: Address already in use\n"
    assert (done.returncode, done.stderr.decode()) == (1, reason)


# ---- completion ----


def completions(line):
    """What the shell would be offered at the end of `line`."""
    pytest.importorskip("argcomplete", reason="argcomplete is in the extra shmring[cli]")
    reading, writing = os.pipe()
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    answer = {"_ARGCOMPLETE_STDOUT_FILENAME": f"/proc/self/fd/{writing}"}
    env = {**environment(), **asked, **answer}
    subprocess.run(command_line(), env=env, pass_fds=[writing], check=False, capture_output=True)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return {word.strip() for word in pipe.read().split("\n") if word.strip()}


def test_commands_options_and_rings_complete(ring, ring_name):
    names = {command.__name__.rsplit(".", 1)[1] for command in COMMANDS}
    assert names <= completions("shmring ")
    assert completions("shmring st") == {"stat"}
    assert "--no-follow" in completions("shmring tail x --")
    assert completions(f"shmring stat {ring_name[:-1]}") >= {ring_name}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_code_asks_this_command(shell):
    pytest.importorskip("argcomplete", reason="argcomplete is in the extra shmring[cli]")
    done = call_shmring("completion", shell)
    assert done.returncode == 0 and b"shmring" in done.stdout and b"_ARGCOMPLETE" in done.stdout
