"""Arrays of records out of the ring, for a member of a group: the consumer of an `ArrayRing`.

array_reader.pyx gathers and cuts blocks; this file finds them and lets them go, by the same steps as consumer.pyx.
"""

from cython cimport final
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from shmring._core.claim cimport claim_count, claim_release, claim_walk
from shmring._core.gate cimport gate_tail
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.keep cimport claim_put_back
from shmring._core.layout cimport ATTENTION, EMPTY, OK, TOO_LARGE, mark_position
from shmring._core.membership cimport group_head_word
from shmring._core.reader cimport reader_has_peers, reader_is_unfinished, reader_may_adopt
from shmring._core.record cimport record_payload, record_span
from shmring._core.sole cimport sole_is_all, sole_look, sole_pass
from shmring.array_reader cimport ArrayReceiver
from shmring.array_view cimport Block
from shmring.consumer cimport Consumer
from shmring.receiver cimport STALE
from shmring.sigbus cimport process_epoch

cdef enum:
    MANY = 1 << 30                  # messages: no limit


@final
cdef class ArrayConsumer(ArrayReceiver):
    """Reads arrays of records: a member of a group, of which each block goes to one. Made by `ArrayRing.consumer`.

    Concurrency: as `Consumer`: threads may share it, and each record goes to one of them. If this process dies, the other members
    (or the next one) get every block that was not read to its end, whole: records of it that were returned come twice.
    """

    @property
    def group(self):
        """The name of the group."""
        return (<Consumer> self.rx).group

    @property
    def lag(self):
        """Records that no member of this group has, and those of blocks that this one has begun (a snapshot). Cost: a pass over
        the blocks' headers.
        """
        cdef Consumer rx = <Consumer> self.rx
        rx.check()
        return self.bytes_left() // self.itemsize + self.lag_of(
            mark_position(group_head_word(&rx.reader.ring, rx.reader.group_number), rx.reader.cursor))

    @property
    def lost(self):
        """Records that an observer was lapped out of; always 0 for a group's member, which holds the producers back."""
        return 0

    cdef Py_ssize_t bytes_there(self) except -1:
        cdef Consumer rx = <Consumer> self.rx
        cdef uint64_t head
        if rx.reader.n_pending or reader_is_unfinished(&rx.reader) or reader_may_adopt(&rx.reader):
            return rx.reader.ring.capacity
        head = mark_position(group_head_word(&rx.reader.ring, rx.reader.group_number), rx.reader.cursor)
        return min(gate_tail(&rx.reader.ring, head) - head, rx.reader.ring.capacity)

    cdef int fill_whole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        cdef int code = self.fill_sole(target, room, filled)
        if code == ATTENTION:
            code = self.fill_shared(target, room, filled)
        # A member of several leaves the others their share.
        return EMPTY if filled[0] and reader_has_peers(&(<Consumer> self.rx).reader) else code

    cdef int fill_sole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        """As the only member. ATTENTION: fill_shared. Runs no Python code."""
        cdef Consumer rx = <Consumer> self.rx
        cdef uint64_t begin = rx.reader.cursor, position = begin, length = 0, total = 0, count = 0
        cdef uint64_t most = rx.reader.ring.capacity >> 2, left = room - filled[0]
        cdef uint64_t strange = 0, strange_length = 0
        cdef bint is_strange = False
        cdef int code = OK, woken = 0
        if rx.epoch != process_epoch:
            return STALE
        if not sole_is_all(&rx.reader):
            return ATTENTION
        while total < left and position - begin < most:
            code = sole_look(&rx.reader, position, &length)
            if code != OK:
                break
            if length % <uint64_t> self.itemsize:
                is_strange, strange, strange_length = True, position, length
                position += record_span(length, rx.reader.ring.align)
                break
            if length > left - total:
                code = TOO_LARGE
                break
            memcpy(target + filled[0] + total, record_payload(&rx.reader.ring, position), length)
            total += length
            position += record_span(length, rx.reader.ring.align)
            count += 1
        if position == begin:
            return code
        if not guard_copy_is_whole(rx.epoch, &process_epoch):           # the file was cut under the copy
            return STALE
        if not sole_pass(&rx.reader, position, count + is_strange, total, &woken):
            return ATTENTION                                            # what was copied counts for nothing
        filled[0] += total
        rx.note_wakes(woken)
        if is_strange:
            self.note_strange(strange, strange_length)
        return code

    cdef int fill_shared(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        """The same where there are other members, views, or somebody's unfinished business."""
        cdef Consumer rx = <Consumer> self.rx
        cdef uint64_t position = 0, length = 0
        cdef uint64_t left = room - filled[0]
        cdef int entry = 0
        cdef int code = rx.claim_some(MANY, min(left, rx.reader.ring.capacity >> 2), left, NULL)
        if code == OK:
            return self.fill_range(target, filled)
        if code != ATTENTION:
            return code
        code = rx.find(left, &position, &length, &entry)                # a dead member's
        if code != OK:
            return code
        if length % <uint64_t> self.itemsize:
            self.note_strange(position, length)
        else:
            memcpy(target + filled[0], record_payload(&rx.reader.ring, position), length)
            if not guard_copy_is_whole(rx.epoch, &process_epoch):
                return STALE
            filled[0] += length
        rx.let_go(entry, length)
        return OK

    cdef int fill_range(self, char* target, Py_ssize_t* filled) except? -100:
        """Copy every block of the range that was won, for which there is room, and release it."""
        cdef Consumer rx = <Consumer> self.rx
        cdef uint64_t position = rx.reader.start, length = 0
        cdef int code = OK
        while True:
            code = claim_walk(&rx.reader, &position, &length)
            if code != OK:
                break
            if length % <uint64_t> self.itemsize:
                self.note_strange(position, length)
            else:
                memcpy(target + filled[0], record_payload(&rx.reader.ring, position), length)
                if not guard_copy_is_whole(rx.epoch, &process_epoch):
                    code = STALE
                    break
                filled[0] += length
            claim_count(&rx.reader, length)
            position += record_span(length, rx.reader.ring.align)
        if position != rx.reader.end:
            rx.reader.start = position
            claim_put_back(&rx.reader)
            return code
        rx.note_wakes(claim_release(&rx.reader))
        return OK

    cdef int pin_next(self) except? -100:
        cdef Block block = Block.__new__(Block)
        cdef int code = OK
        block.view = (<Consumer> self.rx).take_view(&code)
        if block.view is None:
            return code
        block.address = block.view.loan.address
        block.size = block.view.loan.size
        if block.size and block.size % self.itemsize == 0:
            self.blocks.append(block)
        else:
            if block.size:
                self.note_strange(block.view.loan.position, block.size)
            block.view.end()
        return OK
