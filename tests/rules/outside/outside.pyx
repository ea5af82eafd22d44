# cython: language_level=3
"""An extension that knows shmring only as an installed package: it moves integers through a ring, the work without the GIL."""

from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

cimport shmring
from shmring cimport (
    EMPTY, FULL, NO_WAIT, OK, Consumer, Producer, claim_count, claim_range, claim_release, claim_walk, guard_copy_is_whole,
    process_epoch, produce_finish, produce_publish, produce_reserve, record_payload, record_span,
)
from shmring.nogil cimport (
    Batch, batch_next, batch_receive, batch_release, out_abort, out_commit, out_publish, out_reserve,
)
from shmring._core.linger cimport linger, linger_is_due


def send_range(Producer tx, int64_t count):
    """Send 0, 1, 2 ... as 8-byte messages, while there is room; returns how many."""
    cdef int64_t number
    cdef int code = OK
    cdef char* payload = NULL
    tx.check_sending()
    with nogil:
        for number in range(count):
            code = produce_reserve(&tx.writer, sizeof(number), &payload)
            if code != OK:
                count = number
                break
            memcpy(payload, &number, sizeof(number))
            produce_finish(&tx.writer, sizeof(number))
        if guard_copy_is_whole(tx.epoch, &process_epoch):
            produce_publish(&tx.writer)
    if code != OK and code != FULL:
        tx.raise_code(code, sizeof(number))
    return count


def sum_all(Consumer rx):
    """The sum of the 8-byte messages that are there, and their number."""
    cdef int64_t number = 0, total = 0, count = 0
    cdef uint64_t length = 0, position = 0
    cdef int code = OK
    rx.check_ended()
    with nogil:
        while True:
            code = claim_range(&rx.reader, 1000, rx.reader.ring.capacity >> 2, UINT64_MAX)
            if code != OK:
                break
            position = rx.reader.start
            while claim_walk(&rx.reader, &position, &length) == OK and length == sizeof(number):
                memcpy(&number, record_payload(&rx.reader.ring, position), sizeof(number))
                claim_count(&rx.reader, length)
                total += number
                count += 1
                position += record_span(length, rx.reader.ring.align)
            claim_release(&rx.reader)
    if code != EMPTY:
        rx.raise_for(code)
    return total, count


def send_through_the_port(Producer tx, bytes message):
    """The port's own methods, called through their C interface."""
    tx.write(message, len(message), NO_WAIT)


def capacity_of(shmring.Ring ring):
    return ring.map.capacity, ring.control.size


def linger_once(Consumer rx):
    """Waits that go by until the next try, and after that."""
    if linger_is_due(&rx.patience):
        with nogil:
            linger(&rx.patience, &rx.reader.ring, rx.reader.cursor)
    return patience_of(rx)


def patience_of(Consumer rx):
    return rx.patience.skip, rx.patience.next_skip


def lingers(Consumer rx):
    return bool(rx.lingers)


# ---- the steps of shmring.nogil one by one -----------------------------------------------------------------------------


def reserve_only(Producer tx, length):
    out_reserve(tx, length, NO_WAIT)


def commit_only(Producer tx, bytes message):
    """A message that is not published."""
    memcpy(out_reserve(tx, len(message), NO_WAIT), <const char*> message, len(message))
    out_commit(tx, len(message))


def finish_only(Producer tx, length):
    """What was reserved before is a message."""
    out_commit(tx, length)


def publish(Producer tx):
    out_publish(tx)


def abort(Producer tx):
    out_abort(tx)


cdef list rest_of(Consumer rx, Batch* batch):
    cdef const char* data = NULL
    cdef uint64_t length = 0
    cdef list messages = []
    while batch_next(rx, batch, &data, &length):
        messages.append(data[:length])
    return messages


def receive_batch(Consumer rx, releases=1):
    """The messages of a batch, which is released so many times; and what it has after that."""
    cdef Batch batch
    cdef list messages = []
    if batch_receive(rx, &batch, 1000, NO_WAIT):
        messages = rest_of(rx, &batch)
        for _ in range(releases):
            batch_release(rx, &batch)
    return messages, rest_of(rx, &batch)


def receive_in_vain(Consumer rx):
    """The exception of a second batch that cannot be had, and what the struct of the first one has afterwards."""
    cdef Batch batch
    batch_receive(rx, &batch, 1000, NO_WAIT)
    batch_release(rx, &batch)
    try:
        batch_receive(rx, &batch, 1000, NO_WAIT)
    except Exception as error:
        return error, rest_of(rx, &batch)
    return None, rest_of(rx, &batch)
