# Many producers: win room by one exchange, and leave behind who won what, for whoever has to clean up after a death.
#
#   my slot:  intent_start = NONE;  intent = (span, messages, mark that the tail carries);  intent_start = position
#   tail:     (position, their mark, number)  -- one exchange -->  (position + span, my mark, number + messages)
#   then:     payload, header, stamp: produce.pxd;  intent_start = NONE
#
#        stamped        reserved, not stamped yet (whose: their intents say)         tail
#   ----|==========|................|======|........................|..... room .....|
#
# Invariant: at any position where a reservation begins or ended, one of these says who made the reservation before it: the tail
# itself; the intent of a participant that began there; the header of the record there. An intent is up before the exchange and
# goes only after the stamps of what it won. So a survivor can tell from a dead one's intent whether it was won (repair.pxd), and
# nobody writes over an open reservation, whoever reads or does not: it gates (gate.pxd).
# Progress: lock-free: an exchange fails because another one succeeded. Whoever is stopped anywhere here keeps nobody else from
# reserving; readers wait for its stamp, or for its death.
#
# Places for observers. Invariant: while the tail is T, behind the first record, some boundary is a record's begin in
# [T - capacity, T). So who was lapped finds one, and with it everything behind it, whoever is stopped wherever: it never has to
# jump to the tail, past records that can still be read (also the newest, for good).
#   - A place is noted before the exchange, while it is the tail, with the number that stood beside it: true, whoever wins it. Who
#     passes into another chunk notes; so does who would end more than a capacity behind the last place that it knows of.
#   - Who sees the tail sees the note: it comes before our exchange (release), and those of others carry it on.
#   - The entry of chunk c changes to a later place, which was the tail by then; it must not be T itself. Who begins at T writes
#     that of a chunk d, one to sixteen behind the chunk of T. A place of two laps ago in it lies more than a capacity before T.
#     One of this lap: of an attempt that failed, which nobody relies on; or of somebody who won a reservation that ends in the
#     chunk before d, as T does: then it is in the chunk of T and in reach, and is left alone.
# Source: Agrona's ManyToOneRingBuffer (claim, then commit in place); the intents and the marks are ours.
# Steps in brackets are those of many_producers.pml, observer.pml, shutdown.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (cas_pair, cas_u64, fence_acquire, fence_full, fence_release, load_acquire_u64, load_relaxed_u64,
                                   store_release_u64)
from shmring._core.boundary cimport boundary_note, boundary_place
from shmring._core.layout cimport EMPTY, NONE, Fault, RingMap, Slot, mark_pack, mark_position
from shmring._core.record cimport SKIP, record_look_stamped, record_span

cdef enum:
    MOST_MESSAGES = 0xffff          # in one reservation: 16 bits of the intent
    MOST_SPAN = 0x7fffffff          # bytes of one reservation, so that what is left of it fits a header's length

# What a producer knows of the tail; private.
cdef struct Tail:
    uint64_t word           # as last seen
    uint64_t number         # messages reserved before it
    uint64_t position       # of word
    uint64_t noted          # a boundary that was noted for what we won


# Read the tail. The two words may belong to different moments; then the exchange fails. [tail]
cdef inline void reserve_look(const RingMap* ring, Tail* tail) noexcept nogil:
    # sync: reserved (acquire). The mark's owner had its intent up; pairs with (release) in reserve_exchange.
    tail.word = load_acquire_u64(&ring.producers.tail)
    # sync: reserved (acquire). The word that is read next time is not older; pairs with (release) in reserve_exchange.
    tail.number = load_acquire_u64(&ring.producers.number)
    tail.position = mark_position(tail.word, tail.position)


# Before an exchange: note where we begin, for a reservation up to `end`. False: the tail has moved. Otherwise `noted` is a place
# that serves who begins to read before `end`.
cdef inline bint reserve_lead(const RingMap* ring, const Tail* tail, uint64_t end, uint64_t* noted) noexcept nogil:
    # Into the same chunk: its entry may be the only one that leads to what is before us, so the next one's.
    cdef uint64_t stands_for = end if (tail.position ^ end) >= ring.chunk else end + ring.chunk
    # Relaxed: the same word again, behind an acquire, means that the number stood beside it. [note]
    if load_relaxed_u64(&ring.producers.tail) != tail.word:
        return False
    noted[0] = boundary_place(ring, stands_for)
    if noted[0] == NONE or (noted[0] ^ tail.position) >= ring.chunk or end - noted[0] > ring.capacity:
        noted[0] = boundary_note(ring, tail.position, stands_for, tail.number)
    return True


