"""`shmring doctor` and `rm`: what is wrong is named and mended where it can be; what is in use stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from shmring_command import call_shmring, environment, run_shmring

import shmring

MEMBER = """
import os, signal, sys, shmring
ring = shmring.open(sys.argv[1])
handle = ring.consumer() if sys.argv[2] == "consumer" else ring.producer()
held = handle.peek() if sys.argv[2] == "consumer" else handle.reserve(10)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def member():
    """Start an unrelated process that holds a message or a reservation; killed at the end."""
    started = []

    def start(name, role):
        process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, name, role], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def ring(ring_name):
    with shmring.create(ring_name, "64 KiB") as made:
        with made.producer() as tx:
            tx.send(b"first")
        yield made
    if os.path.exists(f"/dev/shm/{ring_name}"):
        shmring.unlink(ring_name)


def test_a_sound_ring_has_nothing_wrong(ring, ring_name):
    done = call_shmring("doctor", ring_name)
    assert (done.returncode, done.stderr) == (0, b"") and b"nothing is wrong" in done.stdout


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_the_dead_are_named_and_buried_by_repair(ring, ring_name, member, role):
    dead = member(ring_name, role)
    assert call_shmring("doctor", ring_name).returncode == 0
    dead.kill()
    dead.wait()
    found = call_shmring("doctor", ring_name)
    assert found.returncode == 1 and found.stdout.startswith(b"dead ") and str(dead.pid).encode() in found.stdout
    assert call_shmring("doctor", ring_name).stdout == found.stdout  # looking has changed nothing
    done = call_shmring("doctor", ring_name, "--repair", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["problems"]) == (0, [])
    assert len(report["repaired"]) == 1 and str(dead.pid) in report["repaired"][0]
    assert call_shmring("doctor", ring_name, "--repair").returncode == 0


def test_who_is_stopped_with_something_in_its_hands_is_named(ring, ring_name, member):
    stopped = member(ring_name, "producer")
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
    done = call_shmring("doctor", ring_name)
    assert done.returncode == 1
    assert f"producer with pid {stopped.pid} is stopped (SIGSTOP) with an open reservation".encode() in done.stdout


def test_a_damaged_word_is_named_and_not_repaired(ring, ring_name):
    with open(f"/dev/shm/{ring_name}", "r+b") as file:
        file.seek(4352)  # shutdown
        file.write(b"\x07")
        file.flush()
        done = call_shmring("doctor", ring_name, "--repair")
        assert done.returncode == 1 and done.stdout.startswith(b"damaged")
        file.seek(4352)
        file.write(b"\x00")


def test_what_never_was_a_ring_is_said_to_be_none(tmp_path):
    (tmp_path / "text").write_text("no ring " * 1000)
    for tool in ("doctor", "stat"):
        assert call_shmring(tool, tmp_path / "text").returncode == 1


# ---- rm ----


def test_rm_refuses_while_somebody_lives_and_names_who(ring, ring_name, member):
    user = member(ring_name, "consumer")
    done = run_shmring("rm", ring_name)
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"a consumer of group 'default' with pid {user.pid}".encode() in done.stderr
    assert f"process {os.getpid()}, which has it open".encode() in done.stderr
    assert call_shmring("rm", ring_name, "--force").returncode == 0
    assert not os.path.exists(f"/dev/shm/{ring_name}")


def test_rm_removes_what_nobody_uses_any_more(ring_name, member):
    shmring.create(ring_name, 4096).producer().send(b"x")
    dead = member(ring_name, "consumer")
    dead.kill()
    dead.wait()
    import gc

    gc.collect()
    assert (call_shmring("rm", ring_name).returncode, os.path.exists(f"/dev/shm/{ring_name}")) == (0, False)
    assert b"there is no ring" in call_shmring("rm", ring_name).stderr


def test_who_only_looks_is_not_in_the_way(ring_name, start):
    shmring.create(ring_name, 4096).close()
    with shmring.open(ring_name, readonly=True), shmring.open(ring_name, readonly=True).consumer(lossy=True):
        assert call_shmring("rm", ring_name).returncode == 0


