"""At the limits of a process: every call that makes something works or says which limit, and leaves nothing behind."""

from __future__ import annotations

import os

import pytest
from leftovers import sweeping, told

import shmring

pytestmark = pytest.mark.timeout(300, method="signal")

CALLS = {"create", "anonymous", "open", "readonly", "exist_ok", "producer", "consumer", "group", "observer"}


def folder_of(named):
    return os.path.dirname(named.path())


NOFILE = sweeping(
    """
    import contextlib
    @contextlib.contextmanager
    def scarce(free):
        last, filled = max(descriptors()), []
        while not filled or filled[-1] < last:
            filled.append(os.dup(0))        # no number below the limit is free by chance
        resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + 1 + free, most_files))
        try: yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
            for each in filled: os.close(each)

    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    everything(sys.argv[1], sys.argv[2], errors.TooManyFiles, scarce, 20)
"""
)


def test_too_few_descriptors_fail_cleanly_at_every_step(named, peer):
    """Also: a creator that runs out of them after it linked the name left a ring that it had said it could not make."""
    failures = told(peer(NOFILE, named.name, folder_of(named)))
    assert set(failures) == CALLS
    assert all(int(count) >= 2 for count in failures.values()), failures


def test_an_identity_that_could_not_be_read_for_want_of_descriptors_is_read_later(named, peer):
    """The first attempt would have been remembered as "unknown", for good."""
    with named.create(4096):
        other = peer(
            """
            import resource
            from shmring import errors, evidence
            shmring.open(sys.argv[1]).close()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                evidence.own_identity()
            except OSError as error:
                say(error.errno)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            say(evidence.own_identity().pid_namespace == os.stat("/proc/self/ns/pid").st_ino)
        """,
            named.name,
        )
        other.expect("24")
        other.expect("True")
        other.finish()


def test_at_work_no_descriptor_is_needed(named, peer):
    """With all descriptors in use messages flow, waits park, and the dead are left to somebody else. A time-out was the error
    for too many files instead: it says who lives, and wanted to look in /proc."""
    with named.create(4096) as ring:
        other = peer(
            """
            import resource
            ring = shmring.open(sys.argv[1])
            tx, rx = ring.producer(wait="park"), ring.consumer(wait="park")
            shmring.wait([tx], 0)               # imports what it needs
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            for each in range(2000):
                tx.send(b"%d" % each)
                assert rx.recv() == b"%d" % each
            for call in (lambda: rx.recv(0.25), lambda: tx.send(bytes(4080)) or tx.send(b"x", timeout=0.25)):
                try: call()
                except TimeoutError: say("time-out")
            assert shmring.wait([rx], 0) == [rx]
            tx.close(); rx.close(); ring.close()
            say("left")
        """,
            named.name,
        )
        for line in ("time-out", "time-out", "left"):
            other.expect(line)
        other.finish()
        assert ring.stats().participants == []


ADDRESS_SPACE = sweeping(
    """
    import contextlib
    @contextlib.contextmanager
    def scarce(amount):
        size = int(open("/proc/self/statm").read().split()[0]) * PAGE
        resource.setrlimit(resource.RLIMIT_AS, (size + amount * 3 * PAGE, resource.RLIM_INFINITY))
        try: yield
        finally: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    everything(sys.argv[1], sys.argv[2], MemoryError, scarce, 200)
"""
)


def test_too_little_address_space_fails_cleanly_at_every_step(named, peer):
    failures = told(peer(ADDRESS_SPACE, named.name, folder_of(named)))
    assert set(failures) == CALLS
    assert all(int(count) >= 1 for count in failures.values()), failures


MAPPINGS = sweeping(
    """
    import contextlib
    limit = int(open("/proc/sys/vm/max_map_count").read())
    if limit > 200_000:
        say("skip", limit)
        os._exit(0)                     # it would take too long to use them all up
    libc = ctypes.CDLL(None, use_errno=True)
    vp, size, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype, libc.mmap.argtypes = vp, [vp, size, i, i, i, ctypes.c_long]
    libc.munmap.argtypes = libc.mprotect.argtypes = None
    FAILED = vp(-1).value
    block = [libc.mmap(None, PAGE * 2 * limit, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)]
    assert block[0] != FAILED
    cuts = 0
    def more():         # neighbours with different rights are not merged
        global cuts
        if libc.mprotect(vp(block[0] + PAGE * (2 * cuts + 1)), size(PAGE), 3) != 0:
            return False
        cuts += 1
        return True
    def fewer():
        global cuts
        cuts -= 1
        assert libc.mprotect(vp(block[0] + PAGE * (2 * cuts + 1)), size(PAGE), 1) == 0
    def left(folder):   # the list of the mappings would be long
        ours = [each for each in descriptors().items()]
        return ours, names(folder), sum(line.rpartition("/")[2].find("ring") >= 0 for line in open("/proc/self/maps"))
    @contextlib.contextmanager
    def scarce(amount):
        while more(): pass
        for _ in range(amount): fewer()     # frees two mappings each
        yield
    for _ in range(40): libc.malloc_trim(0)
    more_memory = [bytes(1 << 16) for _ in range(300)]      # so that the interpreter needs no mapping meanwhile
    del more_memory
    everything(sys.argv[1], sys.argv[2], MemoryError, scarce, 20)
"""
)


