# What threads do on a stage: produce, consume as a member, observe, until the ring is shut down, with what may go wrong in between.
#
# A message is one number, repeated to fill it: the life of its producer (which attach it was) in the high half, its place in that
# life's messages in the low half. Whoever reads one checks that it is whole; members note each in `seen`.
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from shmring._core.claim cimport claim_and_note, claim_count, claim_count_all, claim_release, claim_walk
from shmring._core.keep cimport claim_drop, claim_keep, claim_pending, claim_put_back, claim_take_pending
from shmring._core.layout cimport ATTENTION, CLAIMS, EMPTY, FULL, LAPPED, NONE, OK
from shmring._core.membership cimport participant_count_producer, participant_set_sole
from shmring._core.observe cimport (Watcher, observe_advance, observe_is_drained, observe_is_whole, observe_jump, observe_peek,
                                    observe_start)
from shmring._core.produce cimport (Writer, produce_abort, produce_finish, produce_ponder, produce_publish, produce_reserve,
                                    produce_reserve_batch, produce_start)
from shmring._core.reader cimport Found, Reader, reader_is_drained, reader_is_unfinished, reader_may_adopt
from shmring._core.record cimport record_payload, record_span
from shmring._core.shutdown cimport shutdown_has_begun, shutdown_is_seen
from shmring._core.sole cimport sole_claim, sole_is_all, sole_look, sole_pass

from stage cimport (GROUPS, Stage, Waits, pthread_mutex_lock, pthread_mutex_unlock, stage_adopt, stage_die, stage_enter, stage_join,
                    stage_leave, stage_remove, stage_repair, wait_a_while)

cdef extern from * nogil:
    """
    /* Counters of the test itself: without any order, so that they cannot hide a missing one. */
    static inline uint32_t count_one(uint32_t *word) { return __atomic_fetch_add(word, 1, __ATOMIC_RELAXED); }
    static inline uint32_t count_read(uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
    static inline void put_word(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
    static inline void mark_seen(uint8_t *byte) { __atomic_fetch_add(byte, 1, __ATOMIC_RELAXED); }

    /* An observer, and the only member of a group, copies what may be overwritten meanwhile, and asks afterwards. The copy is the one race that is meant; it is
     * the copy that ThreadSanitizer is not shown (it could not be atomic: whole payloads, by memcpy in the ports). */
    __attribute__((noinline, no_sanitize("thread")))
    static void copy_unseen(uint64_t *to, const char *from, uint64_t length)
    {
        for (uint64_t index = 0; index < length / 8; index++)
            to[index] = ((const volatile uint64_t *)from)[index];
    }
    """
    uint32_t count_one(uint32_t* word)
    uint32_t count_read(uint32_t* word)
    void put_word(uint64_t* word, uint64_t value)
    void mark_seen(uint8_t* byte)
    void copy_unseen(uint64_t* to, const char* source, uint64_t length)

cdef enum:
    LIVES = 512                     # producers' attaches in one play
    MOST = 4096                     # messages of one life
    MOST_WORDS = 20                 # 8-byte words of one message
    KEPT = 3                        # views that a member keeps open at most

cdef struct Play:
    Stage stage
    uint32_t per_life               # messages of each producer's life
    uint32_t lives                  # of producers, begun
    uint32_t most_lives
    uint32_t deaths                 # of 16 lives, how many end by death
    uint32_t broken                 # messages that were not whole, and other lies
    uint32_t observed, lapped, redelivered, dead
    uint32_t sent[LIVES]            # complete messages of each life
    uint8_t seen[GROUPS][LIVES][MOST]       # how often each was delivered to each group

cdef struct Part:
    Play* play
    uint32_t group
    uint64_t random


cdef inline uint32_t throw_dice(Part* part, uint32_t sides) noexcept nogil:
    part.random = part.random * 6364136223846793005ULL + 1442695040888963407ULL
    return <uint32_t> (part.random >> 33) % sides


# ---- producers ---------------------------------------------------------------------------------------------------


# By atomic stores: somebody may look for a header there (record.pxd), by atomic loads, and throws away what it found. Members read
# messages by plain loads, so a message that they read without an order is still found.
cdef inline void fill(char* payload, uint64_t number, uint64_t length) noexcept nogil:
    cdef uint64_t index
    for index in range(length >> 3):
        put_word(&(<uint64_t*> payload)[index], number)


