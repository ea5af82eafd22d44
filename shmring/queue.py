"""Queues of Python objects: `Queue`, `JoinableQueue` and `SimpleQueue` of multiprocessing, over a ring.

What they stand on is in queue_ends.py; what they put beyond the ring's room in queue_spill.py.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, Full
from threading import get_ident
from time import monotonic

from shmring import counted
from shmring.errors import TooManyViews
from shmring.queue_ends import CAPACITY, Ends, seconds
from shmring.queue_pickle import load, load_all, pack, pack_many, snapshot
from shmring.queue_spill import Spill

FEW_VIEWS = 8  # a member may hold 15, if they do not lie in a row
FIRST_STEP, LAST_STEP = 0.1, 2.0  # seconds between two looks of join() for gaps that nobody passes over


class SimpleQueue(Ends):
    """`multiprocessing.SimpleQueue`: put and get, which wait, and nothing else.

    Parameters as for `Queue`, without maxsize: put waits while the ring is full.
    """

    _kind = "simple"

    def __init__(self, *, ctx=None, name=None, capacity=CAPACITY, wait="adaptive", **options):
        self._create(0, name, capacity, wait, options)

    def put(self, obj):
        """Put an object in; wait while there is no room. It is pickled before put returns."""
        self._send(pack(obj))

    def get(self):
        """Take the next object out; wait while there is none."""
        return load(self._recv())

    def _check_open(self):
        if self._closed:
            raise OSError(f"handle is closed: {self!r}")  # of this one multiprocessing raises OSError, of the others ValueError

    def _end(self):
        self._used = True  # as in multiprocessing, where only the other queues stay if they were not used
        super()._end()


class Queue(Ends):
    """`multiprocessing.Queue` over a ring in shared memory, which no killed process can block.

    Parameters
    ----------
    maxsize : int
        The most objects that wait in it; put waits (or raises Full) at that number, or when the ring has no room for the
        object's bytes. 0 or less: no limit; what the ring has no room for waits in the process that put it.
    ctx
        Taken and not needed: it is for code that calls multiprocessing.queues.Queue.
    name : str or PathLike, optional
        Create it under this name, for unrelated programs, which call `Queue.open(name)`. It stays until `unlink()`.
    capacity : int or str
        Bytes of the ring. One object, pickled, must fit into it, arrays included.
    wait : WaitPolicy or "spin" | "adaptive" | "park"
        How processes wait for objects and room.
    **options
        With a name: `exist_ok`, `mode`, `reserve`, `trust` of `shmring.create`. A name that is taken raises RingExists, with
        exist_ok=True only if what has it is not the same kind of queue with the same capacity and maxsize.

    An object is pickled before put returns, so it may be changed afterwards, and what cannot be pickled raises at once. Buffers
    of 16 KiB and more (arrays) stay out of the pickle: one copy into the ring, and one out of it, into memory of the taker.
    Only take objects out of queues whose other users you trust: unpickling runs what they say.

    Concurrency: any number of threads and processes. Each object is taken by one of them, in the order in which they were put.
    Whoever is killed in put or get, at any point, keeps nobody waiting; an object is then either in the queue or it is not.
    """

    _kind = "plain"
    _spills = True

    def __init__(self, maxsize=0, *, ctx=None, name=None, capacity=CAPACITY, wait="adaptive", **options):
        self._create(maxsize, name, capacity, wait, options)

    # ---- in --------------------------------------------------------------------------------------------------------

    def put(self, obj, block=True, timeout=None):
        """Put an object in.

        Parameters
        ----------
        block : bool
            Wait while the queue is full; without, raise Full.
        timeout : float or None
            Seconds to wait, None for ever.

        Raises
        ------
        queue.Full
            No room in time.
        MessageTooLarge
            The object is larger than the ring.
        ValueError
            The queue is closed.
        Exception
            What pickling the object raises.
        """
        message = pack(obj)
        if not self._try_send(message):
            self._put_in_time(message, block, timeout)

    def put_nowait(self, obj):
        """put(obj, False)."""
        self.put(obj, False)

    def put_many(self, objects, block=True, timeout=None):
        """Put objects in, in order; much faster than one by one. All are pickled before the first is put.

        Raises as put. Full has an attribute `put`: how many are in the queue, the first ones of `objects`.
        """
        messages = pack_many(objects)
        if not messages:
            return
        spills = self._spills and not self._maxsize
        try:
            sent = self._send_many(messages, timeout=0 if spills else seconds(block, timeout))
        except TimeoutError:
            sent = 0
        if sent < len(messages):
            if not spills:
                full = Full(f"{sent} of {len(messages)} objects were put")
                full.put = sent
                raise full
            self._spill(messages[sent:])

    def _put_in_time(self, message, block, timeout):
        if self._spills and not self._maxsize:
            self._spill([message])
            return
        try:
            self._send(message, timeout=seconds(block, timeout))
        except TimeoutError:
            raise Full from None

    def _spill(self, messages):
        messages = [snapshot(message) for message in messages]  # the objects may be changed once put has returned
        for message in messages:
            if len(message) > self._ring.max_message - counted.TRAILER:
                counted.try_send(self._tx, 0, message)  # raises
        with self._lock:
            self._check_open()
            if self._spilled is None:
                self._spilled = Spill(self._send, self._lock, self._spill_ended, not self._join_cancelled)
                self._try_send, self._send_many = self._spill_one, self._spill_many
            self._spilled.add(messages)

    def _spill_one(self, message):
        self._spill([message])
        return True

    def _spill_many(self, messages, timeout):
        self._spill(messages)
        return len(messages)

    def _spill_ended(self):
        self._spilled = None
        if self._closed:
            self._end()
        else:
            self._bind_producer()

    # ---- out -------------------------------------------------------------------------------------------------------

    def get(self, block=True, timeout=None):
        """Take the next object out.

        Parameters
        ----------
        block : bool
            Wait while the queue is empty; without, raise Empty.
        timeout : float or None
            Seconds to wait, None for ever.

        Raises
        ------
        queue.Empty
            Nothing came in time.
        ValueError
            The queue is closed.
        Exception
            What unpickling the object raises; it is out of the queue then.
        """
        if block and timeout is None:
            return load(self._recv())
        message = self._try_recv()
        if message is None:
            message = self._get_in_time(block, timeout)
        return load(message)

    def get_nowait(self):
        """get(False)."""
        return self.get(False)

    def get_many(self, limit, block=True, timeout=None):
        """Take up to `limit` objects out, at least one: what is there. A list.

        Raises as get. If one of them cannot be unpickled, the exception's attribute `objects` is the list of the others.
        """
        try:
            messages = self._recv_many(limit, seconds(block, timeout))
        except TimeoutError:
            raise Empty from None
        return load_all(messages)

    def _get_in_time(self, block, timeout):
        if not seconds(block, timeout):
            raise Empty
        try:
            return self._recv(timeout)
        except TimeoutError:
            raise Empty from None

    # ---- facts -----------------------------------------------------------------------------------------------------

    @property
    def maxsize(self):
        """The most objects that wait in it; 0: no limit."""
        return self._maxsize

    def qsize(self):
        """How many objects wait in it (a snapshot): in the ring, and in this process if the ring has no room for them.

        OSError if this process has used the queue and closed it.
        """
        if self._ring.closed:
            raise OSError(f"{self!r} is closed")
        spilled = self._spilled
        return counted.count(self._ring) + (len(spilled) if spilled is not None else 0)

    def empty(self):
        """Whether no object waits in it (a snapshot). OSError if this process has used the queue and closed it."""
        return self._is_empty() and not self._spilled

    def full(self):
        """Whether maxsize objects wait in it (a snapshot)."""
        return 0 < self._maxsize <= self.qsize()

    # ---- the end ---------------------------------------------------------------------------------------------------

    def join_thread(self):
        """After close(): wait until what this process has put is in the ring. Only an unbounded queue whose ring was full has
        anything to wait for. The interpreter waits so at its end, if cancel_join_thread was not called.
        """
        assert self._closed, f"Queue {self!r} not closed"
        spilled = self._spilled
        if spilled is not None:
            spilled.join()

    def cancel_join_thread(self):
        """Do not wait at the end of the interpreter: what the ring has no room for until then is lost."""
        with self._lock:
            self._join_cancelled = True
            if self._spilled is not None:
                self._spilled.cancel_join()

    def __exit__(self, *_):
        super().__exit__()
        if not self._join_cancelled:
            self.join_thread()


class JoinableQueue(Queue):
    """`multiprocessing.JoinableQueue` over a ring: join() waits until every object has got its task_done().

    An object stays in the ring until then. If the process that took it ends first, killed or not, another one gets it, so a
    killed worker does not keep join() waiting for ever; the work should bear to be done twice. What is not done takes room, as
    does what was put after it, so put waits when the ring is full, maxsize or not: give `capacity` for what may be under way
    while the slowest task runs.

    Parameters and the rest as for `Queue`.
    """

    _kind = "joinable"
    _spills = False

    def _begin(self):
        super()._begin()
        self._hands = {}  # thread -> what it took and has not done: (view, member), oldest first
        self._members = []

    # ---- out -------------------------------------------------------------------------------------------------------

    def get(self, block=True, timeout=None):
        """Take the next object out, to be followed by task_done(). As `Queue.get`."""
        return load(self._take(seconds(block, timeout)))

    def get_many(self, limit, block=True, timeout=None):
        """Take up to `limit` objects out, at least one; each wants a task_done(). A list. As `Queue.get_many`."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        views = [self._take(seconds(block, timeout))]
        try:
            while len(views) < limit:
                views.append(self._take(0))
        except Empty:
            pass
        return load_all(views)

    def _take(self, timeout):
        while True:
            rx = self._rx
            if rx is None:
                self._consume()
                continue
            try:
                view = counted.peek(rx, timeout)
            except TimeoutError:
                raise Empty from None
            except TooManyViews:
                self._change_member(rx)
                continue
            self._hands.setdefault(get_ident(), deque()).append((view, rx))
            return view

    def _change_member(self, rx):
        """A member can hold some ranges of records only; `rx` is at its limit. Take another one of ours, or a new one."""
        with self._lock:
            self._check_open()
            if self._rx is not rx:
                return  # another thread did
            if rx not in self._members:
                self._members.append(rx)
            held = dict.fromkeys((each for each in self._members if each is not rx), 0)
            for hand in list(self._hands.values()):
                for _, member in list(hand):
                    if member in held:
                        held[member] += 1
            freest = min(held, key=held.get, default=None)
            if freest is None or held[freest] > FEW_VIEWS:
                freest = self._ring.consumer(wait=self._wait)
                self._members.append(freest)
            self._rx = freest

    @property
    def redelivered(self):
        """Whether the oldest object that this thread has not done was given to another process before, which has ended."""
        hand = self._hands.get(get_ident())
        return bool(hand) and hand[0][0].redelivered

    # ---- done ------------------------------------------------------------------------------------------------------

    def task_done(self):
        """One of the objects that this process took is done: the oldest one that this thread took; if there is none, that any
        thread took.

        Raises
        ------
        ValueError
            This process has nothing that is not done.
        """
        try:
            hand = self._hands.get(get_ident()) or min(
                filter(None, list(self._hands.values())), key=lambda hand: hand[0][0].sequence
            )
            view, _ = hand.popleft()
        except (ValueError, IndexError):
            raise ValueError("task_done() called too many times") from None
        view.release()

    def join(self, timeout=None):
        """Wait until everything that was put is done, by whomever.

        Raises
        ------
        TimeoutError
            It is not, after `timeout` seconds; the text says who has how much of it.
        """
        if self._tx is None:
            self._produce()
        deadline = None if timeout is None else monotonic() + timeout
        step = FIRST_STEP
        while True:
            rest = step if deadline is None else max(0, min(step, deadline - monotonic()))
            try:
                return self._tx.drain(rest)
            except TimeoutError:
                if deadline is not None and monotonic() >= deadline:
                    raise
            self._pass_over_gaps()
            step = min(2 * step, LAST_STEP)

    def _pass_over_gaps(self):
        """What a killed producer had begun to put is for consumers to pass over. Do it, if none of them comes along."""
        if self._is_empty() and self._ring.stats().groups[0].lag_bytes:
            passing, held = self._ring.consumer(), []
            try:
                held.append(passing.peek(0))  # what comes this very moment goes back when this consumer closes
            except TimeoutError:
                pass
            finally:
                passing.close()

    def _end(self):
        super()._end()  # before the views go, which would release what is not done
        self._hands, self._members = {}, []

    def __del__(self):
        if getattr(self, "_used", False):  # no, if making it raised
            self._end()
