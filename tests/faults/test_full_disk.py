"""A file system that is full: creating says so with the numbers and leaves nothing; without reserved pages a ring
says it when the page is missing."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

import shmring
from shmring import errors

pytestmark = pytest.mark.timeout(300, method="signal")

PAGE = os.sysconf("SC_PAGESIZE")
RING_PAGES = 3  # max_participants=1, max_groups=1: two of control pages, one of data


@pytest.fixture
def small(tmp_path):
    """Mount a tmpfs of so many pages, or inodes; removed at the end."""
    folder = tmp_path / "small"

    def mount(options):
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False)
        if done.returncode:
            folder.rmdir()
            pytest.skip(f"may not mount a small tmpfs: {done.stderr.decode().strip()}")
        return folder

    yield mount
    if folder.exists():
        subprocess.run(["umount", "-l", folder], check=True)


def free_pages(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize // PAGE


@pytest.mark.parametrize("exist_ok", [False, True])
def test_creating_fails_cleanly_for_every_page_that_is_missing(small, exist_ok):
    folder = small(f"size={64 * PAGE}")
    shape = {"max_participants": 1, "max_groups": 1, "exist_ok": exist_ok}
    with shmring.create(folder / "first", 4096, **shape):
        needed = 64 - free_pages(folder)
    os.unlink(folder / "first")
    assert needed >= RING_PAGES
    for free in range(needed + 1):
        with open(folder / "filler", "wb") as filler:
            filler.write(bytes((64 - free) * PAGE))
        if free < needed:
            with pytest.raises(errors.NoSpace, match=rf"needed {needed * PAGE} bytes, free {free * PAGE}") as caught:
                shmring.create(folder / "ring", 4096, **shape)
            assert caught.value.errno == errno.ENOSPC and isinstance(caught.value, shmring.Error)
            assert os.listdir(folder) == ["filler"] and free_pages(folder) == free
        else:
            with shmring.create(folder / "ring", 4096, **shape) as ring, ring.producer() as tx:
                assert free_pages(folder) == 0
                for _ in range(10):  # all of its pages are there: it needs no more
                    tx.send(bytes(4080))
                    with pytest.raises(TimeoutError):
                        tx.send(b"x", timeout=0)
                    tx.close()
                    with ring.consumer() as rx:
                        assert rx.recv(0) == bytes(4080)
                    tx = ring.producer()
                tx.close()


def test_a_file_system_without_inodes_is_no_space_in_its_class(small):
    folder = small("nr_inodes=2,size=1m")
    (folder / "last").touch()
    with pytest.raises(errors.NoSpace):
        shmring.create(folder / "ring", 4096)
    os.unlink(folder / "last")
    shmring.create(folder / "ring", 4096).close()


@pytest.mark.parametrize("size", [100, 1000, 4080, 5000])
@pytest.mark.parametrize("producers", ["single", "multi"])
def test_without_reserved_pages_a_full_file_system_is_an_error_of_the_message_that_met_it(small, peer, producers, size):
    """What send returned from arrives, whole; the process lives."""
    folder = small(f"size={64 * PAGE}")
    writer = peer(
        """
        size = int(sys.argv[3])
        ring = shmring.create(sys.argv[1], 1 << 20, producers=sys.argv[2], reserve=False, max_participants=4, max_groups=2)
        tx, sent = ring.producer(), 0
        try:
            while True:
                tx.send(b"%d " % sent * (size // 8))
                sent += 1
        except OSError as error:
            say(sent, type(error).__name__, error.errno, "reserve=True" in str(error))
        hear()
        tx.close(); ring.close()
        say("left")
    """,
        folder / "ring",
        producers,
        size,
    )
    sent, *error = writer.hear().split()
    assert error == ["NoSpace", str(errno.ENOSPC), "True"] and int(sent) > 20
    with shmring.open(folder / "ring") as ring, ring.consumer() as rx:
        for each in range(int(sent)):
            assert rx.recv(0) == b"%d " % each * (size // 8)
        try:
            assert rx.try_recv() is None
        except errors.NoSpace:
            pass  # it met the missing page itself
    writer.say()
    writer.expect("left")
    writer.finish()
