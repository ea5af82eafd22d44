# What participants do, as the ports do it (producer.pyx, consumer.pyx, member.pyx, observer.pyx, registry.pyx), without Python.
#
# Each act leaves the private state as a port would, whatever the kernel answered. Payloads are written and read to their last
# byte, so that a length or an address that the kernel should not have passed runs into the pages around the mapping.
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport abort
from libc.string cimport memset

from shmring._core.claim cimport claim_and_note, claim_count, claim_count_all, claim_release, claim_walk
from shmring._core.keep cimport claim_drop, claim_keep, claim_pending, claim_put_back, claim_take_pending
from shmring._core.layout cimport (ATTENTION, CLAIMS, CORRUPT, EMPTY, LAPPED, NONE, NO_CLAIM_LEFT, OK, RingMap, TOO_LARGE)
from shmring._core.membership cimport participant_group, participant_is_orphan
from shmring._core.observe cimport (Watcher, observe_advance, observe_announce, observe_has_data, observe_is_drained,
                                    observe_is_whole, observe_jump, observe_latest, observe_peek, observe_start)
from shmring._core.produce cimport (Writer, produce_abort, produce_aim, produce_finish, produce_has_room, produce_is_open,
                                    produce_is_passed, produce_most_batch, produce_ponder, produce_publish, produce_reserve,
                                    produce_reserve_batch, produce_start)
from shmring._core.reader cimport (Found, Reader, reader_find, reader_has_data, reader_is_drained, reader_is_unfinished,
                                   reader_may_adopt, reader_start)
from shmring._core.record cimport record_payload, record_span
from shmring._core.repair cimport adopt_orphan
from shmring._core.snapshot cimport snapshot_lag
from shmring._core.sole cimport sole_claim, sole_is_all, sole_look, sole_pass
from world cimport CAPACITY, Input, World, pick, take

cdef extern from * nogil:
    """
    static volatile uint64_t fuzz_sink;
    static inline void fuzz_read(const char *data, uint64_t length) {
        uint64_t sum = 0;
        for (uint64_t at = 0; at < length; at++) sum += (unsigned char)data[at];
        fuzz_sink += sum;
    }
    """
    void fuzz_read(const char* data, uint64_t length)


cdef inline void check(bint holds) noexcept nogil:
    if not holds:
        abort()


# ---- producers -----------------------------------------------------------------------------------------------------


cdef inline void act_join_writer(World* world, int number, RingMap map) noexcept nogil:
    cdef Writer* writer = &world.writers[number]
    memset(writer, 0, sizeof(Writer))
    writer.ring = map
    writer.slot = &world.map.participants[number]
    writer.mark = number + 1
    writer.max_message = CAPACITY - 16
    world.reserved[number] = 0
    produce_start(writer)


cdef inline void act_send(World* world, Writer* writer, uint64_t length) noexcept nogil:
    cdef char* payload = NULL
    if produce_reserve(writer, length, &payload) != OK:
        return
    memset(payload, <int> length, length)
    produce_finish(writer, length)
    produce_publish(writer)


cdef inline void act_send_many(World* world, Writer* writer, uint64_t length, uint64_t count) noexcept nogil:
    cdef char* payload = NULL
    cdef uint64_t span = record_span(length, writer.ring.align) * count
    if span > produce_most_batch(writer) or produce_reserve_batch(writer, span, count) != OK:
        return
    while count:
        if produce_reserve(writer, length, &payload) != OK:
            break
        memset(payload, <int> length, length)
        produce_finish(writer, length)
        count -= 1
    produce_publish(writer)
    produce_abort(writer)


# Each of these is a step of a claim, or a question; what has an open claim does nothing else.
cdef inline void act_produce(World* world, Input* input) noexcept nogil:
    cdef uint32_t number = pick(input, 2) if world.map.is_multi else 0
    cdef Writer* writer = &world.writers[number]
    cdef uint32_t what = pick(input, 12)
    cdef uint64_t length = take(input, 1) * (1 << pick(input, 6))
    cdef char* payload = NULL
    if world.reserved[number]:
        if what < 6:                                                        # commit, of all or less
            length = (world.reserved[number] - 1) // (1 + what)
            world.reserved[number] = 0
            produce_ponder(writer, False)
            produce_finish(writer, length)
            produce_publish(writer)
        elif what < 10:
            world.reserved[number] = 0
            if produce_is_open(writer):
                produce_abort(writer)
                produce_ponder(writer, False)
                if writer.position != writer.published:
                    produce_publish(writer)
        return
    if what < 5:
        act_send(world, writer, length)
    elif what < 7:
        act_send_many(world, writer, length & 0xff, 1 + pick(input, 20))
    elif what == 7:
        if produce_reserve(writer, length, &payload) == OK:
            memset(payload, 0xaa, length)
            produce_ponder(writer, True)
            world.reserved[number] = length + 1
    elif what == 8:
        produce_has_room(writer, record_span(length, writer.ring.align))
    elif what == 9:
        produce_aim(writer, record_span(length, writer.ring.align), 1, pick(input, 2))
        produce_is_passed(writer)
    elif what == 10:
        act_join_writer(world, number, writer.ring)


