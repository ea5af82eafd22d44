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
from shmring._core.claim cimport claim_and_note, claim_count_all, claim_release
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport OK
from shmring._core.linger cimport linger, linger_is_due
from shmring._core.produce cimport produce_finish, produce_publish, produce_reserve
from shmring._core.reader cimport found_clear, reader_has_data
from shmring._core.shutdown cimport shutdown_is_seen
from shmring.consumer cimport Consumer
from shmring.member cimport Batch
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
        return tx.await_room(length, deadline)
    if seldom(shutdown_is_seen(&tx.writer.ring)):               # after reserving: reader_is_drained rests on it
        return tx.await_room(length, deadline)
    return payload


# The message is written: its first `length` bytes. It is shown by out_publish, or before (a ring of many producers).
cdef inline int out_commit(Producer tx, uint64_t length) except -1 nogil:
    if seldom(not guard_copy_is_whole(tx.epoch, &process_epoch)):
        tx.check_copy()
    produce_finish(&tx.writer, length)
    return 0


# Or it is not written after all: what was reserved is given up. (So it is by the next out_reserve.)
cdef inline int out_abort(Producer tx) except -1 nogil:
    return tx.give_up()


# Show what was committed, and wake who waits for it.
cdef inline int out_publish(Producer tx) except -1 nogil:
    cdef int woken
    if tx.writer.position != tx.writer.published:
        if seldom(tx.epoch != process_epoch):
            tx.check_copy()
        woken = produce_publish(&tx.writer)
        if seldom(woken):
            tx.note_woken(woken)
    return 0


# One message, copied and published.
cdef inline int out_send(Producer tx, const void* data, uint64_t length, int64_t deadline) except -1 nogil:
    memcpy(out_reserve(tx, length, deadline), data, length)
    out_commit(tx, length)
    return out_publish(tx)


# ---- receiving ---------------------------------------------------------------------------------------------------


# Receive what is there: up to `limit` messages (MOST_SPOTS at most, of together a quarter of the capacity), at least one; waits
# for it until the deadline. 0: the ring was shut down, and this group has everything.
cdef inline int batch_receive(Consumer rx, Batch* batch, uint64_t limit, int64_t deadline) except -1 nogil:
    cdef int look
    batch.taken = 0
    batch.entry = 0
    found_clear(&batch.found)
    if seldom(rx.epoch != process_epoch):
        return rx.await_batch(batch, limit, deadline)
    for look in range(LOOKS):
        if reader_has_data(&rx.reader):
            if look and rx.lingers and linger_is_due(&rx.patience):
                linger(&rx.patience, &rx.reader.ring, rx.reader.cursor)
            if claim_and_note(&rx.reader, limit, rx.reader.ring.capacity >> 2, UINT64_MAX, &batch.found) == OK:
                return 1
            break
        pause()
    return rx.await_batch(batch, limit, deadline)


# The next message of the batch: `length` bytes at `data`, which stay until batch_release. 0: there is none left.
cdef inline bint batch_next(Consumer rx, Batch* batch, const char** data, uint64_t* length) noexcept nogil:
    if batch.taken >= batch.found.count:
        return False
    data[0] = batch.found.spots[batch.taken].payload
    length[0] = batch.found.spots[batch.taken].length
    batch.taken += 1
    return True


# Done with all messages of the batch. Until it returns, none of them counts as received: whoever dies before leaves them to the
# next member, and who goes on without it (after an exception) gets them again. RingTruncated: what was read was not all there.
cdef inline int batch_release(Consumer rx, Batch* batch) except -1 nogil:
    cdef int woken
    if batch.found.count == 0:
        return 0
    if seldom(batch.entry or not guard_copy_is_whole(rx.epoch, &process_epoch)):
        return rx.end_batch(batch)
    claim_count_all(&rx.reader, &batch.found)
    found_clear(&batch.found)
    woken = claim_release(&rx.reader)
    if seldom(woken):
        rx.note_woken(woken)
    return 0
