"""Every cause that mmap and its companions can fail for, made to happen: its class, its errno, and what to
do.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest
from mapping_script import check_script

from shmring import Mapping, errors

PAGE = os.sysconf("SC_PAGESIZE")


def expect(kind, code, make, *texts):
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(kind) as caught:
        make()
    assert caught.value.errno == code and isinstance(caught.value, errors.MappingError)
    for text in texts:
        assert text in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == opened
    return caught.value


def test_eacces_for_a_descriptor_opened_the_wrong_way(tmp_path):
    (tmp_path / "f").write_bytes(bytes(PAGE))
    for how in (os.O_RDONLY, os.O_WRONLY):
        fd = os.open(tmp_path / "f", how)
        error = expect(
            errors.AccessDenied, errno.EACCES, lambda fd=fd: Mapping.from_fd(fd), "opened for reading"
        )
        assert isinstance(error, PermissionError)
        if how == os.O_RDONLY:
            Mapping.from_fd(fd, access="read").close()
            Mapping.from_fd(fd, access="copy").close()
        os.close(fd)


def test_eacces_for_a_file_of_somebody_else():
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    check_script("""
name = f"shmring-test-{os.getpid()}"
with tempfile.NamedTemporaryFile() as file:
    import posix_ipc
    Mapping.shm(name, PAGE, create=True).close()
    os.setuid(65534)
    for make in (lambda: Mapping.file(file.name, PAGE), lambda: Mapping.shm(name)):
        try:
            make()
        except errors.AccessDenied as error:
            assert error.errno == errno.EACCES and "owner and mode" in str(error), error
        else:
            sys.exit(1)
    print(name)
    sys.stdout.flush()
    os._exit(0)
""")
    for name in os.listdir("/dev/shm"):
        if name.startswith("shmring-test-") and os.stat(f"/dev/shm/{name}").st_size == PAGE:
            from shmring.backing import unlink_shm

            unlink_shm(name)


def test_ebadf_for_a_number_that_is_no_descriptor():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    for fd in (read, -1, 1 << 40):
        expect(
            errors.BadDescriptor, errno.EBADF, lambda fd=fd: Mapping.from_fd(fd, PAGE), "open in this process"
        )


def test_enodev_for_what_cannot_be_mapped(tmp_path):
    read, write = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    for fd in (read, folder):
        expect(
            errors.CannotMap,
            errno.ENODEV,
            lambda fd=fd: Mapping.from_fd(fd, PAGE, access="read"),
            "regular file",
        )
    for fd in (read, write, folder):
        os.close(fd)


def test_einval_for_a_name_that_shared_memory_cannot_have():
    for name in ("", "/", "a/b", "..", "x" * 256, "a\0b"):
        expect(
            errors.BadGeometry,
            errno.EINVAL,
            lambda name=name: Mapping.shm(name, PAGE, create=True),
            "no name",
        )


def test_an_empty_file_needs_a_size(tmp_path):
    (tmp_path / "empty").touch()
    expect(
        errors.BadGeometry,
        errno.EINVAL,
        lambda: Mapping.file(tmp_path / "empty"),
        "0 bytes",
        "say which size",
    )


def test_names_that_do_not_exist_exist_or_are_folders(tmp_path):
    (tmp_path / "there").touch()
    missing = expect(
        errors.MappingNotFound, errno.ENOENT, lambda: Mapping.file(tmp_path / "no"), "create=True"
    )
    assert isinstance(missing, FileNotFoundError) and missing.filename == str(tmp_path / "no")
    expect(
        errors.MappingNotFound,
        errno.ENOENT,
        lambda: Mapping.file(tmp_path / "no" / "f", 1, create=True),
        "folder",
    )
    expect(errors.MappingNotFound, errno.ENOENT, lambda: Mapping.shm("shmring-test-no-such-name"))
    exists = expect(
        errors.MappingExists,
        errno.EEXIST,
        lambda: Mapping.file(tmp_path / "there", 1, create=True, exclusive=True),
        "another name",
    )
    assert isinstance(exists, FileExistsError)
    folder = expect(errors.IsDirectory, errno.EISDIR, lambda: Mapping.file(tmp_path, 1))
    assert isinstance(folder, IsADirectoryError)


def test_etxtbsy_for_a_program_that_runs(tmp_path):
    program = shutil.copy("/bin/sleep", tmp_path / "program")
    running = subprocess.Popen([program, "1000"])
    try:
        expect(errors.FileBusy, errno.ETXTBSY, lambda: Mapping.file(program), "stop the program")
        Mapping.file(program, access="read").close()
    finally:
        running.kill()
        running.wait()


def test_eperm_for_a_sealed_memfd():
    import fcntl

    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, PAGE)
    fcntl.fcntl(fd, 1033, 0x0008 | 0x0004)  # F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW
    error = expect(errors.NotPermitted, errno.EPERM, lambda: Mapping.from_fd(fd), "seal", "access='read'")
    assert isinstance(error, PermissionError)
    Mapping.from_fd(fd, access="read").close()
    os.close(fd)


def test_eperm_for_growing_a_memfd_that_is_sealed_against_it():
    import fcntl

    with Mapping.memfd(PAGE) as mapping:
        fcntl.fcntl(mapping.fileno(), 1033, 0x0004)
        expect(errors.NotPermitted, errno.EPERM, lambda: mapping.resize(2 * PAGE), "F_SEAL_GROW")
        assert len(mapping) == PAGE and mapping[0] == 0


def test_emfile_names_the_limit():
    check_script("""