# One attempt to reserve `span` bytes for `messages` at the tail as it was last seen. True: they are ours, and `tail` is the new
# one. False: another producer was faster.
cdef inline bint reserve_exchange(const RingMap* ring, Slot* slot, uint32_t mark, Tail* tail, uint64_t span,
                                  uint64_t messages) noexcept nogil:
    cdef uint64_t position = tail.position
    cdef uint64_t word = mark_pack(position + span, mark)
    cdef uint64_t noted = tail.noted
    if (position ^ (position + span)) >= ring.chunk or position + span - noted > ring.capacity:
        if not reserve_lead(ring, tail, position + span, &noted):
            return False
    # sync: intent (release). As in reserve_withdraw, for an exchange that failed; pairs with (acquire) in intent_read. [intend: NONE]
    store_release_u64(&slot.intent_start, NONE)
    # sync: intent (release). NONE is visible before the new one; pairs with (acquire) in intent_read. Without it a survivor could
    # take the new span for that of the old start.
    store_release_u64(&slot.intent, (span >> 4) << 32 | messages << 16 | (tail.word & 0xffff))  # [intend]
    # sync: intent (release). Span and mark are visible with the start; pairs with (acquire) in intent_read. [intend]
    store_release_u64(&slot.intent_start, position)
    # sync: reserved (release). The intent is visible to who sees our mark; pairs with (acquire) in reserve_look and gate_tail.
    # Without it a survivor could find a gap that nobody intended. [reserve]
    if not cas_pair(&ring.producers.tail, tail.word, tail.number, word, tail.number + messages):
        return False
    # sync: lapping (fence, producer). The tail is visible before any byte that we write; pairs with (fence, observer) in
    # observe_is_whole. Without it an observer could copy our bytes and still find its record's lap unfinished.
    fence_release()  # [lapping]
    tail.word = word
    tail.position = position + span
    tail.number += messages
    tail.noted = noted
    if (position ^ tail.position) >= ring.chunk:
        reserve_note(ring, tail)
    return True


# All of it is stamped, or it was not won: the intent goes.
cdef inline void reserve_withdraw(Slot* slot) noexcept nogil:
    # sync: intent (release). Our stamps are visible before the intent that they belong to goes; pairs with (acquire) in intent_read
    # and gate_look_at_intent. [withdraw]
    store_release_u64(&slot.intent_start, NONE)


# Into another chunk: leave a full position for newcomers.
cdef inline void reserve_note(const RingMap* ring, const Tail* tail) noexcept nogil:
    cdef uint64_t before = load_relaxed_u64(&ring.producers.reserve)
    # Relaxed: a position of lately, good for extending others. Exchanged, so that nobody puts back one of long ago; a failed
    # exchange means that another producer put a newer one.
    if <int64_t> (tail.position - before) > 0:
        cas_u64(&ring.producers.reserve, before, tail.position)


# A position of lately. Relaxed: as reserve_note.
cdef inline uint64_t reserve_lately(const RingMap* ring) noexcept nogil:
    return load_relaxed_u64(&ring.producers.reserve)


# What the participant in `slot` intends, or has won and not stamped. False: nothing, or it is being changed right now. [evidence]
cdef inline bint intent_read(const Slot* slot, uint64_t* start, uint64_t* span, uint32_t* messages,
                             uint32_t* previous) noexcept nogil:
    cdef uint64_t intent
    # sync: intent (acquire). The intent that is read next is not older; pairs with (release) in reserve_exchange.
    start[0] = load_acquire_u64(&slot.intent_start)
    if start[0] == NONE:
        return False
    # sync: intent (acquire). The start that is read again is not older; pairs with (release) in reserve_exchange.
    intent = load_acquire_u64(&slot.intent)
    span[0] = (intent >> 32) << 4
    messages[0] = <uint32_t> (intent >> 16) & 0xffff
    previous[0] = <uint32_t> intent & 0xffff
    # Relaxed: the same start again means that the intent stood beside it.
    return load_relaxed_u64(&slot.intent_start) == start[0]


# After a shutdown was seen: is nothing from `position` on that readers have to wait for? Claims that are users' to fill do not
# count, as they will be refused, nor what was given up behind them; a producer looks for the shutdown after it has reserved, so
# what it reserved before may come. [drained]
cdef inline bint reserve_nothing_comes(const RingMap* ring, uint64_t position) noexcept nogil:
    cdef uint64_t tail, step, first = position
    # sync: pondering (fence, drainer). The shutdown was seen before we look what is reserved, and whose it is; pairs with (fence,
    # committer) in produce_ponder.
    fence_full()
    # sync: reserved (acquire). Whoever reserved had its intent up; pairs with (release) in reserve_exchange.
    tail = mark_position(load_acquire_u64(&ring.producers.tail), position)
    if tail - position > ring.capacity:
        return False                    # it was claimed, and overwritten
    while position != tail:
        step = reserve_is_vain(ring, position)
        if step == 0 or step > tail - position:
            return False
        position += step
    # sync: lapping (fence, observer). What we looked at was read before we look how far the producers are; pairs with (fence,
    # producer) in reserve_exchange. Without it a later lap's bytes could pass for a record that was given up.
    fence_acquire()
    # Relaxed: the fence orders it.
    return mark_position(load_relaxed_u64(&ring.producers.tail), first) - first <= ring.capacity


# How many bytes from `position` on were given up, or are a claim that is its user's to fill; 0: neither. [drained]
cdef inline uint64_t reserve_is_vain(const RingMap* ring, uint64_t position) noexcept nogil:
    cdef uint64_t length = 0, start = 0, span = 0
    cdef uint32_t number, messages = 0, previous = 0
    cdef Fault fault
    cdef int code = record_look_stamped(ring, position, &length, &fault)
    if code != EMPTY:
        return record_span(length, ring.align) if code == SKIP else 0
    for number in range(ring.n_participants):
        # Relaxed: the fence orders it; a producer whose claim ends meanwhile is seen to be refused, or waited for.
        if (load_relaxed_u64(&ring.participants[number].pondering)
                and intent_read(&ring.participants[number], &start, &span, &messages, &previous) and position - start < span):
            return start + span - position
    return 0
