"""Programs that put themselves into namespaces of their own, as a container runtime would."""

from __future__ import annotations

import pytest

# What such a program has. `enter` says "refused ..." and ends where this machine does not permit it; after it, a new pid
# namespace has its first process, with pid 1, in the caller; it says "outside PID" first. Flags: sched.h and mount.h.
ENTER = """
# Whoever becomes somebody else may not be able to read the interpreter's files any more.
import ctypes, encodings.ascii, fcntl, logging, posix_ipc, resource
import shmring.backing, shmring.consumer, shmring.observer, shmring.producer, shmring.stats
MOUNTS, PIDS, USERS, TIMES = 0x20000, 0x20000000, 0x10000000, 0x80
libc = ctypes.CDLL(None, use_errno=True)

def must(result, what):
    if result != 0:
        os.write(1, f"refused {what}: {os.strerror(ctypes.get_errno())}\\n".encode())
        os._exit(0)

def mount(source, target, kind, flags):
    must(libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None), f"mount {target}")

def fork_and_tell():
    # Says "outside PID" before the child goes on, which says something, too.
    go, told = os.pipe()
    child = os.fork()
    if child: os.write(1, b"outside %d\\n" % child)
    os.close(told)
    if not child: os.read(go, 1)        # until nobody can write
    os.close(go)
    return child

def enter(flags, proc=False):
    if os.geteuid() != 0: flags |= USERS
    if proc: flags |= MOUNTS
    me = os.geteuid()
    faulthandler.cancel_dump_traceback_later()      # a thread: user namespaces are for processes that have one
    while len(os.listdir("/proc/self/task")) > 1: pass
    libc.prctl(4, 1)                                # PR_SET_DUMPABLE: who became somebody else may write its own files in /proc
    must(libc.unshare(flags), f"unshare {flags:#x}")
    if flags & USERS:
        with open("/proc/self/uid_map", "w") as file: file.write(f"{me} {me} 1")
    if flags & TIMES:
        with open("/proc/self/timens_offsets", "w") as file: file.write("boottime 100000 0")
    if flags & MOUNTS: mount("none", "/", None, 0x44000)       # MS_REC | MS_PRIVATE
    if flags & (PIDS | TIMES):
        inner = fork_and_tell()
        if inner:
            os.waitpid(inner, 0)
            os.write(1, b"ended\\n")
            hear()
            os._exit(0)
        faulthandler.dump_traceback_later(200, exit=True)
        libc.prctl(1, 9)                # PR_SET_PDEATHSIG: the test ends the outer one
    if proc: mount("proc", "/proc", "proc", 0)
"""

# A producer and a consumer that do as they are told.
GUEST = (
    ENTER
    + """
def serve(ring):
    tx, rx = ring.producer(), ring.consumer(sys.argv[2])
    os.write(1, b"inside %d\\n" % os.getpid())
    for command in iter(hear, "leave"):
        if command == "claim": claim = tx.reserve(10); say("claimed")
        elif command == "send": tx.send(b"from the guest"); say("sent")
        elif command == "recv": say(rx.recv().decode())
        elif command == "repair": say(ring.repair(), [each.alive for each in ring.stats().participants])
        elif command == "namespace":
            from shmring import evidence
            say(evidence.own_identity().pid_namespace)
    os._exit(0)
"""
)


class Guest:
    """A started guest; `pid` is its process as we see it."""

    def __init__(self, started) -> None:
        self.started, self.pid = started, started.pid
        heard = started.hear()
        if heard.startswith("outside"):
            self.pid = int(heard.split()[1])
            heard = started.hear()
        if heard.startswith("refused"):
            pytest.skip(f"this machine or user does not permit it: {heard}")
        assert heard.startswith("inside "), heard
        self.inside = int(heard.split()[1])

    def ask(self, command: str) -> str:
        self.started.say(command)
        return self.started.hear()
