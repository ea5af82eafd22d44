"""A fuse: the kernel sends SIGKILL to this very process after so many microseconds, wherever it is by then.

Signals from elsewhere mostly hit processes that wait or run Python; with a fuse they hit what is done right after it was lit.
"""

from __future__ import annotations

import ctypes
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC = 1


class _Event(ctypes.Structure):  # struct sigevent, by signal
    _fields_ = (("value", ctypes.c_void_p), ("number", ctypes.c_int), ("how", ctypes.c_int), ("rest", ctypes.c_char * 48))


class _Times(ctypes.Structure):  # struct itimerspec
    _fields_ = (("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


def light(after_us: float) -> None:
    event = _Event(None, signal.SIGKILL, 0, b"")
    timer = ctypes.c_void_p()
    times = _Times(0, 0, 0, max(1, int(after_us * 1000)))
    if _libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
    if _libc.timer_settime(timer, 0, ctypes.byref(times), None) != 0:
        raise OSError(ctypes.get_errno(), "timer_settime")