# One life: attach, send, and leave or die. It dies with a reservation open, or with records that were not shown.
cdef inline void produce_life(Part* part, uint32_t life, uint32_t count) noexcept nogil:
    cdef Play* play = part.play
    cdef Stage* stage = &play.stage
    cdef Writer writer
    cdef Waits waits
    cdef char* payload = NULL
    cdef uint64_t length, span, number = <uint64_t> life << 32
    cdef uint32_t sent = 0, shown = 0, batch, each, act
    cdef uint32_t last = throw_dice(part, count) if throw_dice(part, 16) < play.deaths else count
    cdef bint ignored = False
    cdef int code
    memset(&writer, 0, sizeof(Writer))
    memset(&waits, 0, sizeof(Waits))
    pthread_mutex_lock(&stage.tables)
    stage_repair(stage)
    waits.number = stage_enter(stage, 1, 0xffffffff, 0, &ignored)
    writer.ring = stage.map
    writer.slot = &stage.map.participants[waits.number]
    writer.mark = waits.number + 1
    writer.must_fence = stage.must_fence
    writer.max_message = writer.ring.capacity >> 2
    if produce_start(&writer) != OK:
        count_one(&play.broken)
    if not writer.ring.is_multi:
        participant_set_sole(&stage.map, waits.number + 1)
    participant_count_producer(&stage.map)
    pthread_mutex_unlock(&stage.tables)
    while sent < count:
        length = 8 * (1 + throw_dice(part, MOST_WORDS))
        span = record_span(length, 16)
        act = throw_dice(part, 8)
        batch = min(1 + throw_dice(part, 6), count - sent) if act == 0 else 1
        code = produce_reserve_batch(&writer, span * batch, batch)
        if code == OK:
            code = produce_reserve(&writer, length, &payload)
        while code == FULL:
            produce_publish(&writer)        # one producer: what it has not shown
            shown = sent
            wait_a_while(stage, &waits, NULL, NULL, &writer, span * (batch if writer.ring.is_multi else 1))
            code = produce_reserve_batch(&writer, span * batch, batch)
            if code == OK:
                code = produce_reserve(&writer, length, &payload)
        if code != OK:
            count_one(&play.broken)
            break
        if sent >= last:
            fill(payload, ~number, length)
            break                           # dies with a reservation
        if act == 1:                        # a user's claim, given up
            produce_ponder(&writer, True)
            fill(payload, ~number, length)
            produce_abort(&writer)
            produce_ponder(&writer, False)
            produce_publish(&writer)
            shown = sent
            continue
        if act == 2:                        # and one that gets shorter
            length = 8
        for each in range(batch):
            if each:
                # One producer: the room for a batch is looked for message by message.
                code = produce_reserve(&writer, length, &payload)
                while code == FULL:
                    produce_publish(&writer)
                    shown = sent
                    wait_a_while(stage, &waits, NULL, NULL, &writer, span)
                    code = produce_reserve(&writer, length, &payload)
            fill(payload, number + sent, length)
            produce_finish(&writer, length)
            sent += 1
        if sent >= last and last < count and throw_dice(part, 2):
            break                           # dies with records that nobody was told of
        if act != 3 or sent == count:
            produce_publish(&writer)
            shown = sent
    # Many producers: a record counts from its stamp on. One: from the store of the tail on.
    play.sent[life] = sent if writer.ring.is_multi else shown
    if sent < count:
        count_one(&play.dead)
        stage_die(stage, waits.number)
        return
    pthread_mutex_lock(&stage.tables)
    if not writer.ring.is_multi:
        participant_set_sole(&stage.map, 0)
    pthread_mutex_unlock(&stage.tables)
    stage_leave(stage, waits.number)


cdef inline void* produce_part(void* argument) noexcept nogil:
    cdef Part* part = <Part*> argument
    cdef uint32_t life = count_one(&part.play.lives)
    while life < part.play.most_lives:
        produce_life(part, life, part.play.per_life)
        life = count_one(&part.play.lives)
    return NULL


# ---- members -----------------------------------------------------------------------------------------------------


