"""A file cut under a mapping is an exception of whoever touches it; every other SIGBUS is as it would be
without us.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
from mapping_script import check_script, run_script

from shmring import Mapping, errors, sigbus

PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def cut(tmp_path):
    """Map 4 pages, and let another process cut the file to `to` bytes."""
    opened = []

    def make(to: int = PAGE, **how) -> Mapping:
        path = tmp_path / "victim"
        path.write_bytes(b"v" * 4 * PAGE)
        mapping = Mapping.file(path, **how)
        opened.append(mapping)
        subprocess.run(["truncate", "-s", str(to), path], check=True)
        return mapping

    yield make
    for mapping in opened:
        mapping.close()


TOUCHES = {
    "index": lambda m: m[2 * PAGE],
    "slice": lambda m: m[PAGE - 1 : PAGE + 1],
    "steps": lambda m: m[::PAGE],
    "read": lambda m: m.read(3 * PAGE, 5),
    "all": lambda m: m.read(),
    "store index": lambda m: m.__setitem__(2 * PAGE, 1),
    "store slice": lambda m: m.write(b"x" * 3 * PAGE, 5),
    "store steps": lambda m: m.__setitem__(slice(0, None, PAGE), b"y" * (len(m) // PAGE)),
}


@pytest.mark.parametrize("how", [{}, {"access": "read"}, {"access": "copy"}, {"mirrored": True}], ids=str)
@pytest.mark.parametrize("touch", TOUCHES)
def test_touching_what_was_cut_raises_with_the_numbers(cut, touch, how):
    if "store" in touch and how.get("access") == "read":
        return
    mapping = cut(**how)
    epoch = sigbus.epoch()
    with pytest.raises(
        errors.RingTruncated, match=f"has {PAGE} bytes and the mapping needs {4 * PAGE}"
    ) as caught:
        TOUCHES[touch](mapping)
    assert isinstance(caught.value, OSError) and caught.value.errno
    assert sigbus.epoch() > epoch and mapping.truncated
    for use in (
        lambda: mapping[0],
        lambda: mapping.view,
        mapping.flush,
        lambda: mapping.resize(8 * PAGE),
        lambda: mapping.advise("normal"),
    ):
        with pytest.raises(errors.RingTruncated):
            use()


@pytest.mark.parametrize("how", [{}, {"access": "read"}, {"mirrored": True}], ids=str)
def test_a_live_view_reads_zeros_and_the_process_lives(cut, how, tmp_path):
    path = tmp_path / "victim"
    path.write_bytes(b"v" * 4 * PAGE)
    with Mapping.file(path, **how) as mapping:
        array = np.frombuffer(mapping, np.uint8)
        os.truncate(path, PAGE)
        pages = array.reshape(-1, PAGE)
        for copy in range(len(pages) // 4):
            assert pages[4 * copy].tobytes() == b"v" * PAGE
            assert not pages[4 * copy + 1 : 4 * copy + 4].any()
        if not mapping.readonly:
            array[-1] = 5
            assert array[-1] == 5
        with pytest.raises(errors.RingTruncated):
            mapping.read(0, 1)
        del array, pages


def test_what_was_not_cut_is_still_read_and_an_untouched_cut_is_known(cut):
    mapping = cut(2 * PAGE)
    assert mapping[: 2 * PAGE] == b"v" * 2 * PAGE
    assert mapping.truncated  # asked, not touched
    with pytest.raises(errors.RingTruncated):
        mapping[0]


def test_a_cut_inside_a_page_costs_no_fault(cut):
    mapping = cut(3 * PAGE + 10)
    assert mapping[3 * PAGE :] == b"v" * 10 + bytes(PAGE - 10)
    assert mapping.truncated


def test_a_file_that_was_cut_and_has_grown_again_is_still_reported(cut, tmp_path):
    mapping = cut(0)
    with mapping.view as view:
        assert view[0] == 0
    os.truncate(tmp_path / "victim", 4 * PAGE)
    with pytest.raises(errors.RingTruncated, match="grown again"):
        mapping[0]


def test_one_of_many_mappings_is_hit_and_the_others_are_not(cut, tmp_path):
    path = tmp_path / "whole"
    path.write_bytes(b"w" * PAGE)
    others = [Mapping.file(path) for _ in range(200)]  # more than one chunk of the handler's table
    mapping = cut()
    others += [Mapping.file(path) for _ in range(200)]
    with pytest.raises(errors.RingTruncated):
        mapping[PAGE]
    assert all(other[0] == ord("w") and not other.truncated for other in others)
    for other in others:
        other.close()
    late = [Mapping.file(path) for _ in range(150)]  # entries are used again
    os.truncate(path, 0)
    for other in late:
        with pytest.raises(errors.RingTruncated):
            other[0]


def test_threads_that_hit_the_same_cut_at_once_all_live():
    check_script("""
mapping = truncated_file(2000, 0)
view = mapping.view
start = threading.Barrier(4)
def touch():
    start.wait()
    for place in range(0, len(view), PAGE):
        assert view[place] == 0