def test_too_few_mappings_fail_cleanly_at_every_step(named, peer):
    other = peer(MAPPINGS, named.name, folder_of(named))
    first = other.hear()
    if first.startswith("skip"):
        pytest.skip(f"vm.max_map_count is {first.split()[1]}")
    label, count = first.split()
    failures = {label: count} | told(other)
    assert set(failures) == CALLS
    assert sum(int(count) for count in failures.values()) >= 4, failures


def test_a_file_over_the_limit_is_an_error_and_no_signal(named, peer):
    """RLIMIT_FSIZE, with the default action of SIGXFSZ, which kills. A ring within it works; so does one that was there."""
    with named.create(1 << 16) as ring, ring.producer() as tx:
        tx.send(b"before")
        other = peer(
            sweeping("""
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            name, folder = sys.argv[1:]
            before = left(folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
            for make in (lambda: shmring.create(name + "2", 1 << 16), lambda: shmring.anonymous(1 << 16)):
                try:
                    make()
                except errors.FileTooLarge as error:
                    say(error.errno == errno.EFBIG, f"RLIMIT_FSIZE is {1 << 16}" in str(error), left(folder) == before)
            with shmring.create(name + "2", 4096, max_participants=2) as small, small.producer() as tx:
                tx.send(b"small")
            shmring.unlink(name + "2")
            with shmring.open(name) as ring, ring.producer() as tx, ring.consumer() as rx:
                say(rx.recv(0).decode())
                for _ in range(200):
                    tx.send(bytes(1000)); rx.recv()
            say("done")
        """),
            named.name,
            folder_of(named),
        )
        for line in ("True True True", "True True True", "before", "done"):
            other.expect(line)
        other.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up the privilege to lock anything")
def test_a_process_that_locks_all_its_memory_is_told_about_its_limit(unique_name, peer):
    """mlockall(MCL_FUTURE): then every mapping counts against RLIMIT_MEMLOCK, those of a ring, too."""
    shmring.create(unique_name, "1 MiB", mode=0o666).close()
    os.chmod(f"/dev/shm/{unique_name}", 0o666)
    other = peer(
        sweeping("""
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
        small = shmring.anonymous(4096)
        os.setuid(65534)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mlockall(2) == 0, os.strerror(ctypes.get_errno())       # MCL_FUTURE
        before = left("/dev/shm")
        for call in (lambda: shmring.create(sys.argv[1] + "2", "1 MiB"), lambda: shmring.anonymous("1 MiB")):
            made = None
            try:
                made = call()
                made.producer()
            except errors.LockLimit as error:
                say(error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EPERM), "RLIMIT_MEMLOCK is 1048576 bytes" in str(error))
            if made is not None:
                made.close()
                if made.name: shmring.unlink(made.name)
            say(left("/dev/shm") == before)
        with small.producer() as tx, small.consumer() as rx:
            tx.send(b"small")
            say(rx.recv(0).decode())
    """),
        unique_name,
    )
    for line in ("True True", "True", "True True", "True", "small"):
        other.expect(line)
    other.finish()


LATE = {
    "arecv": "rx.arecv()", "arecv_many": "rx.arecv_many(2)", "arecv_obj": "rx.arecv_obj()", "anext": "rx.__anext__()",
    "asend": "tx.asend(b'')", "asend_obj": "tx.asend_obj(1)", "asend_many": "tx.asend_many([b''])", "fileno": "rx.fileno()",
    "wait": "shmring.wait([tx])", "stats": "ring.stats()", "observer": "ring.consumer(lossy=True)", "aio": "shmring.aio",
    "queue": "shmring.Queue(capacity=4096)", "backend": "shmring.aio.backend()",
}  # fmt: skip


@pytest.mark.parametrize("call", LATE.values(), ids=LATE)
def test_what_is_loaded_late_says_that_no_descriptor_is_left_and_works_once_there_is(peer, call):
    """It was an ImportError, of the dynamic loader, in the middle of a program that had everything installed."""
    other = peer(
        """
        import resource
        ring = shmring.anonymous(4096)
        tx, rx = ring.producer(), ring.consumer()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        call = eval("lambda: " + sys.argv[1], globals())
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            call()
        except Exception as error:
            caught = error
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        say(type(caught).__name__, caught.errno, isinstance(caught, OSError), "cannot load shmring." in str(caught))
        made = call()
        if hasattr(made, "close"): made.close()
        say("made")
        """,
        call,
    )
    assert other.hear().split() == ["TooManyFiles", "24", "True", "True"]
    other.expect("made")
    other.finish()


def test_without_a_free_descriptor_nobody_learns_that_io_uring_cannot_wait(peer):
    """It was taken for refused, and every handle of the process had a thread to wait for it from then on."""
    found = peer("say(shmring.aio.backend())")
    usual = found.hear()
    found.finish()
    other = peer(
        """
        import resource
        from shmring import aio
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        ring = shmring.anonymous(4096)
        rx = ring.consumer()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try: rx.fileno()
        except OSError as error: say(error.errno)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        say(aio.backend())
        """
    )
    other.expect("24")
    other.expect(usual)
    other.finish()