with tempfile.NamedTemporaryFile() as file:
    file.truncate(PAGE)
    import posix_ipc, fcntl
    resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, file.fileno() + 1))
    try:
        while True: os.dup(0)
    except OSError: pass
    for make in (lambda: Mapping.file(file.name), lambda: Mapping.memfd(PAGE), lambda:
    Mapping.from_fd(file.fileno()),
                 lambda: Mapping.shm("shmring-test-never-made", PAGE, create=True)):
        try:
            make()
        except errors.TooManyFiles as error:
            assert error.errno == errno.EMFILE and "RLIMIT_NOFILE" in str(error)
        else:
            sys.exit(1)
""")


def test_a_lock_over_the_limit_names_it():
    if os.geteuid() != 0:
        pytest.skip("needs root, to give up the privilege to lock anything")
    check_script("""
for limit in (4 * PAGE, 0):
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        before = Mapping.memfd(PAGE)
        os.setuid(65534)
        try:
            for how in ({}, {"mirrored": True}):
                try:
                    Mapping.memfd(8 * PAGE, lock=True, **how)
                except errors.LockLimit as error:
                    assert error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EPERM)
                    assert f"RLIMIT_MEMLOCK is {limit} bytes" in str(error), error
                    assert "ulimit -l" in str(error)
                else:
                    os._exit(1)
            if limit:
                small = Mapping.memfd(PAGE, lock=True)
                try:
                    small.resize(8 * PAGE)
                except errors.LockLimit:
                    assert len(small) == PAGE and small[0] == 0
                else:
                    os._exit(2)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(3)
        os._exit(0)
    assert os.wait()[1] == 0
""")


def test_enomem_names_the_limit_on_address_space():
    check_script("""
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for how in ({}, {"mirrored": True}):
    try:
        Mapping.memfd(2 << 30, reserve=False, **how)
    except errors.OutOfMemory as error:
        assert isinstance(error, MemoryError) and error.errno == errno.ENOMEM
        assert f"limit {1 << 30} bytes" in str(error) and type(error) is errors.OutOfMemory, error
    else:
        sys.exit(1)
""")


def test_enomem_of_max_map_count_is_told_apart():
    check_script("""
import ctypes
limit = int(open("/proc/sys/vm/max_map_count").read())
if limit > 200_000:
    sys.exit(0)         # it would take too long to use them all up
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
vp, size, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
libc.mmap.argtypes = [vp, size, i, i, i, ctypes.c_long]
kept = Mapping.memfd(PAGE)
for number in range(2 * limit):     # neighbours with different rights are not merged
    how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if libc.mmap(None, PAGE, 1 + 2 * (number % 2), how, -1, 0) == ctypes.c_void_p(-1).value:
        break
for how in ({}, {"mirrored": True}):
    try:
        Mapping.from_fd(kept.fileno(), **how)
    except errors.TooManyMappings as error:
        assert error.errno == errno.ENOMEM and "max_map_count" in str(error)
        assert str(limit) in str(error), error
    else:
        sys.exit(1)
