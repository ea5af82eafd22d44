"""Who may do what: other users, names that somebody else took first, links, readers that only read, memfds and their seals."""

from __future__ import annotations

import ast
import ctypes
import fcntl
import os
import pickle
import shutil
import signal
import stat
import tempfile
from multiprocessing import reduction  # noqa: F401 - before anybody drops rights, as are those below
from pathlib import Path

import pytest

import shmring
from shmring import backing, consumer, creation, observer, producer, stats  # noqa: F401
from shmring.ring import Ring

NOBODY, STRANGER = 65534, 65533
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def as_user(uid: int, function):
    """What `function` returns in a forked child that has become that user, or the exception's name, bases and text."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            answer = ("returned", function())
        except BaseException as error:
            answer = (type(error).__name__, isinstance(error, PermissionError), str(error))
        os.write(sender, repr(answer).encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        text = pipe.read().decode()
    status = os.waitpid(pid, 0)[1]
    assert status == 0 and text, f"the child ended with {status}"
    return ast.literal_eval(text)


@pytest.fixture
def public():
    """A folder in which everybody may make names, as in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="shmring-test-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["file", "shm"])
def name(request, public, unique_name):
    return str(public / "ring") if request.param == "file" else unique_name


def path_of(name: str) -> str:
    return name if "/" in name else f"/dev/shm/{name}"


def make(name: str, mode: int = 0o666) -> None:
    os.umask(0)
    shmring.create(name, 4096, mode=mode).close()


# ---- other users ---------------------------------------------------------------------------------------------------


def test_a_ring_gives_other_users_nothing_by_default(name):
    old = os.umask(0)
    try:
        shmring.create(name, 4096).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path_of(name)).st_mode) == 0o600


@needs_root
@pytest.mark.parametrize("readonly", [False, True])
def test_another_user_cannot_open_it(name, readonly):
    shmring.create(name, 4096).close()
    kind, is_permission, text = as_user(NOBODY, lambda: shmring.open(name, readonly=readonly).close())
    assert kind == "AccessDenied" and is_permission and name in text


@needs_root
def test_a_user_with_the_right_to_read_can_only_observe(name):
    with shmring.create(name, 4096) as ring, ring.producer() as tx:
        os.chmod(path_of(name), 0o644)
        tx.send(b"seen")

        def observe():
            with shmring.open(name, readonly=True) as seen, seen.consumer(lossy=True) as rx:
                return rx.recv(0)

        assert as_user(NOBODY, observe) == ("returned", b"seen")
        assert as_user(NOBODY, lambda: shmring.open(name).close())[0] == "AccessDenied"


@needs_root
@pytest.mark.parametrize("how", ["open", "readonly", "exist_ok"])
def test_a_name_that_another_user_took_first_is_refused_and_says_whose_it_is(name, how):
    assert as_user(NOBODY, lambda: make(name)) == ("returned", None)
    open_it = {
        "open": lambda **more: shmring.open(name, **more),
        "readonly": lambda **more: shmring.open(name, readonly=True, **more),
        "exist_ok": lambda **more: shmring.create(name, 4096, exist_ok=True, **more),
    }[how]
    for trust in (None, STRANGER, [1, 2]):
        with pytest.raises(shmring.UntrustedRing, match=rf"{name}.*{NOBODY}.*trust={NOBODY}") as caught:
            open_it(trust=trust)
        assert isinstance(caught.value, PermissionError)
    for trust in (NOBODY, [STRANGER, NOBODY], "anyone"):
        open_it(trust=trust).close()
    with pytest.raises(shmring.RingExists):
        shmring.create(name, 4096)


@needs_root
def test_root_is_trusted_and_other_users_are_not(name):
    make(name)
    assert as_user(NOBODY, lambda: shmring.open(name).close()) == ("returned", None)
    os.chown(path_of(name), STRANGER, -1)
    assert as_user(NOBODY, lambda: shmring.open(name).close())[0] == "UntrustedRing"
    assert as_user(NOBODY, lambda: shmring.open(name, trust=STRANGER).close()) == ("returned", None)


@needs_root
def test_root_removes_the_ring_of_another_user_and_who_cannot_read_a_file_removes_none(name):
    assert as_user(NOBODY, lambda: make(name, 0o600)) == ("returned", None)
    _, is_permission, text = as_user(STRANGER, lambda: shmring.unlink(name))
    assert is_permission and name in text and os.path.exists(path_of(name))
    shmring.unlink(name)
    assert not os.path.exists(path_of(name))


@needs_root
def test_a_trusted_ring_can_be_pickled(name):
    as_user(NOBODY, lambda: make(name))
    with shmring.open(name, trust=NOBODY) as ring, pickle.loads(pickle.dumps(ring)) as again:
        assert again.uuid == ring.uuid


@pytest.mark.parametrize("trust", ["me", -1, True, 1.5, ["root"], "0"])
def test_whom_to_trust_is_checked(name, trust):
    with pytest.raises(ValueError, match="trust is None, 'anyone', or user ids"):
        shmring.open(name, trust=trust)


# ---- links and pipes -----------------------------------------------------------------------------------------------


def test_a_link_at_the_name_is_refused_unless_its_maker_is_trusted(name, public):
    real = public / "real"
    shmring.create(real, 4096).close()
    os.symlink(real, path_of(name))
    for call in (lambda: shmring.open(name), lambda: shmring.open(name, readonly=True),
                 lambda: shmring.create(name, 4096, exist_ok=True)):
        with pytest.raises(shmring.UntrustedRing, match=f"{name}.*symbolic link.*real"):
            call()
    with pytest.raises(shmring.RingExists):
        shmring.create(name, 4096)
    shmring.open(name, trust=os.geteuid()).close()
    shmring.open(name, trust="anyone").close()


