"""A producer and a consumer that work without the GIL: numbers and their sum, byte strings and their check."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

from shmring cimport Consumer, Producer
from shmring.nogil cimport (FOR_EVER, Batch, batch_next, batch_receive, batch_release, deadline_after, out_commit, out_publish,
                            out_reserve, out_send)

cdef enum:
    BATCH = 64                      # messages that are published together, and received together at most


def send_numbers(Producer tx, int64_t count, timeout=None):
    """Send 0, 1, 2 ... as messages of 8 bytes, one publish each."""
    cdef int64_t number, deadline = deadline_after(timeout)
    with nogil:
        for number in range(count):
            out_send(tx, &number, sizeof(number), deadline)


def sum_numbers(Consumer rx):
    """The sum of the numbers, and how many they were, until the ring was shut down."""
    cdef int64_t number = 0, total = 0, count = 0
    cdef const char* data = NULL
    cdef uint64_t length = 0
    cdef Batch batch
    with nogil:
        while batch_receive(rx, &batch, 1000, FOR_EVER):
            while batch_next(rx, &batch, &data, &length):
                if length == sizeof(number):
                    memcpy(&number, data, sizeof(number))
                    total += number
                    count += 1
            batch_release(rx, &batch)
    return total, count


def send_copies(Producer tx, list messages, int64_t count):
    """Send `messages`, which have one length, round and round: `count` in all, BATCH of them published together."""
    cdef uint64_t length = len(messages[0])
    cdef bytes pool = b"".join(messages)
    cdef const char* first = pool
    cdef const char* end = first + len(pool)
    cdef const char* message = first
    cdef int64_t number
    with nogil:
        for number in range(count):
            memcpy(out_reserve(tx, length, FOR_EVER), message, length)
            out_commit(tx, length)
            if number % BATCH == BATCH - 1:
                out_publish(tx)
            message += length
            if message == end:
                message = first
        out_publish(tx)


def check_copies(Consumer rx, list messages, int64_t count):
    """Receive `count` messages into a buffer, and compare each with what it should be: the number of those that differ."""
    cdef uint64_t size = len(messages[0]), length = 0
    cdef bytes pool = b"".join(messages)
    cdef const char* first = pool
    cdef const char* end = first + len(pool)
    cdef const char* expected = first
    cdef const char* data = NULL
    cdef bytearray room = bytearray(size)
    cdef char* copy = room
    cdef int64_t left = count, wrong = 0
    cdef Batch batch
    with nogil:
        while left and batch_receive(rx, &batch, min(left, BATCH), FOR_EVER):
            while batch_next(rx, &batch, &data, &length):
                if length == size:
                    memcpy(copy, data, size)
                wrong += length != size or memcmp(copy, expected, 8) != 0
                if left % 256 == 0:
                    wrong += memcmp(copy, expected, size) != 0
                left -= 1
                expected += size
                if expected == end:
                    expected = first
            batch_release(rx, &batch)
    return wrong