# ---- members -------------------------------------------------------------------------------------------------------


cdef inline void act_adopt(World* world, Reader* reader) noexcept nogil:
    cdef uint32_t slot
    for slot in range(reader.ring.n_participants):
        if (participant_is_orphan(&reader.ring.participants[slot])
                and participant_group(&reader.ring.participants[slot]) == reader.group_number):
            adopt_orphan(reader, slot)


# claim_and_note with what has to come before it, as Member.claim_some.
cdef inline int act_claim(World* world, Reader* reader, uint64_t limit, uint64_t most, uint64_t longest,
                          Found* found) noexcept nogil:
    cdef int code = ATTENTION, attempt
    for attempt in range(4):
        if reader.n_pending:
            return ATTENTION
        code = claim_and_note(reader, limit, most, longest, found)
        if code != ATTENTION:
            return code
        if reader_is_unfinished(reader):
            claim_put_back(reader)
        else:
            act_adopt(world, reader)
            if not reader.n_pending and reader_may_adopt(reader):
                reader.deferred = 0xffffffff
    return code


# What a record's bytes are read from: inside the data area, for whatever length the kernel let through.
cdef inline void act_read(World* world, const RingMap* map, uint64_t position, uint64_t length) noexcept nogil:
    check(length <= CAPACITY - 16)
    fuzz_read(record_payload(map, position), length)


cdef inline void act_take_pending(World* world, Reader* reader) noexcept nogil:
    cdef uint64_t position = 0, length = 0
    cdef int entry = 0
    if claim_pending(reader, &position, &length, &entry) == OK:
        act_read(world, &reader.ring, position, length)
        claim_take_pending(reader, entry, length)
        claim_drop(reader, entry, reader.pending[entry])


# The same by what was noted when the range was won, as shmring.nogil does.
cdef inline void act_take_noted(World* world, Reader* reader, uint64_t limit) noexcept nogil:
    cdef Found found
    cdef uint64_t index
    cdef int code = act_claim(world, reader, limit, CAPACITY >> 2, UINT64_MAX, &found)
    if code == ATTENTION:
        act_take_pending(world, reader)
    if code != OK:
        return
    check(found.count >= 1)
    for index in range(found.count):
        check(found.spots[index].length <= CAPACITY - 16)
        check(<uint64_t> (found.spots[index].payload - reader.ring.data) < CAPACITY + 16)
        fuzz_read(found.spots[index].payload, found.spots[index].length)
    claim_count_all(reader, &found)
    claim_release(reader)


cdef inline void act_take_range(World* world, Reader* reader, uint64_t limit, uint64_t leave) noexcept nogil:
    cdef uint64_t position, length = 0
    cdef int code = act_claim(world, reader, limit, CAPACITY >> 2, UINT64_MAX, NULL)
    if code == ATTENTION:
        act_take_pending(world, reader)
        return
    if code != OK:
        return
    position = reader.start
    while leave != 1:
        code = claim_walk(reader, &position, &length)
        if code != OK:
            break
        act_read(world, &reader.ring, position, length)
        claim_count(reader, length)
        position += record_span(length, reader.ring.align)
        leave -= leave != 0
    if position != reader.end:
        reader.start = position
        claim_put_back(reader)
        return
    claim_release(reader)


