# Sending and receiving without the GIL, for Cython extensions: `from shmring.nogil cimport ...`.
#
# Add shmring.get_include() to the extension's include_dirs. Handles are made in Python (`ring.producer()`) and typed in Cython:
#
#   cdef Producer tx = ring.producer()                          cdef Consumer rx = ring.consumer()
#   with nogil:                                                 cdef Batch batch
#       for i in range(n):                                      with nogil:
#           payload = out_reserve(tx, length, FOR_EVER)             while batch_receive(rx, &batch, 1000, FOR_EVER):
#           ...                     # write length bytes                while batch_next(rx, &batch, &data, &length):
#           out_commit(tx, length)                                          ...         # length bytes at data
#           # others may see it from out_publish on                     batch_release(rx, &batch)
#       out_publish(tx)
#
# Whatever is wrong is raised as the Python methods raise it (ShutDown, TimeoutError, RingTruncated, CorruptRing, ...); only then,
# and to wait, the GIL is taken. A deadline is FOR_EVER, NO_WAIT, or what deadline_after(seconds) returns.
#
# A handle's state is changed by one thread at a time. Python threads are kept out by the GIL, so a function that works without
# it keeps its handle to itself meanwhile.
#
# Cost: a few ns a message; no system call unless the other side sleeps.
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.atomic cimport pause, seldom
from shmring._core.claim cimport claim_count, claim_has_data, claim_range, claim_release, claim_walk
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport ATTENTION, EMPTY, OK
from shmring._core.produce cimport produce_finish, produce_publish, produce_reserve, produce_shorten
from shmring._core.record cimport record_payload, record_span
from shmring._core.shutdown cimport shutdown_is_seen
from shmring.consumer cimport Consumer
from shmring.producer cimport Producer
from shmring.ring cimport FOR_EVER, NO_WAIT, deadline_after
from shmring.sigbus cimport process_epoch

cdef enum:
    LOOKS = 200                     # for data without the GIL, a pause apart, before a wait


# ---- sending -----------------------------------------------------------------------------------------------------


# Room for a message of up to `length` bytes, until out_commit; waits for it until the deadline. One at a time.
cdef inline char* out_reserve(Producer tx, uint64_t length, int64_t deadline) except NULL nogil:
    cdef char* payload = NULL
    if seldom(tx.epoch != process_epoch or produce_reserve(&tx.writer, length, &payload) != OK):
        return out_await(tx, length, deadline)
    if seldom(shutdown_is_seen(&tx.writer.ring)):               # after reserving: claim_is_drained rests on it
        out_depart(tx)
        return out_await(tx, length, deadline)
    return payload


# The same with exceptions and waiting.
cdef inline char* out_await(Producer tx, uint64_t length, int64_t deadline) except NULL with gil:
    tx.publish()                                                # what was committed, so that somebody can make room
    return tx.reserve_bytes(length, deadline)


cdef inline int out_depart(Producer tx) except -1 with gil:
    tx.departing()
    return 0


# The message is written: its first `length` bytes. It is shown by out_publish, or before (a ring of many producers).
cdef inline int out_commit(Producer tx, uint64_t length) except -1 nogil:
    if seldom(not guard_copy_is_whole(tx.epoch, &process_epoch)):
        out_check(tx)
    produce_shorten(&tx.writer, length)
    produce_finish(&tx.writer, length)
    return 0


# Was the file cut under the copy?
cdef inline int out_check(Producer tx) except -1 with gil:
    try:
        tx.check_sending()
    except BaseException:
        tx.departing()
        raise
    return 0


# Show what was committed, and wake who waits for it.
cdef inline int out_publish(Producer tx) except -1 nogil:
    cdef int woken
    if tx.writer.position != tx.writer.published:
        woken = produce_publish(&tx.writer)
        if seldom(woken):
            out_note(tx, woken)
    return 0


cdef inline int out_note(Producer tx, int woken) except -1 with gil:
    tx.note_wakes(woken)
    return 0


