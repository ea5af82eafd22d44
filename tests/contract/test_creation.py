"""create, open, unlink: names, shapes, modes, and what is refused."""

from __future__ import annotations

import os
import resource
import stat
import threading

import pytest

import shmring


def test_create_makes_what_open_finds(named):
    with (
        named.create(8192, align=64, max_participants=5, max_groups=3) as made,
        shmring.open(named.name) as found,
    ):
        assert (found.capacity, found.align, found.max_participants, found.max_groups) == (8192, 64, 5, 3)
        assert found.producers == "multi"
        assert found.uuid == made.uuid
        assert not found.closed


def test_a_ring_says_what_its_messages_are(named):
    text = "ticks <f8, grüße" + "." * 1005
    with named.create(4096, content=text) as made, shmring.open(named.name, readonly=True) as found:
        assert (made.content, found.content) == (text, text)
    with named.create(4096, exist_ok=True, content=text) as same, shmring.anonymous(4096) as other:
        assert (same.content, other.content) == (text, "")


def test_create_refuses_a_taken_name(named):
    with named.create(4096), pytest.raises(shmring.RingExists) as caught:
        named.create(4096)
    assert isinstance(caught.value, FileExistsError)
    assert str(named.name) in str(caught.value)


def test_create_refuses_the_name_of_an_ordinary_file(tmp_path):
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(shmring.RingExists):
        shmring.create(tmp_path / "notes", 4096)
    assert (tmp_path / "notes").read_text() == "precious"


def test_exist_ok_opens_the_ring_that_is_there(named):
    with named.create(4096) as made, named.create(4096, exist_ok=True) as same:
        assert same.uuid == made.uuid


@pytest.mark.parametrize(
    "other", [{"capacity": 8192}, {"align": 64}, {"max_participants": 7}, {"max_groups": 7}, {"content": "ticks"}]
)
def test_exist_ok_refuses_another_shape(named, other):
    ((label, value),) = other.items()
    with named.create(4096), pytest.raises(shmring.RingExists, match=rf"{label}.*{value}"):
        named.create(**({"capacity": 4096} | other), exist_ok=True)


def test_exist_ok_refuses_what_is_no_ring_and_leaves_it(tmp_path):
    (tmp_path / "notes").write_text("precious")
    with pytest.raises((shmring.LayoutMismatch, shmring.RingExists)):
        shmring.create(tmp_path / "notes", 4096, exist_ok=True)
    assert (tmp_path / "notes").read_text() == "precious"


@pytest.mark.parametrize("readonly", [False, True])
def test_a_folder_is_no_ring_and_the_error_names_it(tmp_path, readonly):
    """For reading only it could be opened, and the error was that 4096 bytes of something cannot be mapped."""
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        shmring.open(tmp_path, readonly=readonly)


def test_exist_ok_does_not_spin_on_a_dangling_link(tmp_path, peer):
    os.symlink(tmp_path / "nowhere", tmp_path / "ring")
    asker = peer(
        """
        say("asking")
        try:
            shmring.create(sys.argv[1], 4096, exist_ok=True, trust="anyone").close()
            say("made")
        except OSError as error:
            say(type(error).__name__)
    """,
        tmp_path / "ring",
    )
    asker.expect("asking")
    assert asker.hear() in ("RingExists", "RingNotFound", "made")
    asker.finish()