cdef inline void act_join_reader(World* world, int number, RingMap map, uint64_t lately) noexcept nogil:
    cdef Reader* reader = &world.readers[number]
    memset(reader, 0, sizeof(Reader))
    reader.ring = map
    reader.slot = &world.map.participants[2 + number]
    reader.mark = 3 + number
    reader_start(reader, number // 2, lately)


# Consumer.take and Consumer.read_sole, and what they leave to take_carefully and read_shared.
cdef inline void act_pass(World* world, Reader* reader, uint64_t limit) noexcept nogil:
    cdef uint64_t begin = reader.cursor, position = begin, length = 0, total = 0, count = 0
    cdef int woken = 0, code = ATTENTION
    if sole_is_all(reader):
        code = OK
        while count < limit and position - begin < CAPACITY >> 2:
            code = sole_look(reader, position, &length)
            if code != OK:
                break
            act_read(world, &reader.ring, position, length)
            position += record_span(length, reader.ring.align)
            total += length
            count += 1
        if position != begin:
            code = OK if sole_pass(reader, position, count, total, &woken) else ATTENTION
    if code == ATTENTION:
        act_take_range(world, reader, limit, 0)


cdef inline void act_consume(World* world, Input* input) noexcept nogil:
    cdef uint32_t number = pick(input, 3)
    cdef Reader* reader = &world.readers[number]
    cdef uint32_t what = pick(input, 16)
    cdef uint64_t length = 0, position = 0, count = 0
    cdef int code, entry
    if what == 2 or what == 3:
        act_pass(world, reader, 1 if what == 2 else 1 + pick(input, 20))
    elif what < 7:
        code = sole_claim(reader, UINT64_MAX if what else take(input, 1), &length)
        if code == OK:
            act_read(world, &reader.ring, reader.start, length)
            claim_count(reader, length)
            if what < 5:
                claim_release(reader)
            else:
                claim_keep(reader)
        elif code == ATTENTION:
            act_take_range(world, reader, 1, 0)
    elif what < 7:
        act_take_range(world, reader, 1 + pick(input, 40), pick(input, 8))
    elif what < 9:
        act_take_noted(world, reader, 1 + pick(input, 200))
    elif what == 9:                                                         # a view that stays open
        if act_claim(world, reader, 1, 0, UINT64_MAX, NULL) == OK:
            position = reader.start
            if claim_walk(reader, &position, &length) == OK:
                act_read(world, &reader.ring, position, length)
                claim_keep(reader)
    elif what == 10:                                                        # a view that ends
        entry = 1 + pick(input, CLAIMS - 1)
        if reader.kept_end[entry] != NONE and reader.pending[entry] == NONE:
            claim_drop(reader, entry, NONE)
    elif what == 11:
        act_take_pending(world, reader)
    elif what == 12:
        snapshot_lag(&reader.ring, reader.cursor, UINT64_MAX, &count)
        check(count <= CAPACITY // 16)
    elif what == 13:
        reader_has_data(reader)
        reader_is_drained(reader)
    elif what == 14:
        if act_claim(world, reader, 1, 0, take(input, 1), NULL) == TOO_LARGE:    # as recv_into
            position = reader.cursor
            reader_find(reader, &position, &length)
    else:
        act_adopt(world, reader)


# ---- observers -----------------------------------------------------------------------------------------------------


cdef inline void act_join_watcher(World* world, int number, RingMap map, bint latest) noexcept nogil:
    cdef Watcher* watcher = &world.watchers[number]
    memset(watcher, 0, sizeof(Watcher))
    watcher.ring = map
    watcher.slot = &world.map.participants[5] if number == 0 else NULL
    observe_start(watcher, latest)


cdef inline void act_observe(World* world, Input* input) noexcept nogil:
    cdef uint32_t number = pick(input, 2)
    cdef Watcher* watcher = &world.watchers[number]
    cdef uint32_t what = pick(input, 8)
    cdef uint64_t length = 0, count = 0
    cdef char* payload = NULL
    cdef int code
    if what < 4:
        code = observe_latest(watcher) if what == 0 else OK
        if code == OK or code == EMPTY:
            code = observe_peek(watcher, &payload, &length)
        if code == LAPPED:
            observe_jump(watcher)
        elif code == OK:
            check(length <= CAPACITY - 16)
            fuzz_read(payload, length)
            if observe_is_whole(&watcher.ring, watcher.position):
                observe_advance(watcher, length)
    elif what == 4:
        observe_has_data(watcher)
        observe_is_drained(watcher)
    elif what == 5:
        act_join_watcher(world, number, watcher.ring, pick(input, 2))
    elif what == 6:
        snapshot_lag(&watcher.ring, watcher.position, UINT64_MAX, &count)
        check(count <= CAPACITY // 16)
    elif number == 0:
        observe_announce(watcher)