def test_rm_goes_on_after_a_name_that_it_cannot_remove(tmp_path):
    a, b, text = tmp_path / "a", tmp_path / "b", tmp_path / "text"
    shmring.create(a, 4096).close()
    shmring.create(b, 4096).close()
    text.write_text("no ring " * 1000)
    done = call_shmring("rm", "--force", a, text, b)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert not a.exists() and not b.exists() and text.exists()


def test_what_is_damaged_goes_by_force_only(tmp_path):
    path = tmp_path / "ring"
    shmring.create(path, 4096).close()
    with open(path, "r+b") as file:
        file.seek(24)
        file.write(b"\x07")
    refused = call_shmring("rm", path)
    assert refused.returncode == 1 and b"--force removes it" in refused.stderr and path.exists()
    assert call_shmring("rm", path, "--force").returncode == 0 and not path.exists()


# ---- what a new user meets ----


def test_a_file_of_this_folder_that_was_meant_is_named(ring_name, tmp_path, monkeypatch):
    """A name without a slash is one in shared memory."""
    monkeypatch.chdir(tmp_path)
    shmring.create("./a.ring", 4096).close()
    for words in ["stat"], ["doctor"], ["rm"], ["tail"], ["recv", "--timeout", "0"]:
        done = call_shmring(words[0], "a.ring", *words[1:])
        reason = f"shmring: {words[0]}: there is no ring 'a.ring'; the file of that name here is ./a.ring\n"
        assert (done.returncode, done.stderr.decode()) == (1, reason)
    assert b"no ring; the file of that name here is ./a.ring" in call_shmring("ls", "a.ring").stdout
    (tmp_path / "link").symlink_to("a.ring")
    assert b"symbolic link" in call_shmring("ls", "./link").stdout


@pytest.mark.parametrize("tool", ["stat", "doctor", "tail", "rm", "send", "recv"])
def test_a_folder_or_a_pipe_is_said_to_be_no_ring(tmp_path, tool):
    """A folder was "No such device", a pipe an illegal seek."""
    done = call_shmring(tool, f"{tmp_path}/", *(["/dev/null"] if tool == "send" else []))
    assert (done.returncode, done.stderr.decode()) == (1, f"shmring: {tool}: {tmp_path}/: Is a directory\n")
    os.mkfifo(tmp_path / "pipe")
    done = call_shmring(tool, tmp_path / "pipe", *(["/dev/null"] if tool == "send" else []))
    assert done.returncode == 1 and b"is no ring" in done.stdout + done.stderr


def test_whose_ring_it_is_is_said_as_an_option(ring_name):
    shmring.create(ring_name, 4096).close()
    os.chown(f"/dev/shm/{ring_name}", 65534, 65534) if os.geteuid() == 0 else pytest.skip("needs root, to give a file away")
    done = call_shmring("stat", ring_name)
    assert done.returncode == 1 and done.stderr.endswith(b"; it is opened only with --trust 65534\n")
    assert call_shmring("stat", ring_name, "--trust", "65534").returncode == 0
    os.chown(f"/dev/shm/{ring_name}", os.geteuid(), -1)
    shmring.unlink(ring_name)


def test_an_error_names_a_file_once():
    from shmring.cli.failure import describe

    text = "cannot open '/x/a': Permission denied"
    assert describe(PermissionError(13, text, "/x/a")) == text


def test_who_is_stopped_is_shown_as_such(ring, ring_name, member):
    stopped = member(ring_name, "consumer")
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
    line = f"{stopped.pid}  stopped"
    assert line in call_shmring("stat", ring_name).stdout.decode()
    top = call_shmring("top", ring_name, "--count", "1", "--interval", "0.05").stdout.decode()
    assert f"{stopped.pid} stopped" in top
    (user,) = json.loads(call_shmring("stat", ring_name, "--json").stdout)["participants"]
    assert user["stopped"] is True