def test_unlink_removes_the_name_and_not_the_ring(named):
    with named.create(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        shmring.unlink(named.name)
        assert not os.path.lexists(named.path())
        tx.send(b"still here")
        assert rx.recv(timeout=0) == b"still here"
        with named.create(4096) as second:
            assert second.uuid != ring.uuid


def test_unlink_and_open_name_what_is_missing(named):
    for call in (shmring.unlink, shmring.open):
        with pytest.raises(shmring.RingNotFound, match=os.path.basename(str(named.name))) as caught:
            call(named.name)
        assert isinstance(caught.value, FileNotFoundError)


def test_open_with_a_timeout_gives_up(named):
    with pytest.raises(shmring.RingNotFound):
        shmring.open(named.name, timeout=0.02)


def test_open_with_a_timeout_waits_for_the_ring(named):
    found = []
    waiting = threading.Event()

    def look():
        waiting.set()
        found.append(shmring.open(named.name, timeout=60))

    thread = threading.Thread(target=look)
    thread.start()
    waiting.wait()
    with named.create(4096) as made:
        thread.join()
        assert found[0].uuid == made.uuid
        found[0].close()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_open_refuses_impossible_timeouts(named, timeout):
    with pytest.raises(ValueError, match="timeout"):
        shmring.open(named.name, timeout=timeout)


def test_open_refuses_a_timeout_that_is_no_number(named):
    with named.create(4096), pytest.raises(TypeError, match=r"timeout must be .* seconds >= 0, not '1'"):
        shmring.open(named.name, timeout="1")


@pytest.mark.parametrize(
    "asked, made",
    [
        (1, 4096),
        (4096, 4096),
        (4097, 8192),
        ("64 KiB", 65536),
        ("64KiB", 65536),
        ("1 MiB", 1 << 20),
        ("0.5 MiB", 1 << 19),
        ("5000", 8192),
        ("5 kB", 8192),
        (" 8 KiB ", 8192),
    ],
)
def test_capacity_is_rounded_up_to_a_power_of_two(asked, made):
    with shmring.anonymous(asked) as ring:
        assert ring.capacity == made


@pytest.mark.parametrize(
    "capacity",
    [0, -1, "", "0", "-4 KiB", "4 parsecs", "KiB", "1 2", "9" * 400 + ".0 TiB", 1 << 47, "1000000 TiB"],
)
def test_impossible_capacities_are_value_errors(capacity):
    with pytest.raises(ValueError):
        shmring.anonymous(capacity)


@pytest.mark.parametrize("capacity", [None, 4096.0, b"4096", True, [4096]])
def test_capacities_of_another_type_are_type_errors(capacity):
    with pytest.raises(TypeError):
        shmring.anonymous(capacity)


@pytest.mark.parametrize(
    "options",
    [
        {"align": 32},
        {"align": 0},
        {"max_participants": 0},
        {"max_participants": 1025},
        {"max_groups": 0},
        {"content": "ü" * 512},
        {"content": "a\0b"},
        {"max_groups": 65},
        {"producers": "several"},
    ],
)
def test_impossible_shapes_are_value_errors(options):
    ((label, _),) = options.items()
    with pytest.raises(ValueError, match=label):
        shmring.anonymous(4096, **options)


@pytest.mark.parametrize("options", [{"max_participants": 2.5}, {"max_groups": "3"}, {"content": b"ticks"}, {"mode": "0600"}])
def test_shapes_of_another_type_are_type_errors_that_name_them(named, options):
    """A fractional limit used to be cut, and the others ended in an error of the code that met them first."""
    ((label, _),) = options.items()
    with pytest.raises(TypeError, match=label):
        named.create(4096, **options)


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o100600])
def test_a_mode_that_is_no_permission_bits_is_refused(named, mode):
    """os.open takes what it knows of them and forgets the rest."""
    with pytest.raises(ValueError, match="mode is from 0o0 to 0o777"):
        named.create(4096, mode=mode)


@pytest.mark.parametrize("name", ["", ".", "..", "nul\0", "x" * 256])
def test_impossible_names_are_value_errors(name):
    with pytest.raises(ValueError):
        shmring.create(name, 4096)


@pytest.mark.parametrize("name", [None, 7, b"ring"])
def test_names_of_another_type_are_type_errors(name):
    with pytest.raises(TypeError):
        shmring.create(name, 4096)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_mode_bits_are_the_files(named, mode):
    before = os.umask(0o022)
    try:
        named.create(4096, mode=mode).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(named.path()).st_mode) == mode & ~0o022