threads = [threading.Thread(target=touch) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert mapping.truncated
""")


def test_a_forked_child_has_the_guard_and_another_epoch():
    check_script("""
mapping = Mapping.memfd(PAGE)
before = sigbus.epoch()
victim = truncated_file()
epoch = sigbus.epoch()
pid = os.fork()
if pid == 0:
    ok = sigbus.epoch() == epoch + 1
    try:
        victim[PAGE]
    except errors.RingTruncated:
        os._exit(0 if ok else 3)
    os._exit(4)
assert os.waitpid(pid, 0)[1] == 0
assert sigbus.epoch() == epoch
""")


# ---- who else wants SIGBUS ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_faulthandler_and_we_live_together(when, where):
    script = """
def touch():
    for mapping in (first, second):
        try:
            mapping[PAGE]
        except errors.RingTruncated:
            print("truncated")
%s
first = truncated_file(); second = truncated_file()
%s
if "%s" == "main":
    touch()
else:
    thread = threading.Thread(target=touch); thread.start(); thread.join()
"""
    enable = "faulthandler.enable()"
    out = check_script(script % ((enable, "", where) if when == "before" else ("", enable, where)))
    assert out == "truncated\ntruncated\n"


@pytest.mark.parametrize("install", ["sigbus.install()", "mapping = truncated_file()", ""])
@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_a_foreign_fault_still_kills_and_faulthandler_still_reports(install, when):
    enable = "faulthandler.enable()"
    done = run_script(f"""
{enable if when == "before" else ""}
{install}
{enable if when == "after" else ""}
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
foreign_truncated_mmap()[0]
""")
    assert done.returncode == -signal.SIGBUS
    assert ("Bus error" in done.stderr) == (when != "never")


@pytest.mark.parametrize("where", ["before", "after", "never"])
def test_a_sigbus_that_was_sent_still_kills(where):
    enable = "faulthandler.enable()"
    for send in (
        "signal.raise_signal(signal.SIGBUS)",
        "os.kill(os.getpid(), signal.SIGBUS)",
        "os.system(f'kill -BUS {os.getpid()}')",
    ):
        done = run_script(f"""
{enable if where == "before" else ""}
mapping = truncated_file()
mapping.view[PAGE]                  # the thread's last fault was one of ours
{enable if where == "after" else ""}
{send}
print('alive')
""")
        assert done.returncode == -signal.SIGBUS and "alive" not in done.stdout


def test_an_ignored_sigbus_stays_ignored_and_a_fault_kills():
    done = run_script("""
signal.signal(signal.SIGBUS, signal.SIG_IGN)
mapping = truncated_file()
signal.raise_signal(signal.SIGBUS)
os.kill(os.getpid(), signal.SIGBUS)
try:
    mapping[PAGE]
except errors.RingTruncated:
    print("alive", flush=True)
foreign_truncated_mmap()[0]
""")
    assert done.stdout == "alive\n" and done.returncode == -signal.SIGBUS


def test_a_plain_handler_before_ours_gets_what_is_not_ours():
    assert (
        check_script("""
signal.signal(signal.SIGBUS, lambda number, frame: print("handler", number == signal.SIGBUS))
mapping = truncated_file()
signal.raise_signal(signal.SIGBUS)
try:
    mapping[PAGE]
except errors.RingTruncated:
    print("truncated")
""")
        == "handler True\ntruncated\n"
    )


def test_a_siginfo_handler_before_ours_gets_the_address(tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler to build the other library's handler with")
    (tmp_path / "other.c").write_text("""
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
static void other(int number, siginfo_t *info, void *context) {
    (void)context;
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    void *page = (void *)((unsigned long)info->si_addr & ~4095ul);
    int ok = number == SIGBUS && sigismember(&now, SIGUSR2)
        && mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    if (write(1, ok ? "other\\n" : "wrong\\n", 6) != 6) _exit(9);
}
void install(void) {
    struct sigaction action = {0};
    action.sa_sigaction = other;
    action.sa_flags = SA_SIGINFO;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGBUS, &action, 0);
}
""")
    library = tmp_path / "other.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "other.c"], check=True)
    assert (
        check_script(f"""
import ctypes
ctypes.CDLL({str(library)!r}).install()
mapping = truncated_file()
foreign_truncated_mmap()[0]
foreign_truncated_mmap()[0]
try:
    mapping[PAGE]
except errors.RingTruncated:
    print("truncated")
assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
""")
        == "other\nother\ntruncated\n"
    )


def test_an_unmapped_range_is_no_longer_ours():
    done = run_script("""
mapping = truncated_file()
import ctypes, numpy
address = numpy.frombuffer(mapping, numpy.uint8).ctypes.data
mapping.close()
with tempfile.TemporaryFile() as file:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    vp, size, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = [vp, size, i, i, i, ctypes.c_long]
    assert libc.mmap(address, PAGE, 3, mmap.MAP_SHARED | 0x10, file.fileno(), 0) == address
    print("mapped", flush=True)
    ctypes.string_at(address, 1)
""")
    assert done.stdout == "mapped\n" and done.returncode == -signal.SIGBUS


@pytest.mark.parametrize("script, environment", [("", {"SHMRING_SIGBUS": "0"}), ("sigbus.decline()", {})])
def test_the_handler_can_be_declined(script, environment):
    done = run_script(
        f"""
{script}
assert not sigbus.install()
first, second = truncated_file(), truncated_file()
assert first.truncated                  # asking the kernel costs no fault
try:
    first.read()
except errors.RingTruncated:
    print("known", flush=True)
second.read()
""",
        **environment,
    )
    assert done.stdout == "known\n" and done.returncode == -signal.SIGBUS


def test_it_is_too_late_to_decline_once_installed():
    check_script("""
assert signal.getsignal(signal.SIGBUS) == signal.SIG_DFL
mapping = Mapping.memfd(PAGE)               # sealed and allocated: needs no handler
mapping = truncated_file()
try:
    sigbus.decline()
except RuntimeError:
    sys.exit(0)
sys.exit(1)
""")