cdef inline void check_message(Play* play, uint32_t group, const char* payload, uint64_t length, bint noted) noexcept nogil:
    cdef const uint64_t* words = <const uint64_t*> payload
    cdef uint64_t index
    cdef uint32_t life = <uint32_t> (words[0] >> 32), place = <uint32_t> words[0]
    for index in range(length >> 3):
        if words[index] != words[0]:
            count_one(&play.broken)
            return
    if life >= play.most_lives or place >= play.per_life or length & 7 or length == 0:
        count_one(&play.broken)
    elif noted:
        mark_seen(&play.seen[group][life][place])


# Member.settle, for views that are dropped at once or kept: nothing of the entry is lent out any more.
cdef inline void drop_entry(Reader* reader, int entry) noexcept nogil:
    claim_drop(reader, entry, reader.pending[entry])


# Take one way or another what there is: a kernel code. `views`: entries that are lent out.
cdef inline int take_some(Part* part, Reader* reader, int* views, int* n_views, bint noted) noexcept nogil:
    cdef Play* play = part.play
    cdef uint64_t length = 0, position = 0
    cdef uint32_t act = throw_dice(part, 8)
    cdef int code = ATTENTION, entry = 0, index, woken = 0
    cdef uint64_t copy[MOST_WORDS]
    cdef bint is_noted = False
    cdef Found found
    if act < 4 and sole_is_all(reader):
        # Consumer.take: what is read counts only if sole_pass says so, and may be overwritten else.
        position = reader.cursor
        code = sole_look(reader, position, &length)
        if code == OK and length <= 8 * MOST_WORDS:
            copy_unseen(copy, record_payload(&reader.ring, position), length)
            if sole_pass(reader, position + record_span(length, 16), 1, length, &woken):
                check_message(play, part.group, <char*> copy, length, noted)
                return OK
        elif code != OK and code != ATTENTION:
            return code
        code = ATTENTION
    elif act:
        code = sole_claim(reader, UINT64_MAX, &length)
        if code != OK and code != ATTENTION:
            return code
        position = reader.start
    if code == ATTENTION:
        while True:
            code = ATTENTION
            if not reader.n_pending:
                code = claim_and_note(reader, 8 if act == 0 else 1, reader.ring.capacity >> 2, UINT64_MAX, &found)
                is_noted = act < 2
            if code != ATTENTION:
                break
            if reader.n_pending:
                code = claim_pending(reader, &position, &length, &entry)
                if code != OK:
                    return code
                check_message(play, part.group, record_payload(&reader.ring, position), length, noted)
                claim_take_pending(reader, entry, length)
                count_one(&play.redelivered)
                drop_entry(reader, entry)
                return OK
            if reader_is_unfinished(reader):
                claim_put_back(reader)
            elif not stage_adopt(&play.stage, reader):
                reader.deferred = 64
            elif not reader.n_pending and reader_may_adopt(reader):
                reader.deferred = 0xffffffff
        if code != OK:
            return code
        if is_noted:                        # as shmring.nogil: no second look
            for index in range(<int> found.count):
                check_message(play, part.group, found.spots[index].payload, found.spots[index].length, noted)
            claim_count_all(reader, &found)
            claim_release(reader)
            return OK
        position = reader.start
        code = claim_walk(reader, &position, &length)
    while code == OK:
        if reader.hold - position - 1 < NONE >> 1:      # it lies behind, or is NONE
            count_one(&play.broken)
        check_message(play, part.group, record_payload(&reader.ring, position), length, noted)
        claim_count(reader, length)
        position += record_span(length, 16)
        if position == reader.end:
            break
        code = claim_walk(reader, &position, &length)
    if code != OK and code != EMPTY:
        count_one(&play.broken)
    if act > 5 and n_views[0] < KEPT:
        entry = claim_keep(reader)
        for index in range(n_views[0]):
            if views[index] == entry:
                return OK                   # it grew
        views[n_views[0]] = entry
        n_views[0] += 1
    else:
        claim_release(reader)
    return OK


cdef inline void drop_views(Part* part, Reader* reader, int* views, int* n_views, int most) noexcept nogil:
    cdef uint32_t which
    while n_views[0] > most:
        which = throw_dice(part, n_views[0])
        drop_entry(reader, views[which])
        n_views[0] -= 1
        views[which] = views[n_views[0]]


