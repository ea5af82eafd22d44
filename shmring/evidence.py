"""What the kernel says about who lives: the evidence behind every repair.

A process is named by its pid, its start time (so that a reused pid is somebody else), its pid namespace (so that equal pids
in two containers are not mixed up) and the machine's boot. Where /proc speaks of other pids or another time than others see,
a process says nothing of itself, and believes nothing of others: its file lock alone tells. Time never enters: slow or stopped
is alive.
"""

from __future__ import annotations

import errno
import os
from collections import namedtuple

FIRST_TIME_NAMESPACE = 0xEFFFFFFA  # its inode: TIME_NS_INIT_INO of linux/nsfs.h


class Identity(namedtuple("Identity", "pid start_time pid_namespace boot_id")):
    """A process.

    Attributes
    ----------
    pid : int
    start_time : int
        Clock ticks since boot: field 22 of /proc/PID/stat.
    pid_namespace : int
        Inode of the namespace; 0 if /proc does not tell, or tells another time than it tells others (a time namespace).
    boot_id : bytes
        16 bytes; zeros if /proc does not tell.
    """

    __slots__ = ()


def start_time(pid: int) -> int | None:
    """When process `pid` of our own namespace started; None if it is gone, or dead and only not yet reaped.

    Raises PermissionError when /proc does not tell (mounted with hidepid).
    """
    try:
        # The line of its first thread, which started with it: qemu-user answers /proc/self/stat itself, with another time.
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):  # nobody has a pid of more than 31 bits
            return None
        raise PermissionError(f"process {pid} is there, but hidden") from None
    # A dead leader whose other threads go on is a zombie, too, but counts them.
    if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:
        return None
    return int(fields[19])


def _proc_is_ours() -> bool:
    """Does /proc number processes as our namespace does? Another one's lists us under a pid for each namespace in between."""
    with open("/proc/self/status", "rb") as lines:
        return any(line.startswith(b"NSpid:") and len(line.split()) == 2 for line in lines)


def _time_is_everybodys() -> bool:
    """Outside the first time namespace the start times in /proc are shifted: who lives would look like somebody else."""
    try:
        return os.stat("/proc/self/ns/time").st_ino == FIRST_TIME_NAMESPACE
    except FileNotFoundError:
        return True  # Linux before 5.6


def _identity_of(pid: int) -> Identity:
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        if not _proc_is_ours() or not _time_is_everybodys():
            namespace = 0  # the pid, or the start time, means somebody else to others
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = bytes.fromhex(file.read().strip().replace("-", ""))
        started = start_time(pid) or 0
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # only for the moment: not to be remembered
        namespace, boot_id, started = 0, bytes(16), 0
    return Identity(pid, started, namespace, boot_id)


_own: Identity | None = None


def _forget_own() -> None:
    global _own
    _own = None  # a descendant may have an ancestor's pid


os.register_at_fork(after_in_child=_forget_own)


def own_identity() -> Identity:
    """Who this process is. A forked child is somebody else."""
    global _own
    if _own is None or _own.pid != os.getpid():
        _own = _identity_of(os.getpid())
    return _own


def is_gone(who: Identity) -> bool:
    """Is it certain that `who` lives no more? False when we cannot tell: of who is in another pid namespace, or hidden, or
    while there is no descriptor to look with.
    """
    try:
        me = own_identity()
        if who.boot_id != me.boot_id:
            return any(who.boot_id) and any(me.boot_id)
        if not who.pid_namespace or who.pid_namespace != me.pid_namespace:
            return False
        return start_time(who.pid) != who.start_time
    except OSError:
        return False
