"""What `unlink` removes: rings, whatever state they are in, and nothing else that may have the name."""

from __future__ import annotations

import errno
import os
import socket

import pytest

import shmring

CONTENTS = {"empty": b"", "text": b"precious notes", "zeros": bytes(8192), "almost": b"shmring!" + bytes(8192)}


def put(named, content: bytes) -> str:
    with open(named.path(), "xb") as file:
        file.write(content)
    return named.path()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_unlink_leaves_a_file_that_is_no_ring_and_says_what_it_is(named, content):
    """It removed whatever one may remove: `unlink(path)` with the wrong path lost a file."""
    path = put(named, content)
    with pytest.raises(shmring.LayoutMismatch, match="is no ring") as caught:
        shmring.unlink(named.name)
    text = str(caught.value)
    assert str(named.name) in text and isinstance(caught.value, ValueError)
    assert (f"{len(content)} bytes" in text and repr(content[:8]) in text) if content else "empty" in text
    with open(path, "rb") as file:
        assert file.read() == content
    os.unlink(path)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_unlink_leaves_what_is_no_file_and_does_not_open_it(named, kind, monkeypatch):
    monkeypatch.chdir(os.path.dirname(named.path()))  # a socket's path is short
    path = os.path.basename(named.path())
    with socket.socket(socket.AF_UNIX) as end:
        os.mkfifo(path) if kind == "pipe" else end.bind(path)
        with pytest.raises(shmring.LayoutMismatch, match=f"it is a {kind}"):
            shmring.unlink(named.name)
    os.unlink(path)


def test_unlink_removes_a_shared_memory_name_that_is_no_text(unique_name):
    """Rings of such names could be made, but not removed."""
    name = unique_name + "\udcff"
    shmring.create(name, 4096).close()
    shmring.unlink(name)
    with pytest.raises(shmring.RingNotFound):
        shmring.open(name)


def test_unlink_leaves_a_folder(named):
    os.mkdir(named.path())
    with pytest.raises(IsADirectoryError, match=os.path.basename(named.path())):
        shmring.unlink(named.name)
    os.rmdir(named.path())


@pytest.mark.parametrize("size", [8, 100, 4096])
def test_unlink_removes_a_ring_that_was_cut(named, size):
    named.create(4096).close()
    os.truncate(named.path(), size)
    with pytest.raises(shmring.Error):
        shmring.open(named.name)
    shmring.unlink(named.name)
    assert not os.path.lexists(named.path())


@pytest.mark.parametrize("offset", range(8, 192, 8))
def test_unlink_removes_a_ring_that_is_damaged_unfinished_or_of_another_version(named, offset):
    named.create(4096).close()
    with open(named.path(), "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 8)
    shmring.unlink(named.name)
    assert not os.path.lexists(named.path())


@pytest.mark.parametrize("target", ["ring", "file", "nothing"])
def test_unlink_of_a_symbolic_link_removes_the_link_only(named, tmp_path, target):
    other = tmp_path / "other"
    if target == "ring":
        shmring.create(other, 4096).close()
    elif target == "file":
        other.write_text("precious")
    os.symlink(other, named.path())
    shmring.unlink(named.name)
    assert not os.path.lexists(named.path())
    assert other.exists() == (target != "nothing")


def test_unlink_without_a_free_descriptor_says_so_and_removes_nothing(named, peer):
    named.create(4096).close()
    other = peer(
        """
        import resource
        from shmring import backing, magic
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            shmring.unlink(sys.argv[1])
        except shmring.Error as error:
            say(error.errno, error)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        shmring.unlink(sys.argv[1])
        say("removed")
        """,
        str(named.name),
    )
    said = other.hear()
    assert said.startswith(str(errno.EMFILE)) and os.path.basename(named.path()) in said
    other.expect("removed")
    other.finish()
    assert not os.path.lexists(named.path())
