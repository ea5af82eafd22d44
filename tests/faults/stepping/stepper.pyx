# cython: language_level=3
"""One process under ptrace(2), stopped where the test wants it: before and after each instruction of shmring's compiled code, and
at each system call that is made for it.

Stepping is for `shmring/*.so` only. While the process is elsewhere (libpython, libc), all of that code is hidden under
breakpoints, so that it runs at full speed and stops at the first instruction that comes back, by whatever way; system calls stop
by themselves. A later process that was forked from the same parent has the same code at the same addresses, and is brought
to any of these points by one breakpoint and some steps.

x86-64 only: the registers and the breakpoint are its own, and on aarch64 a stepped pair of exclusive load and store never
succeeds.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.signal cimport SIGKILL, SIGSTOP, SIGTRAP
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

import os
import time

cdef extern from "sys/types.h" nogil:
    ctypedef int pid_t
cdef extern from "unistd.h" nogil:
    pid_t getpid()
    long syscall(long number, ...)
    ssize_t pwrite(int fd, const void* data, size_t count, int64_t offset)
cdef extern from "sys/ptrace.h" nogil:
    long ptrace(int request, pid_t pid, void* address, void* data)
    enum:
        PTRACE_TRACEME, PTRACE_SINGLESTEP, PTRACE_CONT, PTRACE_SYSCALL, PTRACE_DETACH, PTRACE_SETOPTIONS
        PTRACE_PEEKUSER, PTRACE_POKEUSER, PTRACE_PEEKTEXT, PTRACE_POKETEXT, PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL
cdef extern from "sys/wait.h" nogil:
    pid_t waitpid(pid_t pid, int* status, int options)
    bint WIFSTOPPED(int status)
    int WSTOPSIG(int status)
    int WNOHANG
cdef extern from "signal.h" nogil:
    int kill(pid_t pid, int signal)

cdef enum:
    RIP = 16 * 8                        # offsets in struct user
    ORIG_RAX = 15 * 8
    BREAKPOINT = 0xcc
    SYSCALL_STOP = 0x80

# Kinds of points. The process stands ...
INSIDE = 0                              # before an instruction of shmring
LEFT = 1                                # behind one that led elsewhere
ENTRY = 2                               # before a system call
EXIT = 3                                # behind it
ASLEEP = 4                              # in it, sleeping

ENDED = "ended"                         # run_to: the operation was over first


def trace_me():
    if ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0:
        raise OSError(errno, f"ptrace: {os.strerror(errno)}")


def stop_here():
    """Where the operation begins and ends."""
    kill(getpid(), SIGSTOP)


cdef class Traced:
    """A child that called trace_me. `segments`: (start, end) of shmring's code; on_sleep is called once, when it sleeps."""

    cdef pid_t pid
    cdef int memory
    cdef list segments, images, covers
    cdef object on_sleep
    cdef bint in_call
    cdef bint runs                      # it was left in a system call that sleeps

    def __init__(self, pid, segments, on_sleep=None):
        cdef uint64_t start, end
        self.pid = pid
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self.segments = segments
        self.on_sleep = on_sleep
        self.images = [PyBytes_FromStringAndSize(<char*> <uint64_t> start, end - start) for start, end in segments]
        self.covers = [bytes([BREAKPOINT]) * (end - start) for start, end in segments]

    def close(self):
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1

    def begin(self):
        """Wait for its first stop_here."""
        status = self.wait()
        if not WIFSTOPPED(status) or WSTOPSIG(status) != SIGSTOP:
            raise RuntimeError(f"the process ended before its operation, with status {status:#x}")
        self.request(PTRACE_SETOPTIONS, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)

    def kill(self):
        """SIGKILL, and gone when this returns."""
        cdef int status = 0
        kill(self.pid, SIGKILL)
        while True:
            status = self.wait_plain()
            if not WIFSTOPPED(status):
                return status

    def stop(self):
        """From now on it is stopped by SIGSTOP, and nobody traces it."""
        if self.runs:
            kill(self.pid, SIGSTOP)
            self.wait_plain()
        self.request(PTRACE_DETACH, 0, SIGSTOP)

    def resume(self):
        """Let a traced one run to its next stop_here."""
        self.proceed(PTRACE_CONT, 0)

    # ---- a first walk --------------------------------------------------------------------------------------------

    def trace(self, const unsigned char[::1] shared not None, int most, bint in_call=False):
        """Walk from where it stands (before a system call, if in_call) to the next stop_here. Returns [(kind, address or number of the system call, has shared memory changed
        since the point before)], at most `most`.
        """
        cdef list points = []
        cdef bytes last = PyBytes_FromStringAndSize(<char*> &shared[0], shared.shape[0])
        cdef bint inside = False
        cdef int signal = 0
        cdef uint64_t rip
        cdef object kind, where
        self.in_call = in_call
        self.hide()
        while len(points) < most:
            if inside:
                self.step(1)
                rip = self.peek(RIP)
                inside = self.is_ours(rip)
                kind, where = (INSIDE, rip) if inside else (LEFT, rip)
                if not inside:
                    self.hide()
            else:
                slept = self.on_sleep
                signal = self.proceed(PTRACE_SYSCALL, signal)
                if slept is not None and self.on_sleep is None:
                    points.append((ASLEEP, 0, False))
                if signal == SIGSTOP:
                    while points and points[len(points) - 1][0] == ENTRY:       # of the kill in stop_here
                        points.pop()
                    self.show()
                    return points
                if signal == (SIGTRAP | SYSCALL_STOP):
                    self.in_call = not self.in_call
                    kind, where = (ENTRY if self.in_call else EXIT), self.peek(ORIG_RAX)
                    signal = 0
                elif signal == SIGTRAP and self.is_ours(self.peek(RIP) - 1):
                    rip = self.peek(RIP) - 1
                    self.poke(RIP, rip)
                    self.show()
                    inside = True
                    signal = 0
                    kind, where = INSIDE, rip
                else:
                    continue                            # a signal for it
            changed = memcmp(PyBytes_AS_STRING(last), &shared[0], shared.shape[0]) != 0
            if changed:
                memcpy(PyBytes_AS_STRING(last), &shared[0], shared.shape[0])
            points.append((kind, where, changed))
        raise RuntimeError(f"the operation has more than {most} points")

    def walk(self, int most):
        """The same, step by step through everybody's code: addresses of shmring's instructions only. Slow; to check trace with."""
        cdef list addresses = []
        cdef uint64_t rip
        cdef int signal = 0
        for _ in range(most):
            signal = self.proceed(PTRACE_SINGLESTEP, 0)
            if signal == SIGSTOP:
                return addresses
            if signal != SIGTRAP:
                raise RuntimeError(f"signal {signal} while stepping")
            rip = self.peek(RIP)
            if self.is_ours(rip):
                addresses.append(rip)
        raise RuntimeError(f"the operation has more than {most} instructions")

    cdef bint is_ours(self, uint64_t address):
        cdef uint64_t start, end
        for start, end in self.segments:
            if start <= address < end:
                return True
        return False

    cdef hide(self):
        self.write_all(self.covers)

    cdef show(self):
        self.write_all(self.images)

    cdef write_all(self, list texts):
        cdef uint64_t start
        cdef bytes text
        for (start, _), text in zip(self.segments, texts):
            if pwrite(self.memory, PyBytes_AS_STRING(text), len(text), start) != len(text):
                raise OSError(errno, f"cannot write the code of process {self.pid}: {os.strerror(errno)}")

    # ---- later ones ----------------------------------------------------------------------------------------------

    def run_to(self, uint64_t address, int occurrence, int steps, int calls, bint asleep=False):
        """To the `occurrence`th time that it comes to `address` (0: from where it is), then `steps` instructions, then `calls` stops
        at system calls. Returns where it stands then, or ENDED.
        """
        cdef int64_t whole, covered
        cdef int signal = 0, seen = 0
        if address:
            whole = ptrace(PTRACE_PEEKTEXT, self.pid, <void*> address, NULL)
            covered = (whole & ~<int64_t> 0xff) | BREAKPOINT
            self.request(PTRACE_POKETEXT, address, covered)
            while True:
                signal = self.proceed(PTRACE_CONT, signal)
                if signal == SIGSTOP:
                    self.request(PTRACE_POKETEXT, address, whole)
                    return ENDED
                if signal == SIGTRAP and self.peek(RIP) == address + 1:
                    signal = 0
                    seen += 1
                    self.poke(RIP, address)
                    if seen == occurrence:
                        break
                    self.request(PTRACE_POKETEXT, address, whole)
                    self.step(1)
                    self.request(PTRACE_POKETEXT, address, covered)
            self.request(PTRACE_POKETEXT, address, whole)
        self.step(steps)
        for _ in range(calls):
            signal = self.proceed(PTRACE_SYSCALL, 0)
            if signal == SIGSTOP:
                return ENDED
        if asleep:
            self.request(PTRACE_CONT, 0, 0)
            self.await_sleep()
            self.runs = True
        return 0 if asleep else self.peek(RIP)

    # ---- ptrace --------------------------------------------------------------------------------------------------

    cdef step(self, int count):
        cdef int number
        for number in range(count):
            signal = self.proceed(PTRACE_SINGLESTEP, 0)
            if signal != SIGTRAP:
                raise RuntimeError(f"signal {signal} while stepping")

    cdef int proceed(self, int request, int signal) except -1:
        """To its next stop: which signal."""
        self.request(request, 0, signal)
        status = self.wait()
        if not WIFSTOPPED(status):
            raise RuntimeError(f"the process ended in its operation, with status {status:#x}")
        return WSTOPSIG(status)

    cdef request(self, int request, uint64_t address, int64_t data):
        if ptrace(request, self.pid, <void*> address, <void*> data) < 0:
            raise OSError(errno, f"ptrace({request}): {os.strerror(errno)}")

    cdef uint64_t peek(self, int offset):
        return ptrace(PTRACE_PEEKUSER, self.pid, <void*> <uint64_t> offset, NULL)

    cdef poke(self, int offset, uint64_t value):
        self.request(PTRACE_POKEUSER, offset, value)

    cdef int wait(self) except -1:
        cdef int status = 0
        cdef pid_t found
        if self.on_sleep is None:
            return self.wait_plain()
        while True:
            found = waitpid(self.pid, &status, WNOHANG)
            if found == self.pid:
                return status
            if self.on_sleep is not None and self.is_asleep():
                wake, self.on_sleep = self.on_sleep, None
                wake()
            time.sleep(0.00005)

    cdef int wait_plain(self) except -1:
        cdef int status = 0
        cdef pid_t found
        while True:
            with nogil:
                found = waitpid(self.pid, &status, 0)
            if found == self.pid:
                return status
            if errno != EINTR:
                raise OSError(errno, f"waitpid: {os.strerror(errno)}")

    cdef await_sleep(self):
        while not self.is_asleep():
            time.sleep(0.00005)

    cdef bint is_asleep(self):
        """In a futex wait?"""
        with open(f"/proc/{self.pid}/syscall") as file:
            if file.read().split()[0] not in ("202", "449"):
                return False
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"
