# cython: language_level=3
"""An extension that knows shmring only as an installed package: it moves integers through a ring, the work without the GIL."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cimport shmring
from shmring cimport (
    EMPTY, FULL, NO_WAIT, OK, Consumer, Producer, consume_advance, consume_peek, consume_release, guard_copy_is_whole,
    process_epoch, produce_finish, produce_publish, produce_reserve,
)


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
    cdef uint64_t length = 0
    cdef char* payload = NULL
    cdef int code = OK
    rx.check_receiving()
    with nogil:
        while True:
            code = consume_peek(&rx.reader, &payload, &length)
            if code != OK or length != sizeof(number):
                break
            memcpy(&number, payload, sizeof(number))
            consume_advance(&rx.reader, length)
            total += number
            count += 1
        consume_release(&rx.reader, rx.reader.cursor)
    if code != EMPTY:
        rx.raise_code(code)
    return total, count


def send_through_the_port(Producer tx, bytes message):
    """The port's own methods, called through their C interface."""
    tx.write(message, len(message), NO_WAIT)


def capacity_of(shmring.Ring ring):
    return ring.map.capacity, ring.control.size
