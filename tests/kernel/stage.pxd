# A mapped ring, and what the ports do around the kernel, without Python: roles are threads of one process on one mapping.
#
# So the kernel can be run where no Python runs: compiled with -fsanitize=thread, or for another processor. Joining, leaving,
# repair and waiting follow shmring/member.pyx, sender.pyx, participant.pyx, registry.pyx and waiter.pyx, call for call. What the
# kernel of the system does there is done by hand: the registry lock is a mutex, life is a flag that is changed under it (a death
# orders what the dead one did before what others do after they found it, and so does the mutex).
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap
from posix.unistd cimport ftruncate

from shmring._core.atomic cimport pause, u32
from shmring._core.doorbell cimport WAKE_ALL, bell_arm, bell_disarm, bell_park, bell_ring, bell_sequence, bell_unpark, doorbell_ring_all
from shmring._core.futex cimport futex_wait, membarrier_register, now_ns, yield_slice
from shmring._core.layout cimport (FLAG_SINGLE_PRODUCER, GROUP_ACTIVE, GROUP_FREE, GROUP_JOINING, OK, Bell, Fault, Identity, RingMap,
                                   Slot, layout_attach, layout_data_offset, mark_position)
from shmring._core.membership cimport (
    group_begin, group_count, group_end, group_has_member, group_head_word, group_is_being_claimed, group_is_settled,
    group_set_members, group_set_orphans, group_set_settled, group_share, group_state, group_unshare, layout_create,
    participant_depart, participant_enter, participant_group, participant_has_left, participant_is_active, participant_is_free,
    participant_is_orphan, participant_join, participant_set_role,
)
from shmring._core.observe cimport Watcher, observe_announce, observe_has_data, observe_is_drained
from shmring._core.pages cimport pages_map
from shmring._core.produce cimport Writer, produce_aim, produce_has_room, produce_is_passed
from shmring._core.reader cimport Reader, reader_has_data, reader_is_drained, reader_start
from shmring._core.repair cimport adopt_orphan, adopt_own, repair_bury, repair_free, repair_note
from shmring._core.reserve cimport reserve_lately
from shmring._core.shutdown cimport shutdown_is_seen

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_create(pthread_t* thread, void* attributes, void* (*start)(void*) noexcept nogil, void* argument)
    int pthread_join(pthread_t thread, void** result)
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_trylock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)

cdef extern from "sys/mman.h" nogil:
    int memfd_create(const char* name, unsigned flags)

cdef extern from * nogil:
    """
    static const char another_name[64] = "another";
    """
    const char* ANOTHER "another_name"

cdef enum:
    SLOTS = 16
    GROUPS = 4
    SLICE_NS = 5000000

cdef struct Stage:
    RingMap map
    pthread_mutex_t tables      # the registry lock
    bint lives[SLOTS]           # the life locks; under the mutex
    bint must_fence             # membarrier is refused

# Who waits, and for what: a Waiter of the ports.
cdef struct Waits:
    uint32_t number             # its slot
    bint is_armed
    uint64_t parks


