"""Event loops where the kernel does not wait for us: io_uring refused (a seccomp filter, an old kernel, the sysctl), and
futex_waitv too; no descriptors left. And what an idle loop costs where it does."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from collections import Counter

import pytest
from peer import ROOT
from seccomp import NUMBERS, hear_filtered, needs_seccomp
from test_refused_calls import filtered

import shmring
from shmring import aio

SETUP = ("io_uring_setup",)
URING = {"io_uring_setup": 425, "io_uring_enter": 426}
pytestmark = pytest.mark.timeout(300, method="signal")

ECHO = """
    import asyncio
    from shmring import aio
    say(aio.backend())
    try:
        aio.use("io_uring")
    except OSError as error:
        say(type(error).__name__, "io_uring" in str(error))
    policy = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    there, back = shmring.open(sys.argv[1]), shmring.open(sys.argv[2])
    async def main():
        with there.consumer(wait=policy) as rx, back.producer(wait=policy) as tx:
            say("attached")
            async for message in rx:
                await tx.asend(message)
                if len(message) > 2000: await tx.asend(bytes(2500))
    asyncio.run(main())
    say(len([each for each in threading.enumerate() if each.name == "shmring-sleeper"]), "threads left")
"""


@needs_seccomp
@pytest.mark.parametrize("answer", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "calls",
    [SETUP, (*SETUP, "futex_waitv"), (*SETUP, "futex_waitv", "membarrier"), ("io_uring_enter",)],
    ids="+".join,
)
def test_a_thread_waits_where_the_kernel_does_not(unique_name, peer, monkeypatch, calls, answer):
    for name, number in URING.items():
        monkeypatch.setitem(NUMBERS, name, number)
    with shmring.create(unique_name + "1", 4096) as there, shmring.create(unique_name + "2", 4096) as back:
        other = peer(filtered(ECHO, *calls), unique_name + "1", unique_name + "2", answer)
        hear_filtered(other)
        other.expect("thread")
        other.expect("PermissionError True" if answer == errno.EPERM else "OSError True")
        other.expect("attached")
        with there.producer() as tx, back.consumer() as rx:
            for each in range(100):
                message = b"%d" % each * (1000 if each % 3 == 0 else 1)
                tx.send(message)
                assert rx.recv(30) == message
                if len(message) > 2000:
                    assert rx.recv(30) == bytes(2500)
        there.shutdown()
        other.expect("0 threads left")
        other.finish()


def test_the_environment_chooses(unique_name, peer, monkeypatch):
    program = """
        from shmring import aio
        try:
            say(aio.backend())
        except ValueError as error:
            say("ValueError", error)
    """
    for asked, answer in (("thread", "thread"), ("a thread", "ValueError")):
        monkeypatch.setenv("SHMRING_AIO", asked)
        other = peer(program)
        assert other.hear().startswith(answer)
        other.finish()


@pytest.mark.parametrize("way", ["io_uring", "thread"])
def test_no_descriptor_left_is_an_error_of_that_call_and_leaves_nothing(way):
    try:
        aio.use(way)
    except OSError as error:
        pytest.skip(f"{error}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            with pytest.raises(OSError, match="files") as caught:
                while True:
                    taken.append(os.dup(0))
            assert caught.value.errno == errno.EMFILE
            with pytest.raises(OSError) as caught:
                rx.fileno()
            assert caught.value.errno == errno.EMFILE
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            aio.use(None)
        fd = rx.fileno()
        tx.send(b"x")
        assert os.fstat(fd) and rx.try_recv() == b"x"


IDLE = """
    import asyncio
    from shmring import aio
    aio.use("io_uring")
    rings = [shmring.anonymous(4096) for _ in range(4)]
    handles = [ring.consumer(wait="park") for ring in rings]
    async def main():
        tasks = [asyncio.create_task(each.arecv()) for each in handles]
        await asyncio.sleep(0.1)
        say(len(os.listdir("/proc/self/task")))
        os.getpgid(0)                                           # a mark
        await asyncio.sleep(2)
        os.getpgid(0)
        say(len(os.listdir("/proc/self/task")))
    asyncio.run(main())
    say("done")
"""


def test_an_idle_loop_makes_no_system_call_but_for_its_slices(peer, tmp_path):
    """With io_uring: no thread, and for four handles in two seconds no more rounds than their slices."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt install strace")
    try:
        aio.use("io_uring")
    except OSError as error:
        pytest.skip(f"{error}")
    finally:
        aio.use(None)
    trace = tmp_path / "trace"
    program = "import os\nimport shmring\ndef say(*words): print(*words, flush=True)\n" + textwrap.dedent(IDLE)
    command = ["strace", "-f", "-qq", "-o", trace, sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    if "ptrace" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split() == ["1", "1", "done"], done.stderr
    lines = trace.read_text().splitlines()
    begin, end = (index for index, line in enumerate(lines) if "getpgid(" in line)
    calls = Counter(match[1] for line in lines[begin + 1 : end] if (match := re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line)))
    print(dict(calls))
    # Each handle looks again after 0.1, 0.2, 0.4, 0.8 s, and for the dead after 0.2 and 1 s: six rounds of some calls.
    assert calls["io_uring_enter"] <= 4 * 8 and calls.total() <= 4 * 8 * 10, calls
