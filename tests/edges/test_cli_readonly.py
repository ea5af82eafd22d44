"""Tools that look at a ring cannot disturb it: not one byte of it changes, and nobody has to wait for them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from shmring_command import call_shmring, wait_until

import shmring

LOOKING = {
    "ls": ["ls"],
    "stat": ["stat", "NAME", "--json"],
    "doctor": ["doctor", "NAME"],
    "tail": ["tail", "NAME", "--no-follow"],
    "top": ["top", "NAME", "--count", "1", "--interval", "0.05"],
    "metrics": ["metrics", "NAME"],
    "record": ["record", "NAME", "FILE", "--duration", "0.1"],
}


@pytest.mark.parametrize("tool", LOOKING)
@pytest.mark.parametrize("topology", ["single", "multi"])
def test_a_tool_that_looks_changes_no_byte(tool, topology, ring_name, tmp_path):
    path = f"/dev/shm/{ring_name}"
    words = [{"NAME": ring_name, "FILE": str(tmp_path / "file")}.get(word, word) for word in LOOKING[tool]]
    with shmring.create(ring_name, "64 KiB", producers=topology) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"message %d" % number for number in range(100)])
        child = os.fork()
        if child == 0:
            held = shmring.open(ring_name).consumer("dead")  # noqa: F841
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        with rx.peek():
            before = Path(path).read_bytes()
            changed = os.stat(path).st_mtime_ns
            done = call_shmring(*words)
            assert done.returncode == (1 if tool == "doctor" else 0), done.stderr
            assert Path(path).read_bytes() == before
            assert os.stat(path).st_mtime_ns == changed
    shmring.unlink(ring_name)


def test_a_tool_that_is_stopped_while_it_follows_holds_nobody_back(ring_name, start):
    with shmring.create(ring_name, "64 KiB") as ring:
        followers = [start("tail", ring_name), start("record", ring_name, "/dev/null", "--overwrite"), start("top", ring_name)]
        path = f"/dev/shm/{ring_name}"

        def has_it(pid):
            return path in open(f"/proc/{pid}/maps").read()

        wait_until(lambda: all(has_it(each.pid) for each in followers))
        for each in followers:
            each.send_signal(signal.SIGSTOP)
        ring.remove_group("default")
        with ring.producer() as tx:
            for _ in range(1000):  # many times what fits
                tx.send(bytes(1000), timeout=0)
    shmring.unlink(ring_name)


def test_reading_tools_work_on_what_nobody_may_write(tmp_path):
    path = tmp_path / "a.ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx:
        tx.send(b"hello")
    os.chmod(path, 0o400)
    for words in (["stat", path, "--json"], ["doctor", path], ["tail", path, "--no-follow"], ["ls", path]):
        assert call_shmring(*words).returncode == 0
    assert call_shmring("tail", path, "--no-follow").stdout == b"hello\n"
    assert json.loads(call_shmring("stat", path, "--json").stdout)["groups"][0]["lag"] == 1