# One message, copied and published.
cdef inline int out_send(Producer tx, const void* data, uint64_t length, int64_t deadline) except -1 nogil:
    memcpy(out_reserve(tx, length, deadline), data, length)
    out_commit(tx, length)
    return out_publish(tx)


# ---- receiving ---------------------------------------------------------------------------------------------------


# Messages that were received together, from batch_receive to batch_release. Opaque.
cdef struct Batch:
    uint64_t position       # the next message
    uint64_t length         # bytes of the one that was there already when a member died with it
    int entry               # where that one is held; 0: an ordinary batch
    bint is_over


# Receive what is there: up to `limit` messages (of together a quarter of the capacity), at least one; waits for it until the
# deadline. 0: the ring was shut down, and this group has everything.
cdef inline int batch_receive(Consumer rx, Batch* batch, uint64_t limit, int64_t deadline) except -1 nogil:
    cdef int look
    for look in range(LOOKS):
        if claim_has_data(&rx.reader):
            break
        pause()
    if rx.epoch == process_epoch and claim_range(&rx.reader, limit, rx.reader.ring.capacity >> 2, UINT64_MAX) == OK:
        batch.position = rx.reader.start
        batch.entry = 0
        return 1
    return batch_await(rx, batch, limit, deadline)


# The same with exceptions, waiting, and what dead members left.
cdef inline int batch_await(Consumer rx, Batch* batch, uint64_t limit, int64_t deadline) except -1 with gil:
    cdef int code
    from shmring.errors import ShutDown         # here, as this is compiled into the extension
    while True:
        code = rx.claim_some(limit, rx.reader.ring.capacity >> 2, UINT64_MAX)
        batch.position, batch.entry, batch.is_over = rx.reader.start, 0, False
        if code == ATTENTION:
            code = rx.find(UINT64_MAX, &batch.position, &batch.length, &batch.entry)
        if code == OK:
            return 1
        if code != EMPTY:
            rx.raise_for(code)
            continue
        try:
            rx.await_data(deadline)
        except ShutDown:
            return 0


# The next message of the batch: `length` bytes at `data`, which stay until batch_release. 0: there is none left.
cdef inline int batch_next(Consumer rx, Batch* batch, const char** data, uint64_t* length) except -1 nogil:
    cdef int code
    if seldom(batch.entry):
        if batch.is_over:
            return 0
        batch.is_over = True
        length[0] = batch.length
    else:
        code = claim_walk(&rx.reader, &batch.position, length)
        if code == EMPTY:
            return 0
        if seldom(code != OK):
            batch_fail(rx, code)
    data[0] = record_payload(&rx.reader.ring, batch.position)
    if not seldom(batch.entry):
        claim_count(&rx.reader, length[0])
        batch.position += record_span(length[0], rx.reader.ring.align)
    return 1


cdef inline int batch_fail(Consumer rx, int code) except -1 with gil:
    rx.raise_for(code)
    return 0


# Done with all messages of the batch. Until it returns, none of them counts as received: whoever dies before leaves them to the
# next member, and who goes on without it (after an exception) gets them again. RingTruncated: what was read was not all there.
cdef inline int batch_release(Consumer rx, Batch* batch) except -1 nogil:
    cdef int woken
    if seldom(batch.entry or not guard_copy_is_whole(rx.epoch, &process_epoch)):
        return batch_end(rx, batch)
    woken = claim_release(&rx.reader)
    if seldom(woken):
        batch_note(rx, woken)
    return 0


# The same with exceptions, and of what a dead member left.
cdef inline int batch_end(Consumer rx, Batch* batch) except -1 with gil:
    if not guard_copy_is_whole(rx.epoch, &process_epoch):
        rx.check()
    if batch.entry:
        rx.let_go(batch.entry, batch.length)
    else:
        rx.note_wakes(claim_release(&rx.reader))
    return 0


cdef inline int batch_note(Consumer rx, int woken) except -1 with gil:
    rx.note_wakes(woken)
    return 0
