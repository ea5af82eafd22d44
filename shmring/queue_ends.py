"""What a queue of Python objects stands on, in each process: its ring, and this process's ends of it. For queue.py.

A queue is a ring, and what each process has of it: a producer and a member of its one group, made when first used. They go to
other processes as those of multiprocessing do (inherited by fork, passed to children that are spawned), or by name. No lock is
shared, so whoever is killed leaves nothing locked.

The calls that matter are those of counted, bound to the ports and kept in the instance. Where there are none (before the first
use, in a forked child, after close) the class has methods of the same names, so the short way has nothing to check.
"""

from __future__ import annotations

import os
import re
import threading
import types
import weakref
from functools import partial
from operator import index

import shmring
from shmring import counted
from shmring.errors import LayoutMismatch
from shmring.queue_pickle import copier

CAPACITY = "16 MiB"
MAX_PARTICIPANTS = 1024  # slots cost some shared memory, and no time while nobody has them
MOST = 10**18 - 1
CALLS = ("_send", "_try_send", "_send_many", "_recv", "_try_recv", "_recv_many")

_queues = weakref.WeakSet()


def _renew_in_child():
    for queue in list(_queues):
        queue._begin()


os.register_at_fork(after_in_child=_renew_in_child)


def seconds(block, timeout):
    """The ports' timeout: None is for ever."""
    if not block:
        return 0
    return timeout if timeout is None or timeout > 0 else 0


class Ends:
    """A queue's ring, and this process's ends of it."""

    _kind = ""

    def _create(self, maxsize, name, capacity, wait, options):
        maxsize = max(0, index(maxsize))
        if maxsize > MOST:
            raise ValueError(f"maxsize is at most {MOST}, not {maxsize}")
        shape = {
            "content": f"queue {self._kind} pickle {maxsize}",
            "max_participants": MAX_PARTICIPANTS,
            "max_groups": 1,
        }
        if name is None:
            if options:
                raise TypeError(f"{', '.join(options)}: only for queues with a name")
            ring = shmring.anonymous(capacity, reserve=False, **shape)
        else:
            ring = shmring.create(name, capacity, **shape, **options)
        self._adopt(ring, wait)

    def _adopt(self, ring, wait):
        self._ring, self._wait = ring, wait
        self._maxsize = int(ring.content.split()[3])
        self._begin()
        _queues.add(self)

    @classmethod
    def open(cls, name, *, timeout=None, wait="adaptive", trust=None):
        """The queue that another program has created under `name`.

        Parameters
        ----------
        name : str or PathLike
            As for `shmring.open`.
        timeout : float or None
            Seconds to wait for it to appear. None or 0: it must be there.
        wait : WaitPolicy or "spin" | "adaptive" | "park"
            How this process waits.
        trust : None, int, iterable of int, or "anyone"
            Whose queue it may be, as for `shmring.open`. What is in it will be unpickled, which may run any code.

        Raises
        ------
        LayoutMismatch
            The name has a ring that is not such a queue; the text says what it is.
        RingNotFound, UntrustedRing
            As `shmring.open`.
        """
        ring = shmring.open(name, timeout=timeout, trust=trust)
        if not re.fullmatch(rf"queue {cls._kind} pickle \d{{1,18}}", ring.content):
            content = ring.content
            ring.close()
            raise LayoutMismatch(f"{name!r} is no shmring.{cls.__name__}: the content of the ring is {content!r}")
        queue = cls.__new__(cls)
        queue._adopt(ring, wait)
        return queue

    def __reduce__(self):
        if self._ring.name is None:
            from multiprocessing import context

            context.assert_spawning(self)
        return _revive, (type(self), self._ring, self._wait)

    # ---- ends, made when first used --------------------------------------------------------------------------------

    def _begin(self):
        """As new: also in a forked child, where everything but the ring is its parent's."""
        self._lock = threading.RLock()  # a signal handler may put as well
        self._closed = self._used = self._join_cancelled = False
        self._tx = self._rx = self._spilled = None
        self._forget_calls()

    def _forget_calls(self):
        for call in CALLS:
            self.__dict__.pop(call, None)

    def _produce(self):
        with self._lock:
            self._check_open()
            if self._tx is None:
                self._tx = self._ring.producer(wait=self._wait)
                self._used = True
                self._bind_producer()

    def _consume(self):
        with self._lock:
            self._check_open()
            if self._rx is None:
                self._rx = self._ring.consumer(wait=self._wait)
                self._used = True
                self._bind_consumer()

    def _bind_producer(self):
        calls = counted.send, counted.try_send, counted.send_many
        self._send, self._try_send, self._send_many = (partial(call, self._tx, self._maxsize) for call in calls)

    def _bind_consumer(self):
        calls = counted.recv, counted.try_recv, counted.recv_many
        self._recv, self._try_recv, self._recv_many = (partial(call, self._rx, copier) for call in calls)

    def _send(self, message, timeout=None):
        self._produce()
        return self._send(message, timeout)

    def _try_send(self, message):
        self._produce()
        return self._try_send(message)

    def _send_many(self, messages, timeout=None):
        self._produce()
        return self._send_many(messages, timeout)

    def _recv(self, timeout=None):
        self._consume()
        return self._recv(timeout)

    def _try_recv(self):
        self._consume()
        return self._try_recv()

    def _recv_many(self, limit, timeout=None):
        self._consume()
        return self._recv_many(limit, timeout)

    # ---- what all queues have --------------------------------------------------------------------------------------

    def _check_open(self):
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def _is_empty(self):
        """Has the ring no whole message that is not taken? However many there are."""
        from shmring.stats import waiting

        if self._ring.closed:
            raise OSError(f"{self!r} is closed")
        return waiting(self._ring, 1) == 0

    def empty(self):
        """Whether nothing waits in it (a snapshot). OSError if this process has closed it."""
        return self._is_empty()

    def close(self):
        """This process is done with the queue. Others go on. May be repeated; other calls raise ValueError from then on (of a
        SimpleQueue: OSError, as in multiprocessing).

        A queue that this process has never used stays as it is, for children that are still to be started.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._forget_calls()
                if self._spilled is None:
                    self._end()

    def _end(self):
        if self._used:
            self._ring.close()
        self._tx = self._rx = None

    def unlink(self):
        """Remove the queue's name; who has the queue goes on with it. ValueError if it has none."""
        if self._ring.name is None:
            raise ValueError("an anonymous queue has no name to remove; it goes with its last user")
        shmring.unlink(self._ring.name)

    def __enter__(self):
        self._check_open()
        return self

    def __exit__(self, *_):
        self._used = True
        self.close()

    def __repr__(self):
        return f"<shmring.{type(self).__name__} {self._ring.label}{', closed' if self._closed else ''}>"

    @property
    def ring(self):
        """The `Ring` below: its stats(), capacity, name."""
        return self._ring

    __class_getitem__ = classmethod(types.GenericAlias)


def _revive(cls, ring, wait):
    queue = cls.__new__(cls)
    queue._adopt(ring, wait)
    return queue
