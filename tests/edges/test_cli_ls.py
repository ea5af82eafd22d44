"""`shmring ls` and `stat`: every ring there is, and whatever else stands in its place."""

from __future__ import annotations

import json
import os
import signal

import pytest
from shmring_command import call_shmring, run_shmring

import shmring

NOBODY = 65534


def listed(*words):
    """What another process's `ls --json` says, by name."""
    done = run_shmring("ls", "--json", *words)
    assert done.stderr == b""
    return {ring["name"]: ring for ring in json.loads(done.stdout)}


@pytest.fixture
def ring(ring_name):
    with shmring.create(ring_name, "64 KiB") as made:
        yield made
    shmring.unlink(ring_name)


def test_a_ring_in_shared_memory_is_listed_with_who_uses_it(ring, ring_name):
    with ring.producer() as tx, ring.consumer(), ring.consumer("other"), ring.consumer(lossy=True):
        tx.send_many([b"x"] * 5)
        found = listed()[ring_name]
    assert (found["kind"], found["capacity"], found["lag"], found["dead"]) == ("shm", 65536, 5, 0)
    assert found["live"] == {"producer": 1, "consumer": 2, "observer": 1}
    assert found["error"] is None and os.getpid() in found["mapped_by"]


def test_files_and_rings_without_a_name_are_found_by_who_has_them(tmp_path):
    path, gone = tmp_path / "a.ring", tmp_path / "b.ring"
    with shmring.create(path, 4096), shmring.create(gone, 4096) as unlinked, shmring.anonymous("128 KiB") as nameless:
        shmring.unlink(gone)
        found = listed()
        assert found[str(path)]["kind"] == "file"
        ours = {ring["uuid"]: ring for ring in found.values() if not ring["error"]}
        assert ours[nameless.uuid.hex()]["kind"] == "memfd"
        assert ours[unlinked.uuid.hex()]["kind"] == "unlinked"
        name = ours[nameless.uuid.hex()]["name"]
        facts = json.loads(call_shmring("stat", name, "--json").stdout)
        assert (facts["name"], facts["capacity"], facts["uuid"]) == (name, 128 << 10, nameless.uuid.hex())
        assert call_shmring("doctor", name).returncode == 0
        assert b"no name to be removed" in call_shmring("rm", name).stderr


def test_only_what_is_given_is_listed_if_something_is_given(tmp_path):
    with shmring.create(tmp_path / "a.ring", 4096), shmring.create(tmp_path / "b.ring", 4096):
        (tmp_path / "text").write_text("no ring")
        assert {os.path.basename(name) for name in listed(tmp_path)} == {"a.ring", "b.ring"}
        assert set(listed(tmp_path / "b.ring")) == {str(tmp_path / "b.ring")}
        assert call_shmring("ls", tmp_path / "text").returncode == 1
        assert call_shmring("ls", tmp_path / "none").returncode == 1


def damage(path, what):
    with open(path, "r+b") as file:
        if what == "cut short":
            file.truncate(4096 + 512)
        elif what == "not finished":
            file.seek(16)
            file.write(bytes(8))
        elif what == "other layout":
            file.seek(8)
            file.write(b"\x63")
        else:
            file.seek(24)
            file.write(b"\x07")


@pytest.mark.parametrize("what", ["cut short", "not finished", "other layout", "damaged"])
def test_what_is_no_sound_ring_is_listed_as_such(tmp_path, what):
    path = tmp_path / "bad.ring"
    shmring.create(path, 4096).close()
    damage(path, what)
    (found,) = listed(path).values()
    assert found["state"] == ("damaged" if what == "cut short" else what) and found["error"]
    text = call_shmring("ls", path).stdout.decode()
    assert found["state"] in text
    doctor = call_shmring("doctor", path)
    assert doctor.returncode == 1 and doctor.stdout.startswith(b"damaged") and doctor.stderr == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_rings_of_others_are_listed_and_those_that_cannot_be_read_are_shown_as_such(ring, ring_name):
    tx = ring.producer()  # noqa: F841
    call_shmring("ls", "--json")  # loads everything: the other user may not be able to read where Python lies
    found = as_nobody()
    assert (found[ring_name]["state"], found[ring_name]["owner"]) == ("unreadable", 0)
    os.chmod(f"/dev/shm/{ring_name}", 0o644)
    found = as_nobody()
    assert (found[ring_name]["error"], found[ring_name]["live"]["producer"]) == (None, 1)