@needs_root
def test_a_link_that_another_user_planted_is_not_followed_to_our_own_ring(name, public):
    shmring.create(public / "real", 4096).close()
    os.symlink(public / "real", path_of(name))
    os.chown(path_of(name), NOBODY, -1, follow_symlinks=False)
    for trust in (None, os.geteuid(), STRANGER):
        with pytest.raises(shmring.UntrustedRing, match="nobody"):
            shmring.open(name, trust=trust)
    shmring.open(name, trust=NOBODY).close()


@needs_root
def test_a_trusted_link_does_not_lead_to_a_strangers_ring(name, public):
    as_user(NOBODY, lambda: make(str(public / "real")))
    os.symlink(public / "real", path_of(name))
    with pytest.raises(shmring.UntrustedRing, match="made by"):
        shmring.open(name, trust=os.geteuid())


def test_links_in_a_circle_and_to_nowhere_are_errors(name, public):
    os.symlink(path_of(name), public / "other")
    os.symlink(public / "other", path_of(name))
    with pytest.raises(shmring.UntrustedRing):
        shmring.open(name, trust="anyone")
    os.unlink(public / "other")
    with pytest.raises(shmring.RingNotFound):
        shmring.open(name, trust="anyone")
    with pytest.raises(shmring.UntrustedRing):
        shmring.open(name)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_pipe_at_the_name_is_no_ring_and_nobody_waits_for_it(name, readonly):
    os.mkfifo(path_of(name))
    with pytest.raises((shmring.LayoutMismatch, shmring.Error)):
        shmring.open(name, readonly=readonly)


# ---- who only reads ------------------------------------------------------------------------------------------------


def rights_of(path: str) -> dict[int, str]:
    """Address and rights of every mapping of a file in this process."""
    with open("/proc/self/maps") as lines:
        fields = [line.split() for line in lines]
    return {int(each[0].split("-")[0], 16): each[1] for each in fields if each[-1] == path}


def dies_of(function) -> int:
    """The signal that ends a child that does it, or 0."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        import faulthandler

        faulthandler.disable()
        signal.alarm(200)
        function()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def test_who_opened_it_for_reading_cannot_change_a_byte(name):
    with shmring.create(name, 4096) as ring, ring.producer() as tx:
        tx.send(b"message")
        own = set(rights_of(path_of(name)))
        before = Path(path_of(name)).read_bytes()
        with shmring.open(name, readonly=True) as seen, seen.consumer(lossy=True) as rx:
            with rx.peek(0) as view, pytest.raises(TypeError):
                view.data[0] = 0
            assert rx.try_recv() is None and seen.stats().tail
            theirs = {address: rights for address, rights in rights_of(path_of(name)).items() if address not in own}
            assert set(theirs.values()) == {"r--s"} and len(theirs) >= 2
            mprotect = ctypes.CDLL(None, use_errno=True).mprotect
            for address in theirs:
                assert dies_of(lambda at=address: ctypes.memset(at, 1, 1)) == signal.SIGSEGV
                assert mprotect(ctypes.c_void_p(address), 4096, 3) == -1        # the file is open for reading only
            for call in (seen.producer, seen.consumer, seen.shutdown, seen.repair, lambda: seen.remove_group("default")):
                with pytest.raises(ValueError, match="reading only"):
                    call()
        assert Path(path_of(name)).read_bytes() == before


def test_a_consumer_cannot_change_a_message(name):
    shmring.create(name, 4096).close()
    with shmring.open(name) as ring, ring.consumer():
        rights = rights_of(path_of(name))
        data = [address for address, each in rights.items() if each == "r--s"]
        assert len(data) == 2 and sorted(rights.values()) == ["r--s", "r--s", "rw-s"]
        for address in data:
            assert dies_of(lambda at=address: ctypes.memset(at, 1, 1)) == signal.SIGSEGV


# ---- memfds --------------------------------------------------------------------------------------------------------


def descriptor_of_an_anonymous_ring() -> int:
    for number in os.listdir("/proc/self/fd"):
        try:
            if "memfd:shmring" in os.readlink(f"/proc/self/fd/{number}"):
                return os.dup(int(number))
        except FileNotFoundError:
            pass
    raise AssertionError("no descriptor")


def test_an_anonymous_rings_memory_keeps_its_size_and_its_rights():
    with shmring.anonymous(4096):
        fd = descriptor_of_an_anonymous_ring()
        try:
            assert fcntl.fcntl(fd, 1034) & 0x7 == 0x7       # F_GET_SEALS: SEAL, SHRINK, GROW
            size = os.fstat(fd).st_size
            for other in (0, size - 1, size + 4096):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, other)
            with pytest.raises(PermissionError):            # nobody can keep others from writing
                fcntl.fcntl(fd, 1033, 0x10)
        finally:
            os.close(fd)


@pytest.mark.parametrize("role", ["producer", "consumer", "observer"])
def test_a_received_memfd_without_seals_is_an_error_when_it_is_cut(role):
    """Not refused: other programs may make them; but whoever cuts it stops nobody."""
    shape = creation._Shape(4096, "multi", 8, 2, 16)
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC)
    os.ftruncate(fd, shape.bytes())
    shape.format(fd)
    assert not backing.is_sealed_against_shrinking(fd)
    with Ring._attach(os.dup(fd), None) as ring:
        handle = ring.producer() if role == "producer" else ring.consumer(lossy=role == "observer")
        os.ftruncate(fd, 4096 if role == "producer" else 0)
        with pytest.raises(shmring.RingTruncated):
            handle.send(b"x" * 100) if role == "producer" else handle.recv(0)
    os.close(fd)
