"""Messages that carry their numbers, in rings that are bounded in messages as well as in bytes: what a bounded Queue is made of.

The number stands behind the payload, in the message's last TRAILER bytes: `recv` and `recv_many` return it with the message, as a
pickle ends before it, and cutting it off would copy the rest. The protocol is that of _core/count.pxd. All producers of such
a ring send, and all members of its group "default" receive, by these functions only; its producers are "multi".

Concurrency: as the methods of Producer and Consumer; each call is atomic.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.count cimport count_in_flight, count_note
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport FULL, Fault, OK
from shmring._core.produce cimport UNBOUNDED, produce_finish, produce_most_batch, produce_reserve, produce_reserve_batch
from shmring._core.record cimport record_span
from shmring._core.reserve cimport MOST_MESSAGES
from shmring.consumer cimport Consumer
from shmring.producer cimport Producer
from shmring.ring cimport NO_WAIT, Ring, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.view cimport View

from shmring.errors import CorruptRing

cdef enum:
    NUMBER_BYTES = 8

TRAILER = NUMBER_BYTES


def send(Producer tx not None, bytes message not None, int64_t limit, timeout=None):
    """Send one message; wait while the ring is full, or `limit` messages are in flight (0: no limit).

    Raises as Producer.send.
    """
    cdef int64_t deadline
    if timeout is not None:
        check_timeout(timeout)
    if not write_now(tx, message, limit):
        deadline = deadline_after(timeout)
        write_at(tx, message, tx.reserve_bytes(PyBytes_GET_SIZE(message) + NUMBER_BYTES, deadline), deadline)
        tx.publish()


def try_send(Producer tx not None, bytes message not None, int64_t limit):
    """Send one message if there is room now. Returns whether it was sent."""
    if not tx.others_write() and write_now(tx, message, limit):
        return True
    tx.wanted = PyBytes_GET_SIZE(message) + NUMBER_BYTES
    tx.note_poll(1)
    return False


def send_many(Producer tx not None, list messages not None, int64_t limit, timeout=None):
    """Send bytes objects in order; wait for room. Returns how many were sent: fewer (but at least one) when the time was up.

    Raises as Producer.send_many; the exception's attribute `sent` says how many were sent before it.
    """
    cdef list batch = messages[:]                   # theirs may change while we wait
    cdef Py_ssize_t sent = 0, total = len(batch), opened
    cdef int64_t deadline = deadline_after(timeout)
    cdef bytes message
    for each in batch:
        if not PyBytes_CheckExact(each):
            raise TypeError(f"messages are bytes, not {type(each).__name__}")
    set_limit(tx, limit)
    tx.ran_full = False
    try:
        while sent < total:
            tx.check_sending()
            opened = sent + max(1, open_batch(tx, batch, sent))
            while sent < opened:
                message = batch[sent]
                write_at(tx, message, tx.reserve_bytes(PyBytes_GET_SIZE(message) + NUMBER_BYTES, deadline), deadline)
                sent += 1
            tx.publish()
    except BaseException as error:
        if not tx.is_closed and not tx.is_busy:
            tx.departing()
            tx.publish()
        if tx.ran_full and sent and isinstance(error, TimeoutError):
            return sent
        error.sent = sent
        raise
    return sent


def recv(Consumer rx not None, timeout=None):
    """The next message with its trailer; waits while there is none. Raises as Consumer.recv."""
    cdef int code
    if timeout is not None:
        check_timeout(timeout)
    message = rx.take(&code)
    if message is None:
        message = rx.receive_slowly(code, timeout)
    note(rx, message)
    return message


def try_recv(Consumer rx not None):
    """The next message with its trailer, or None."""
    message = rx.try_recv()
    if message is not None:
        note(rx, message)
    return message


def recv_many(Consumer rx not None, Py_ssize_t limit, timeout=None):
    """Up to `limit` messages with their trailers, at least one. Raises as Consumer.recv_many."""
    cdef list messages = rx.recv_many(limit, timeout)
    for message in messages:                        # redelivered ones are out of order
        note(rx, message)
    return messages


def peek(Consumer rx not None, timeout=None):
    """The next message with its trailer where it lies: a `View`. It is in flight no more, kept or not. Raises as Consumer.peek."""
    cdef View view = rx.peek(timeout)
    note_bytes(rx, view.loan.address, view.loan.size)
    return view


def count(Ring ring not None):
    """Messages in flight: sent, or being sent, and not received (a snapshot)."""
    ring.check_open()
    return count_in_flight(&ring.map)


cdef set_limit(Producer tx, int64_t limit):
    if limit < 0:
        raise ValueError(f"a limit is at least 0, not {limit}")
    if not tx.writer.ring.is_multi:
        raise ValueError(f"ring {tx.ring.name!r} is for a single producer; only those of many count messages")
    tx.writer.most = limit or UNBOUNDED


cdef bint write_now(Producer tx, bytes message, int64_t limit) except -1:
    """Send it if there is room."""
    cdef char* payload = NULL
    cdef int code
    set_limit(tx, limit)
    tx.check_sending()
    code = produce_reserve(&tx.writer, PyBytes_GET_SIZE(message) + NUMBER_BYTES, &payload)
    if code == FULL:
        return False
    if code != OK:
        tx.raise_code(code, PyBytes_GET_SIZE(message) + NUMBER_BYTES)
    try:
        tx.check_sending()                          # after reserving: claim_is_drained rests on it
    except BaseException:
        tx.departing()
        raise
    write_at(tx, message, payload, NO_WAIT)
    tx.publish()
    return True


cdef write_at(Producer tx, bytes message, char* payload, int64_t deadline):
    """Fill the room that was reserved for it, and finish the record."""
    cdef uint64_t length = PyBytes_GET_SIZE(message)
    cdef uint64_t number
    while True:
        number = tx.writer.tail.number - tx.writer.left + 1                 # of all that were reserved; the first is 1
        memcpy(payload, PyBytes_AS_STRING(message), length)
        memcpy(payload + length, &number, NUMBER_BYTES)
        if guard_copy_is_whole(tx.epoch, &process_epoch):
            break
        tx.departing()                                                      # some file was cut under the copy; if it is ours,
        payload = tx.reserve_bytes(length + NUMBER_BYTES, deadline)         # this raises
    produce_finish(&tx.writer, length + NUMBER_BYTES)


cdef Py_ssize_t open_batch(Producer tx, list batch, Py_ssize_t first):
    """Reserve for as many messages from `first` on as find room together; 0: fewer than two do."""
    cdef uint64_t span = 0, each
    cdef Py_ssize_t count = 0, index
    for index in range(first, min(len(batch), first + MOST_MESSAGES)):
        each = record_span(PyBytes_GET_SIZE(batch[index]) + NUMBER_BYTES, tx.writer.ring.align)
        if span + each > produce_most_batch(&tx.writer) or count == tx.writer.most:
            break
        span += each
        count += 1
    while count > 1 and produce_reserve_batch(&tx.writer, span, count) != OK:
        for index in range((count + 1) // 2):
            count -= 1
            span -= record_span(PyBytes_GET_SIZE(batch[first + count]) + NUMBER_BYTES, tx.writer.ring.align)
    return count if count > 1 else 0


cdef note(Consumer rx, bytes message):
    note_bytes(rx, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))


cdef note_bytes(Consumer rx, const char* message, Py_ssize_t length):
    """It was claimed: whoever waits until fewer are in flight may send."""
    cdef uint64_t number
    cdef Fault fault
    cdef int woken
    if length < NUMBER_BYTES:
        raise CorruptRing(f"ring {rx.ring.name!r}: a message of {length} bytes has no number; who sent it does not count")
    memcpy(&number, message + length - NUMBER_BYTES, NUMBER_BYTES)
    woken = count_note(&rx.reader.ring, rx.reader.group, number, rx.reader.must_fence, &fault)
    if woken < 0:
        raise CorruptRing(f"ring {rx.ring.name!r}: a message says that it is number {number}, of {fault.limit} that were sent; who sent it "
                          f"does not count")
    rx.note_wakes(woken)