assert kept[0] == 0
""")


def test_efbig_names_the_limit_and_no_signal_kills(tmp_path):
    check_script(f"""
path = {str(tmp_path / "big")!r}
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (10 * PAGE, 10 * PAGE))
for make in (lambda: Mapping.file(path, 11 * PAGE, create=True), lambda: Mapping.memfd(11 * PAGE),
             lambda: Mapping.shm("shmring-test-never-made", 11 * PAGE, create=True)):
    try:
        make()
    except errors.FileTooLarge as error:
        assert error.errno == errno.EFBIG and f"RLIMIT_FSIZE is {{10 * PAGE}}" in str(error)
        assert f"needed {{11 * PAGE}} bytes" in str(error)
    else:
        sys.exit(1)
assert not os.path.exists(path) and not os.path.exists("/dev/shm/shmring-test-never-made")
Mapping.file(path, 10 * PAGE, create=True).close()
""")


@pytest.mark.parametrize("kind", ["file", "shm", "memfd"])
def test_enospc_carries_needed_and_free(tmp_path, kind):
    size = 1 << 50
    make = {
        "file": lambda: Mapping.file(tmp_path / "f", 1 << 43, create=True),
        "shm": lambda: Mapping.shm("shmring-test-never-made", size, create=True),
        "memfd": lambda: Mapping.memfd(size),
    }[kind]
    expect(errors.NoSpace, errno.ENOSPC, make, f"needed {1 << 43 if kind == 'file' else size} bytes, free ")
    assert not list(tmp_path.iterdir()) and not os.path.exists("/dev/shm/shmring-test-never-made")


@pytest.fixture
def small_tmpfs(tmp_path):
    """A tmpfs of 64 pages."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={64 * PAGE}", "none", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"may not mount a small tmpfs: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_is_an_error_at_creation(small_tmpfs):
    with Mapping.file(small_tmpfs / "first", 40 * PAGE, create=True) as first:
        expect(
            errors.NoSpace,
            errno.ENOSPC,
            lambda: Mapping.file(small_tmpfs / "second", 30 * PAGE, create=True),
            f"needed {30 * PAGE} bytes",
            f"free {24 * PAGE}",
        )
        assert os.listdir(small_tmpfs) == ["first"]
        expect(errors.NoSpace, errno.ENOSPC, lambda: first.resize(70 * PAGE), "needed", "free")
        assert len(first) == 40 * PAGE and os.stat(small_tmpfs / "first").st_size == 40 * PAGE
        first[-1] = 1
        first.resize(64 * PAGE)
        first[-1] = 2


def test_without_reserve_a_full_file_system_is_an_error_at_the_store(small_tmpfs):
    with Mapping.file(small_tmpfs / "sparse", 100 * PAGE, create=True, reserve=False) as mapping:
        with pytest.raises(errors.NoSpace, match="reserve=True") as caught:
            mapping[:] = b"x" * 100 * PAGE
        assert caught.value.errno == errno.ENOSPC and not mapping.truncated
        assert mapping[:10] == b"x" * 10  # what had pages is kept
        with pytest.raises(errors.NoSpace):
            mapping.advise("populate_write")
        os.ftruncate(mapping.fileno(), 0)
        os.ftruncate(mapping.fileno(), 100 * PAGE)
    with (
        Mapping.file(small_tmpfs / "sparse", 100 * PAGE, create=True, reserve=False) as mapping,
        pytest.raises(errors.NoSpace),
    ):
        Mapping.from_fd(mapping.fileno(), populate=True)


def test_a_quiet_process_is_left_alone_by_every_error():
    """No failure above installs a handler, leaves a name, or leaves a thread behind."""
    check_script("""
for make in (lambda: Mapping.memfd(0), lambda: Mapping.from_fd(-1, 1), lambda:
Mapping.file("/nowhere/at/all")):
    try:
        make()
    except errors.MappingError:
        pass
assert threading.active_count() == 1 and "multiprocessing" not in sys.modules and "numpy" not in sys.modules
mapping = Mapping.memfd(PAGE)
import ctypes
faulthandler.enable()
""")
    assert signal.getsignal(signal.SIGBUS) in (signal.SIG_DFL, None) and sys.executable