def test_a_path_like_without_a_slash_is_a_file(tmp_path, monkeypatch):
    import pathlib

    monkeypatch.chdir(tmp_path)
    with shmring.create(pathlib.Path("ring"), 4096) as ring:
        assert (tmp_path / "ring").exists()
        monkeypatch.chdir("/")
        with shmring.open(ring.name) as same:  # a ring's name does not depend on where the process is
            assert same.uuid == ring.uuid


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        shmring.create(tmp_path / "nowhere" / "ring", 4096)


def test_reserve_allocates_the_pages_at_once(named):
    with named.create("1 MiB"):
        assert os.stat(named.path()).st_blocks * 512 >= 1 << 20


def test_without_reserve_pages_come_when_they_are_written(named):
    with named.create("1 MiB", reserve=False):
        assert os.stat(named.path()).st_blocks * 512 < 1 << 20


def test_attaching_does_not_allocate_what_reserve_left_out(named):
    with named.create("1 MiB", reserve=False) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"x")
        assert rx.recv() == b"x"
        assert os.stat(named.path()).st_blocks * 512 < 1 << 20


def test_the_first_lap_takes_no_page_faults(unique_name):
    message = bytes(65536 - 16)
    with shmring.create(unique_name, "4 MiB") as ring, ring.producer() as tx, ring.consumer() as rx:
        target = bytearray(message)
        tx.send(message)
        rx.recv_into(target)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(60):
            tx.send(message)
            rx.recv_into(target)
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before < 200  # 2 x 960 pages were touched


def test_no_space_is_an_error_at_creation_with_the_numbers(unique_name):
    free = os.statvfs("/dev/shm")
    with pytest.raises(OSError, match=r"needed \d+ bytes, free \d+"):
        shmring.create(unique_name, 1 << (free.f_blocks * free.f_frsize).bit_length())
    assert not os.path.exists(f"/dev/shm/{unique_name}")


@pytest.mark.parametrize("spelling", ["absolute", "relative"])
def test_create_works_where_there_are_no_unnamed_files(tmp_path, monkeypatch, spelling):
    import errno

    real = os.open

    def without_tmpfile(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no unnamed files here")
        return real(path, flags, *rest, **options)

    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "open", without_tmpfile)
    name = str(tmp_path / "folder" / "ring") if spelling == "absolute" else "folder/ring"
    with shmring.create(name, 4096) as ring, shmring.open(name) as same:
        assert ring.uuid == same.uuid
    assert os.listdir(tmp_path / "folder") == ["ring"]


def test_rings_are_not_made_by_their_class():
    with pytest.raises(TypeError):
        shmring.Ring()


def test_readonly_shows_stats_and_refuses_the_rest(named):
    with (
        named.create(4096) as ring,
        ring.producer() as tx,
        shmring.open(named.name, readonly=True) as watcher,
    ):
        tx.send(b"seen")
        assert watcher.stats().groups[0].lag == 1
        for refused in (
            watcher.producer,
            watcher.consumer,
            watcher.shutdown,
            watcher.repair,
            lambda: watcher.remove_group("default"),
        ):
            with pytest.raises(ValueError, match="reading only"):
                refused()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may only read")
def test_readonly_opens_what_it_may_only_read(unique_name, peer):
    shmring.create(unique_name, 4096, mode=0o444).close()
    reader = peer(
        """
        shmring.open(sys.argv[1]).close()
        os.setuid(65534)
        shmring.open(sys.argv[1], readonly=True).close()
        try:
            shmring.open(sys.argv[1])
        except PermissionError:
            say("refused")
    """,
        unique_name,
    )
    reader.expect("refused")
    reader.finish()


@pytest.mark.parametrize("call", [shmring.create, shmring.open, shmring.unlink], ids=lambda call: call.__name__)
def test_a_path_that_ends_with_a_slash_is_refused(tmp_path, call):
    """It used to make the file, which nobody could open by that name."""
    with pytest.raises(ValueError, match="ends with a slash"):
        call(f"{tmp_path}/ring/")
    assert not os.listdir(tmp_path)