cdef inline bint stage_open(Stage* stage, uint64_t capacity, bint single, uint64_t origin) noexcept nogil:
    cdef Identity identity
    cdef Fault fault
    cdef uint64_t offset = layout_data_offset(GROUPS, SLOTS, 4096)
    cdef int fd = memfd_create("stage", 0)
    cdef void* control
    memset(stage, 0, sizeof(Stage))
    memset(&identity, 0, sizeof(Identity))
    identity.capacity = capacity
    identity.cookie = 0x123456789abcdef0
    identity.align = 16
    identity.flags = FLAG_SINGLE_PRODUCER if single else 0
    identity.max_participants = SLOTS
    identity.max_groups = GROUPS
    identity.page_bytes = 4096
    if fd < 0 or ftruncate(fd, offset + capacity) != 0:
        return False
    control = mmap(NULL, offset, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if control == MAP_FAILED:
        return False
    layout_create(<char*> control, &identity, origin)
    if layout_attach(&stage.map, <char*> control, offset + capacity, &fault) != OK:
        return False
    stage.map.data = pages_map(capacity, 2, 4096, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset)
    stage.must_fence = membarrier_register() != 0
    pthread_mutex_init(&stage.tables, NULL)
    return stage.map.data != NULL


# ---- the tables --------------------------------------------------------------------------------------------------


# Registry.repair; with the lock held.
cdef inline void stage_repair(Stage* stage) noexcept nogil:
    cdef RingMap* ring = &stage.map
    cdef uint64_t missing = 0
    cdef uint32_t number, group
    cdef bint has_news = False
    for number in range(ring.n_groups):
        if group_state(ring, number) == GROUP_JOINING:
            group_end(&ring.groups[number])
    for number in range(ring.n_participants):
        if participant_has_left(&ring.participants[number]):
            repair_bury(ring, number, False, &missing)
            has_news = True
        elif participant_is_active(&ring.participants[number]) and not stage.lives[number]:
            repair_bury(ring, number, True, &missing)
            repair_note(ring, number, NULL)
            has_news = True
        elif participant_is_orphan(&ring.participants[number]):
            group = participant_group(&ring.participants[number])
            if group < ring.n_groups and group_state(ring, group) == GROUP_ACTIVE:
                group_set_orphans(ring, group, True)
            else:
                repair_free(ring, number)
                has_news = True
    for number in range(ring.n_groups):
        if group_state(ring, number) == GROUP_ACTIVE:
            group_set_members(ring, number, group_count(ring, number, 0xffffffff))
    if has_news:
        doorbell_ring_all(ring)


cdef inline void stage_repair_quietly(Stage* stage) noexcept nogil:
    if pthread_mutex_trylock(&stage.tables) == 0:
        stage_repair(stage)
        pthread_mutex_unlock(&stage.tables)


# Participant.take_slot: the slot's number, and whether it has an orphan's claims; with the lock held. There is always one.
cdef inline uint32_t stage_enter(Stage* stage, uint32_t role, uint32_t group, uint64_t head, bint* inherits) noexcept nogil:
    cdef RingMap* ring = &stage.map
    cdef Slot fields
    cdef uint32_t number, chosen = ring.n_participants
    for number in range(ring.n_participants):
        if participant_is_free(&ring.participants[number]):
            chosen = number
            break
    inherits[0] = False
    # An orphan first, now and then, though there are free ones: taking over is rare otherwise.
    for number in range(ring.n_participants):
        if (group < ring.n_groups and participant_is_orphan(&ring.participants[number])
                and participant_group(&ring.participants[number]) == group and (number & 1 or chosen == ring.n_participants)):
            chosen = number
            inherits[0] = True
            break
    memset(&fields, 0, sizeof(Slot))
    participant_set_role(&fields, role)
    participant_join(&fields, group, head)
    stage.lives[chosen] = True
    participant_enter(ring, chosen, &fields, head)
    return chosen


cdef inline void stage_leave(Stage* stage, uint32_t number) noexcept nogil:
    participant_depart(&stage.map, number)


# A death: what was begun stays begun.
cdef inline void stage_die(Stage* stage, uint32_t number) noexcept nogil:
    pthread_mutex_lock(&stage.tables)
    stage.lives[number] = False
    pthread_mutex_unlock(&stage.tables)


# Member.take_role and settle_in. `group`: its number, or GROUPS for a new one, from the tail if latest. Returns the group.
cdef inline uint32_t stage_join(Stage* stage, uint32_t group, bint latest, Reader* reader, Waits* waits) noexcept nogil:
    cdef RingMap* ring = &stage.map
    cdef uint64_t lately, head = 0
    cdef uint32_t number, slot, others
    cdef bint inherits = False, is_new = group == GROUPS, is_settled
    cdef int look = 0
    pthread_mutex_lock(&stage.tables)
    stage_repair(stage)
    lately = reserve_lately(ring)
    if not is_new:
        head = mark_position(group_head_word(ring, group), lately)
    # group_set_members is stage_repair's business.
    slot = stage_enter(stage, 2, group, head, &inherits)
    if is_new:
        group = 0
        while group_state(ring, group) != GROUP_FREE:
            group += 1
        group_begin(ring, group, ANOTHER, 0, latest, lately)
        doorbell_ring_all(ring)
        participant_join(&ring.participants[slot], group, mark_position(group_head_word(ring, group), lately))
    others = group_count(ring, group, slot)
    if others and not group_is_settled(ring, group):
        group_share(ring, group)
    elif not others:
        group_unshare(ring, group)
        if stage.must_fence:
            group_set_settled(ring, group)
    group_set_members(ring, group, others + 1)
    memset(reader, 0, sizeof(Reader))
    reader.ring = ring[0]
    reader.slot = &ring.participants[slot]
    reader.mark = slot + 1
    reader.must_fence = stage.must_fence
    reader_start(reader, group, lately)
    if inherits:
        adopt_own(reader)
    memset(waits, 0, sizeof(Waits))
    waits.number = slot
    pthread_mutex_unlock(&stage.tables)
    if not group_is_settled(ring, group) and group_count(ring, group, slot):
        is_settled = False
        while not is_settled:
            is_settled = True
            for number in range(ring.n_participants):
                if number != slot and group_has_member(ring, group, number) and group_is_being_claimed(ring, group, number):
                    is_settled = False
            look += 1
            if look % 100 == 0:
                stage_repair_quietly(stage)
            yield_slice()
        pthread_mutex_lock(&stage.tables)
        group_set_settled(ring, group)
        pthread_mutex_unlock(&stage.tables)
    return group


# Registry.remove_group, when its last member has left.
cdef inline void stage_remove(Stage* stage, uint32_t group) noexcept nogil:
    cdef RingMap* ring = &stage.map
    cdef uint32_t number
    pthread_mutex_lock(&stage.tables)
    stage_repair(stage)
    group_end(&ring.groups[group])
    for number in range(ring.n_participants):
        if participant_is_orphan(&ring.participants[number]) and participant_group(&ring.participants[number]) == group:
            repair_free(ring, number)
    doorbell_ring_all(ring)
    pthread_mutex_unlock(&stage.tables)


# Registry.adopt. False: somebody else is at the tables.
cdef inline bint stage_adopt(Stage* stage, Reader* reader) noexcept nogil:
    cdef RingMap* ring = &stage.map
    cdef uint32_t number
    cdef bint left = False
    if pthread_mutex_trylock(&stage.tables) != 0:
        return False
    for number in range(ring.n_participants):
        if (participant_is_orphan(&ring.participants[number])
                and participant_group(&ring.participants[number]) == reader.group_number):
            left |= not adopt_orphan(reader, number)
    if not left:
        group_set_orphans(ring, reader.group_number, False)
    pthread_mutex_unlock(&stage.tables)
    return True


# ---- waiting: waiter.pyx -----------------------------------------------------------------------------------------


cdef inline bint reader_is_ready(Reader* reader) noexcept nogil:
    return reader_has_data(reader) or (shutdown_is_seen(&reader.ring) and reader_is_drained(reader))


cdef inline bint watcher_is_ready(Watcher* watcher) noexcept nogil:
    return observe_has_data(watcher) or (shutdown_is_seen(&watcher.ring) and observe_is_drained(watcher))


cdef inline bint writer_is_ready(Writer* writer, uint64_t span) noexcept nogil:
    return produce_has_room(writer, span) or shutdown_is_seen(&writer.ring)


# One of the three, or NULL.
cdef inline bint wait_looks(Reader* reader, Watcher* watcher, Writer* writer, uint64_t span) noexcept nogil:
    if reader != NULL:
        return reader_is_ready(reader)
    return watcher_is_ready(watcher) if watcher != NULL else writer_is_ready(writer, span)


# Spin, then one park of one slice, then look after the dead. The caller looks again.
cdef inline void wait_a_while(Stage* stage, Waits* waits, Reader* reader, Watcher* watcher, Writer* writer,
                              uint64_t span) noexcept nogil:
    cdef Bell* bell = stage.map.room_bell if writer != NULL else stage.map.data_bell
    cdef u32* word = &bell.sequence
    cdef uint32_t sequence
    cdef int look
    if reader != NULL:
        word = &reader.group.sequence
    for look in range(20):
        if wait_looks(reader, watcher, writer, span):
            if waits.is_armed and waits.parks & 7 == 7:
                waits.is_armed = False          # calm_down
                waits.parks += 1
                bell_disarm(bell, waits.number)
            return
        pause()
    if not waits.is_armed:
        waits.is_armed = True
        if bell_arm(bell, waits.number) != 0:
            stage.must_fence = True
    sequence = bell_sequence(word)
    if writer != NULL:
        produce_aim(writer, span, sequence, False)
    elif watcher != NULL:
        observe_announce(watcher)
    bell_park(bell, waits.number)
    waits.parks += 1
    if not wait_looks(reader, watcher, writer, span):
        if writer != NULL and writer.ring.is_multi and produce_is_passed(writer):
            yield_slice()
        else:
            futex_wait(word, sequence, now_ns() + SLICE_NS)
    bell_unpark(bell, waits.number)
    stage_repair_quietly(stage)