# One life in a group: some of its messages, or (`count` 0) all to the end. It dies with a claim open, or with views.
cdef inline bint consume_life(Part* part, uint32_t group, bint latest, uint64_t count, bint noted) noexcept nogil:
    cdef Play* play = part.play
    cdef Stage* stage = &play.stage
    cdef Reader reader
    cdef Waits waits
    cdef uint64_t taken = 0, length = 0
    cdef int views[KEPT]
    cdef int n_views = 0
    cdef bint dies = count and throw_dice(part, 16) < play.deaths
    cdef bint has_ended = False, is_new = group == GROUPS
    cdef int code
    group = stage_join(stage, group, latest, &reader, &waits)
    while count == 0 or taken < count:
        code = take_some(part, &reader, views, &n_views, noted)
        if code == OK:
            taken += 1
            drop_views(part, &reader, views, &n_views, throw_dice(part, KEPT + 1))
            continue
        if code != EMPTY:
            count_one(&play.broken)
            break
        drop_views(part, &reader, views, &n_views, 0)
        if shutdown_has_begun(&stage.map) and reader_is_drained(&reader):
            has_ended = True
            break
        reader.deferred = 0 if reader.deferred <= 64 else reader.deferred
        reader.has_sleepers = True
        wait_a_while(stage, &waits, &reader, NULL, NULL, 0)
        reader.has_sleepers = False
    if dies and not has_ended:
        code = sole_claim(&reader, UINT64_MAX, &length)
        count_one(&play.dead)
        stage_die(stage, waits.number)
    else:
        drop_views(part, &reader, views, &n_views, 0)
        stage_leave(stage, waits.number)
    if is_new:
        stage_remove(stage, group)
    return has_ended


cdef inline void* consume_part(void* argument) noexcept nogil:
    cdef Part* part = <Part*> argument
    cdef bint has_ended = False
    while not has_ended:
        has_ended = consume_life(part, part.group, False, 500 + throw_dice(part, 1500) if part.play.deaths else 0, True)
    return NULL


# Makes a group of its own, reads some, and removes it again.
cdef inline void* visit_part(void* argument) noexcept nogil:
    cdef Part* part = <Part*> argument
    while not shutdown_is_seen(&part.play.stage.map):
        consume_life(part, GROUPS, throw_dice(part, 2), 200, False)
    return NULL


# ---- observers ---------------------------------------------------------------------------------------------------


cdef inline void* observe_part(void* argument) noexcept nogil:
    cdef Part* part = <Part*> argument
    cdef Play* play = part.play
    cdef Stage* stage = &play.stage
    cdef Watcher watcher
    cdef Waits waits
    cdef uint64_t copy[MOST_WORDS]
    cdef uint64_t length = 0
    cdef char* payload = NULL
    cdef bint ignored = False
    cdef int code
    memset(&watcher, 0, sizeof(Watcher))
    memset(&waits, 0, sizeof(Waits))
    pthread_mutex_lock(&stage.tables)
    waits.number = stage_enter(stage, 3, 0xffffffff, 0, &ignored)
    watcher.ring = stage.map
    watcher.slot = &stage.map.participants[waits.number]
    if observe_start(&watcher, throw_dice(part, 2)) != OK:
        count_one(&play.broken)
    pthread_mutex_unlock(&stage.tables)
    while True:
        code = observe_peek(&watcher, &payload, &length)
        if code == OK:
            if length > 8 * MOST_WORDS:
                count_one(&play.broken)
                break
            copy_unseen(copy, payload, length)
            if observe_is_whole(&watcher.ring, watcher.position):
                check_message(play, 0, <char*> copy, length, False)
                observe_advance(&watcher, length)
                count_one(&play.observed)
                continue
            code = LAPPED
        if code == LAPPED:
            count_one(&play.lapped)
            if observe_jump(&watcher):
                continue
        elif code != EMPTY:
            count_one(&play.broken)
            break
        if shutdown_has_begun(&stage.map) and observe_is_drained(&watcher):
            break
        wait_a_while(stage, &waits, NULL, &watcher, NULL, 0)
    stage_leave(stage, waits.number)
    return NULL
