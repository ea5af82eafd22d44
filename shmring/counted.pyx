"""Messages that carry their numbers, in rings that are bounded in messages as well as in bytes: what a Queue is made of.

The number stands behind the payload, in the message's last TRAILER bytes: `recv` and `recv_many` return it with the message, as a
pickle ends before it, and cutting it off would copy the rest. The protocol is that of _core/count.pxd. All producers of such
a ring send, and all members of its group "default" receive, by these functions only; its producers are "multi".

Messages are bytes, or `Packed` objects, which write themselves into the reserved record. Large ones come out as a `Copier` copies
them. Both happen between two calls of the kernel and run no Python code, so that whoever is killed, or another thread, finds a
record that is whole or not there.

Concurrency: as the methods of Producer and Consumer; each call is atomic.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.count cimport count_in_flight, count_note
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport EMPTY, FULL, Fault, OK, TOO_LARGE
from shmring._core.produce cimport UNBOUNDED, produce_finish, produce_most_batch, produce_reserve, produce_reserve_batch
from shmring._core.reader cimport reader_has_peers
from shmring._core.record cimport record_payload, record_span
from shmring._core.reserve cimport MOST_MESSAGES
from shmring.consumer cimport LARGE, Consumer
from shmring.packed cimport Copier, Packed
from shmring.producer cimport Producer
from shmring.receiver cimport STALE
from shmring.ring cimport NO_WAIT, Ring, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.view cimport View

from shmring.errors import CorruptRing

TRAILER = NUMBER_BYTES


def send(Producer tx not None, int64_t limit, message not None, timeout=None):
    """Send one message; wait while the ring is full, or `limit` messages are in flight (0: no limit).

    Raises as Producer.send.
    """
    cdef int64_t deadline
    cdef uint64_t length = length_of(message)
    if timeout is not None:
        check_timeout(timeout)
    if not write_now(tx, limit, message, length):
        deadline = deadline_after(timeout)
        write_at(tx, message, length, tx.reserve_bytes(length, deadline), deadline)
        tx.publish()


def try_send(Producer tx not None, int64_t limit, message not None):
    """Send one message if there is room now. Returns whether it was sent."""
    cdef uint64_t length = length_of(message)
    if not tx.others_write() and write_now(tx, limit, message, length):
        return True
    tx.wanted = length
    tx.note_poll(1)
    return False


def send_many(Producer tx not None, int64_t limit, list messages not None, timeout=None):
    """Send messages in order; wait for room. Returns how many were sent: fewer (but at least one) when the time was up.

    Raises as Producer.send_many; the exception's attribute `sent` says how many were sent before it.
    """
    cdef list batch = messages[:]                   # theirs may change while we wait
    cdef Py_ssize_t sent = 0, total = len(batch), opened
    cdef int64_t deadline = deadline_after(timeout)
    cdef uint64_t length
    for each in batch:
        length_of(each)
    set_limit(tx, limit)
    tx.ran_full = False
    try:
        while sent < total:
            tx.check_sending()
            opened = sent + max(1, open_batch(tx, batch, sent))
            while sent < opened:
                length = length_of(batch[sent])
                write_at(tx, batch[sent], length, tx.reserve_bytes(length, deadline), deadline)
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


def recv(Consumer rx not None, Copier copier, timeout=None):
    """The next message; waits while there is none.

    Parameters
    ----------
    copier : Copier or None
        Copies messages of more than 16 KiB. None: they are all bytes.
    timeout : float or None
        As for Consumer.recv.

    Returns
    -------
    bytes or tuple
        The message with its trailer; or, of a large one, without, what `copier` made of it: the first piece and a list of the
        others.

    Raises as Consumer.recv. If there is no memory for it, it stays the next message.
    """
    cdef int code
    cdef int64_t deadline
    if timeout is not None:
        check_timeout(timeout)
    taken = take(rx, copier, &code)
    if taken is None:
        deadline = deadline_after(timeout)
        while taken is None:
            if code == EMPTY:
                rx.await_data(deadline)
            else:
                rx.raise_for(code)
            taken = take(rx, copier, &code)
    return taken


def try_recv(Consumer rx not None, Copier copier):
    """The next message, as recv returns it, or None."""
    cdef int code
    while True:
        taken = take(rx, copier, &code)
        if taken is not None:
            return taken
        if code == EMPTY:
            rx.check_ended()
            rx.note_poll(1)
            return None
        rx.raise_for(code)


def recv_many(Consumer rx not None, Copier copier, Py_ssize_t limit, timeout=None):
    """Up to `limit` messages, each as recv returns it, at least one. Raises as Consumer.recv_many."""
    cdef list taken = []
    cdef int64_t deadline = deadline_after(timeout)
    cdef Py_ssize_t noted = 0
    cdef int code
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    while True:
        code = rx.read_some(taken, limit, UINT64_MAX if copier is None else LARGE)
        for index in range(noted, len(taken)):      # redelivered ones are out of order
            note(rx, taken[index])
        if code == TOO_LARGE and len(taken) < limit:
            one = take_after(rx, copier, taken, &code)
            if one is not None:
                taken.append(one)
                noted = len(taken)
                if noted < limit and not reader_has_peers(&rx.reader):
                    continue
        if taken:
            return taken
        if code == EMPTY:
            rx.await_data(deadline)
        elif code != OK:
            rx.raise_for(code)


def peek(Consumer rx not None, timeout=None):
    """The next message with its trailer where it lies: a `View`. It is in flight no more, kept or not. Raises as Consumer.peek."""
    cdef View view = rx.peek(timeout)
    note_bytes(rx, view.loan.address, view.loan.size)
    return view


def count(Ring ring not None):
    """Messages in flight: sent, or being sent, and not received (a snapshot)."""
    ring.check_open()
    return count_in_flight(&ring.map)


# ---- in --------------------------------------------------------------------------------------------------------------


cdef uint64_t length_of(object message) except 0:
    """Bytes that it takes in the ring, with its number."""
    if PyBytes_CheckExact(message):
        return PyBytes_GET_SIZE(message) + NUMBER_BYTES
    if isinstance(message, Packed):
        return (<Packed> message).nbytes + NUMBER_BYTES
    raise TypeError(f"messages are bytes, not {type(message).__name__}")


cdef set_limit(Producer tx, int64_t limit):
    if limit < 0:
        raise ValueError(f"a limit is at least 0, not {limit}")
    if not tx.writer.ring.is_multi:
        raise ValueError(f"ring {tx.ring.label} is for a single producer; only those of many count messages")
    tx.writer.most = limit or UNBOUNDED


cdef bint write_now(Producer tx, int64_t limit, object message, uint64_t length) except -1:
    """Send it if there is room."""
    cdef char* payload = NULL
    cdef int code
    set_limit(tx, limit)
    tx.check_sending()
    code = produce_reserve(&tx.writer, length, &payload)
    if code == FULL:
        return False
    if code != OK:
        tx.raise_code(code, length)
    try:
        tx.check_sending()                          # after reserving: reader_is_drained rests on it
    except BaseException:
        tx.departing()
        raise
    write_at(tx, message, length, payload, NO_WAIT)
    tx.publish()
    return True


cdef write_at(Producer tx, object message, uint64_t length, char* payload, int64_t deadline):
    """Fill the room of `length` bytes that was reserved for it, and finish the record."""
    cdef uint64_t number
    while True:
        number = tx.writer.tail.number - tx.writer.left + 1                 # of all that were reserved; the first is 1
        if PyBytes_CheckExact(message):
            memcpy(payload, PyBytes_AS_STRING(message), length - NUMBER_BYTES)
        else:
            write_packed(tx, message, payload)
        memcpy(payload + length - NUMBER_BYTES, &number, NUMBER_BYTES)
        if guard_copy_is_whole(tx.epoch, &process_epoch):
            break
        tx.departing()                                                      # some file was cut under the copy; if it is ours,
        payload = tx.reserve_bytes(length, deadline)                        # this raises
    produce_finish(&tx.writer, length)


cdef write_packed(Producer tx, Packed message, char* payload):
    try:
        message.write(payload)
    except BaseException:
        tx.departing()
        raise


cdef Py_ssize_t open_batch(Producer tx, list batch, Py_ssize_t first):
    """Reserve for as many messages from `first` on as find room together; 0: fewer than two do."""
    cdef uint64_t span = 0, each
    cdef Py_ssize_t count = 0, index
    for index in range(first, min(len(batch), first + MOST_MESSAGES)):
        each = record_span(length_of(batch[index]), tx.writer.ring.align)
        if span + each > produce_most_batch(&tx.writer) or count == tx.writer.most:
            break
        span += each
        count += 1
    while count > 1 and produce_reserve_batch(&tx.writer, span, count) != OK:
        for index in range((count + 1) // 2):
            count -= 1
            span -= record_span(length_of(batch[first + count]), tx.writer.ring.align)
    return count if count > 1 else 0


# ---- out -------------------------------------------------------------------------------------------------------------


cdef object take(Consumer rx, Copier copier, int* code):
    """The next message, as recv returns it, or None and a kernel code or STALE."""
    message = rx.take(code) if copier is None else rx.take_small(code)
    if message is not None:
        note(rx, message)
        return message
    return take_large(rx, copier, code) if code[0] == TOO_LARGE else None


cdef object take_large(Consumer rx, Copier copier, int* code):
    """The same for one that is probably large: it is claimed, copied, and let go."""
    cdef list rest = []                             # before the claim: making one may run the garbage collector
    cdef uint64_t position = 0, length = 0, number = 0
    cdef const char* begin
    cdef int entry = 0
    code[0] = rx.find(UINT64_MAX, &position, &length, &entry)
    if code[0] != OK:
        return None
    begin = record_payload(&rx.reader.ring, position)
    first = copier.copy(begin, length - NUMBER_BYTES, rest) if length >= NUMBER_BYTES else None
    if first is not None:
        memcpy(&number, begin + length - NUMBER_BYTES, NUMBER_BYTES)
    if not guard_copy_is_whole(rx.epoch, &process_epoch):       # the file was cut under the copy
        code[0] = STALE
        return None
    rx.let_go(entry, length)
    if first is None:
        raise_without_number(rx, length)
    note_number(rx, number)
    return first, rest


cdef object take_after(Consumer rx, Copier copier, list taken, int* code):
    """take_large behind others, which must not be lost if there is no memory for this one."""
    try:
        return take_large(rx, copier, code)
    except MemoryError:
        if not taken:
            raise
        return None


cdef note(Consumer rx, bytes message):
    note_bytes(rx, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))


cdef note_bytes(Consumer rx, const char* message, Py_ssize_t length):
    cdef uint64_t number
    if length < NUMBER_BYTES:
        raise_without_number(rx, length)
    memcpy(&number, message + length - NUMBER_BYTES, NUMBER_BYTES)
    note_number(rx, number)


cdef note_number(Consumer rx, uint64_t number):
    """It was claimed: whoever waits until fewer are in flight may send."""
    cdef Fault fault
    cdef int woken = count_note(&rx.reader.ring, rx.reader.group, number, rx.reader.must_fence, &fault)
    if woken < 0:
        raise CorruptRing(f"ring {rx.ring.label}: a message says that it is number {number}, of {fault.limit} that were sent; who sent it "
                          f"does not count")
    rx.note_wakes(woken)


cdef raise_without_number(Consumer rx, uint64_t length):
    raise CorruptRing(f"ring {rx.ring.label}: a message of {length} bytes has no number; who sent it does not count")