def as_nobody():
    """What `ls --json` says to another user, by name."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(call_shmring("ls", "--json").stdout)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return {each["name"]: each for each in json.loads(answer)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_ring_of_another_user_is_opened_only_if_its_maker_is_named(ring, ring_name):
    os.chown(f"/dev/shm/{ring_name}", NOBODY, NOBODY)
    for words in (["stat"], ["doctor"], ["tail", "--no-follow"], ["rm"]):
        refused = call_shmring(words[0], ring_name, *words[1:])
        assert refused.returncode == 1 and b"trust" in refused.stderr, words
    for user in ("nobody", str(NOBODY), "anyone", f"1,{NOBODY}"):
        assert call_shmring("stat", ring_name, "--trust", user).returncode == 0
    assert call_shmring("stat", ring_name, "--trust", "1").returncode == 1
    assert call_shmring("stat", ring_name, "--trust", "no-such-user").returncode == 2


def test_the_dead_are_counted_and_named(ring, ring_name):
    child = os.fork()
    if child == 0:
        held = shmring.open(ring_name).producer()  # noqa: F841
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert listed()[ring_name]["dead"] == 1
    assert b"DEAD" in call_shmring("stat", ring_name).stdout
    doctor = call_shmring("doctor", ring_name, "--json")
    (problem,) = json.loads(doctor.stdout)["problems"]
    assert doctor.returncode == 1 and problem["kind"] == "dead" and str(child) in problem["text"]


def test_stat_says_everything(ring, ring_name):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"x" * 100)
        facts = json.loads(call_shmring("stat", ring_name, "--json").stdout)
        text = call_shmring("stat", ring_name).stdout.decode()
        assert rx.recv() == b"x" * 100
    assert facts["uuid"] == ring.uuid.hex() and facts["creator_pid"] == os.getpid() and facts["is_of_this_boot"]
    assert facts["groups"][0]["lag"] == 1 and facts["groups"][0]["members"] == [os.getpid()]
    assert {user["role"] for user in facts["participants"]} == {"producer", "consumer"}
    assert facts["participants"][0]["bytes"] == 100
    for words in ("64 KiB", ring.uuid.hex(), "default", "consumer default", str(os.getpid())):
        assert words in text


def test_who_keeps_a_ring_full_is_named(ring, ring_name):
    with ring.producer() as tx, ring.consumer("slow"):
        while tx.try_send(bytes(1000)):
            pass
        text = call_shmring("stat", ring_name).stdout.decode()
        behind = f"group 'default', which nobody reads, is behind; group 'slow', read by pid {os.getpid()}, is behind"
        assert f"100% full: {behind}" in text
        doctor = call_shmring("doctor", ring_name)
        assert doctor.returncode == 1 and b"which nobody reads" in doctor.stdout


def test_no_ring_is_an_error_that_says_so(ring_name):
    for words in (["stat"], ["tail"], ["doctor"], ["rm"], ["record", "--count", "1", "x"]):
        done = call_shmring(words[0], ring_name, *words[1:])
        assert (done.returncode, done.stdout) == (1, b"") and b"there is no ring" in done.stderr


def test_names_that_others_gave_cannot_play_tricks_on_a_terminal(tmp_path):
    evil = "a\x1b[2J\x9bb"
    path = tmp_path / evil
    with shmring.create(path, 4096, content=evil) as ring, ring.consumer(evil):
        for words in (["ls", path], ["stat", path], ["doctor", path], ["top", path, "--count", "1", "--interval", "0.05"]):
            text = call_shmring(*words).stdout.decode()
            assert "\x1b" not in text and "\x9b" not in text and "x1b[2J" in text
        facts = json.loads(call_shmring("stat", path, "--json").stdout)
        assert facts["content"] == evil and facts["groups"][1]["name"] == evil


def test_a_name_that_is_no_utf_8_is_listed_and_can_be_used(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.ring")
    shmring.create(path, 4096).close()
    done = run_shmring("ls", path)
    assert done.returncode == 0 and b"\xff.ring" in done.stdout
    assert json.loads(run_shmring("ls", path, "--json").stdout.decode("utf-8", "surrogateescape"))[0]["name"] == path
    assert run_shmring("metrics", path).returncode == 0
    assert run_shmring("rm", path).returncode == 0


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(ring, ring_name, tmp_path, monkeypatch):
    real = os.listdir

    def listdir(path="."):
        if str(path) == str(tmp_path):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    done = call_shmring("ls", tmp_path, ring_name, "--json")
    folder, other = json.loads(done.stdout)
    assert (done.returncode, done.stderr, folder["error"], other["name"]) == (1, b"", "Permission denied", ring_name)
