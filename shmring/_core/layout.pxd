# The bytes, as include/shmring/layout.h gives them, and one process's checked picture of a mapped ring.
#
# `RingMap` is filled once at attach by `layout_attach`, which bounds-checks every number that it copies out of the identity
# page. From then on the kernel uses only the private copies: a later change of the page by anybody cannot move a pointer.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from shmring._core.atomic cimport fence_compiler, load_acquire_u64, u16, u32, u64

cdef extern from "shmring/layout.h" nogil:
    const uint64_t MAGIC "SHMRING_MAGIC"
    const uint32_t LAYOUT_VERSION "SHMRING_LAYOUT_VERSION"
    const uint32_t SIGNATURE "SHMRING_SIGNATURE"
    const uint64_t READY "SHMRING_READY"
    const uint64_t PRODUCERS_OFFSET "SHMRING_PRODUCERS_OFFSET"
    const uint64_t DATA_BELL_OFFSET "SHMRING_DATA_BELL_OFFSET"
    const uint64_t ROOM_BELL_OFFSET "SHMRING_ROOM_BELL_OFFSET"
    const uint64_t GROUPS_OFFSET "SHMRING_GROUPS_OFFSET"
    const uint64_t HEADER_BYTES "SHMRING_HEADER_BYTES"
    const uint64_t MIN_CAPACITY "SHMRING_MIN_CAPACITY"
    const uint64_t MAX_CAPACITY "SHMRING_MAX_CAPACITY"
    const uint32_t MAX_PARTICIPANTS "SHMRING_MAX_PARTICIPANTS"
    const uint32_t MAX_GROUPS "SHMRING_MAX_GROUPS"
    const uint64_t CONTENT_BYTES "SHMRING_CONTENT_BYTES"
    const uint64_t GROUP_NAME_BYTES "SHMRING_GROUP_NAME_BYTES"
    const int64_t LOCK_REGISTRY "SHMRING_LOCK_REGISTRY"
    const int64_t LOCK_PARTICIPANT "SHMRING_LOCK_PARTICIPANT"
    const uint32_t FLAG_SINGLE_PRODUCER "SHMRING_FLAG_SINGLE_PRODUCER"
    const uint64_t COMMITTED "SHMRING_COMMITTED"
    const uint64_t ABORTED "SHMRING_ABORTED"
    const uint64_t NONE "SHMRING_NONE"
    const uint64_t TENTATIVE "SHMRING_TENTATIVE"
    const uint32_t BOUNDARIES "SHMRING_BOUNDARIES"
    const uint64_t CHUNKS "SHMRING_CHUNKS"
    const uint32_t GROUP_FREE "SHMRING_GROUP_FREE"
    const uint32_t GROUP_JOINING "SHMRING_GROUP_JOINING"
    const uint32_t GROUP_ACTIVE "SHMRING_GROUP_ACTIVE"
    const uint32_t GROUP_EPHEMERAL "SHMRING_GROUP_EPHEMERAL"
    const uint32_t GROUP_DROP "SHMRING_GROUP_DROP"
    const uint32_t GROUP_EXCLUSIVE "SHMRING_GROUP_EXCLUSIVE"
    const uint32_t SHARED "SHMRING_SHARED"
    const uint32_t ORPHANS "SHMRING_ORPHANS"
    const uint32_t SETTLED "SHMRING_SETTLED"
    const uint32_t SLOT_FREE "SHMRING_SLOT_FREE"
    const uint32_t SLOT_ACTIVE "SHMRING_SLOT_ACTIVE"
    const uint32_t SLOT_LEFT "SHMRING_SLOT_LEFT"
    const uint32_t SLOT_ORPHAN "SHMRING_SLOT_ORPHAN"
    const uint32_t ROLE_PRODUCER "SHMRING_ROLE_PRODUCER"
    const uint32_t ROLE_CONSUMER "SHMRING_ROLE_CONSUMER"
    const uint32_t ROLE_OBSERVER "SHMRING_ROLE_OBSERVER"
    enum:
        CLAIMS "SHMRING_CLAIMS"

    ctypedef struct Identity "struct shmring_identity":
        uint64_t magic
        uint32_t layout_version
        uint32_t signature
        u64 ready
        uint64_t capacity
        uint64_t cookie
        uint32_t align
        uint32_t flags
        uint32_t max_participants
        uint32_t max_groups
        uint64_t participants_offset
        uint64_t data_offset
        uint64_t segment_bytes
        uint8_t uuid[16]
        uint8_t boot_id[16]
        uint64_t created_ns
        uint32_t creator_pid
        uint32_t page_bytes
        char content[1024]

    ctypedef struct Boundary "struct shmring_boundary":
        u64 position
        u64 number

    ctypedef struct Producers "struct shmring_producers":
        u64 tail
        u64 number
        u64 reserve
        u32 shutdown
        u32 sole
        u32 moves
        u32 slots_used
        u32 producers_joined
        u32 missed_pid
        u64 repairs
        u64 aborted
        Boundary* boundaries

    ctypedef struct Bell "struct shmring_bell":
        u64* armed
        u64* parked
        u32 sequence

    ctypedef struct Group "struct shmring_group":
        u32 state
        uint32_t flags
        u32 attention
        u32 members
        uint32_t generation
        char* name
        u64 head
        u64 passed
        u32 sequence
        u64 repaired
        u64 redelivered
        u64 dropped

    ctypedef struct ClaimedRange "struct shmring_claim":
        u64 start
        u64 end

    ctypedef struct Slot "struct shmring_participant":
        u32 state
        u32 role
        uint32_t pid
        u32 group
        uint64_t start_time
        uint64_t pid_namespace
        uint64_t generation
        uint8_t boot_id[16]
        u64 granted
        u64 intent_start
        u64 intent
        u64 hold
        u64 awaited
        u64 messages
        u64 bytes
        u64 waits
        u64 parks
        u64 wakes
        u64 repairs
        u64 redelivered
        u64 lost
        u64 pondering
        u64 moving
        u64 stalls
        u64 stalled_ns
        ClaimedRange* claims

    ctypedef struct Header "struct shmring_header":
        u64 stamp
        u32 length
        u16 participant
        u16 previous

# Kernel results: 0 and above is success.
cdef enum:
    OK = 0
    FULL = -1               # no room until the gate moves
    EMPTY = -2              # nothing published beyond the cursor
    TOO_LARGE = -3          # can never fit
    CORRUPT = -4            # an impossible value; Fault says which
    NOT_A_RING = -5         # wrong magic
    OTHER_LAYOUT = -6       # wrong version or signature
    NOT_READY = -7          # the creator has not finished
    ATTENTION = -8          # a dead member's claims wait for adoption
    LAPPED = -9             # an observer's record was overwritten
    NO_CLAIM_LEFT = -10     # a member holds as many ranges apart from each other as it can

# Exchanges in a row that a participant may lose to others, looks at a word that never stands still: each means that somebody
# made progress, and so many that somebody writes there who makes none. Loops over shared words end there, with CORRUPT.
cdef enum:
    MOST_LOST = 1 << 20

# Where an impossible value was read.
cdef struct Fault:
    uint64_t offset         # bytes from the start of the segment
    uint64_t value          # what stood there
    uint64_t limit          # what it had to agree with

cdef struct RingMap:
    char* control           # start of the segment
    char* data              # the data area, mapped twice in a row; NULL until a port maps it
    Producers* producers
    Bell* data_bell
    Bell* room_bell
    Group* groups
    Slot* participants
    uint64_t capacity       # bytes
    uint64_t mask           # capacity - 16: of a position, its index; of a damaged one, where a header could be
    uint64_t cookie
    uint64_t align          # bytes: 16 or 64
    uint64_t data_offset    # bytes from the start of the segment
    uint32_t n_groups
    uint32_t n_participants
    uint32_t n_bell_words   # words of a bell's bit sets in use
    uint32_t flags
    uint64_t chunk          # bytes: capacity / CHUNKS
    bint is_multi           # many producers


cdef inline uint64_t layout_participants_offset(uint64_t max_groups) noexcept nogil:
    return GROUPS_OFFSET + max_groups * sizeof(Group)


cdef inline uint64_t layout_data_offset(uint64_t max_groups, uint64_t max_participants, uint64_t page) noexcept nogil:
    cdef uint64_t end = layout_participants_offset(max_groups) + max_participants * sizeof(Slot)
    return (end + page - 1) & ~(page - 1)


cdef inline int layout_fault(Fault* fault, uint64_t offset, uint64_t value, uint64_t limit) noexcept nogil:
    fault.offset = offset
    fault.value = value
    fault.limit = limit
    return CORRUPT


# Check the identity page at `control` (at least 4096 readable bytes of a segment of `segment_bytes`) and fill `ring` from it.
cdef inline int layout_attach(RingMap* ring, char* control, uint64_t segment_bytes, Fault* fault) noexcept nogil:
    cdef Identity identity
    if (<Identity*> control).magic != MAGIC:
        layout_fault(fault, 0, (<Identity*> control).magic, MAGIC)
        return NOT_A_RING
    # sync: ring-ready (acquire). Orders the fields of the identity page after the ready word; pairs with (release) in
    # layout_create. Without it another process could see the word but not yet the fields.
    if load_acquire_u64(&(<Identity*> control).ready) != READY:
        return NOT_READY
    identity = (<Identity*> control)[0]
    fence_compiler()                    # read once: what is checked below is what is used, whatever the page says by then
    if identity.layout_version != LAYOUT_VERSION:
        layout_fault(fault, 8, identity.layout_version, LAYOUT_VERSION)
        return OTHER_LAYOUT
    if identity.signature != SIGNATURE:
        layout_fault(fault, 12, identity.signature, SIGNATURE)
        return OTHER_LAYOUT
    if (identity.capacity < MIN_CAPACITY or identity.capacity > MAX_CAPACITY
            or identity.capacity & (identity.capacity - 1)):
        return layout_fault(fault, 24, identity.capacity, MAX_CAPACITY)
    if identity.cookie & 15:
        return layout_fault(fault, 32, identity.cookie, 0)
    if identity.align != 16 and identity.align != 64:
        return layout_fault(fault, 40, identity.align, 64)
    if identity.max_participants < 1 or identity.max_participants > MAX_PARTICIPANTS:
        return layout_fault(fault, 48, identity.max_participants, MAX_PARTICIPANTS)
    if identity.max_groups < 1 or identity.max_groups > MAX_GROUPS:
        return layout_fault(fault, 52, identity.max_groups, MAX_GROUPS)
    if identity.participants_offset != layout_participants_offset(identity.max_groups):
        return layout_fault(fault, 56, identity.participants_offset, layout_participants_offset(identity.max_groups))
    if identity.page_bytes < 4096 or identity.page_bytes > (1 << 20) or identity.page_bytes & (identity.page_bytes - 1):
        return layout_fault(fault, 124, identity.page_bytes, 1 << 20)
    ring.data_offset = layout_data_offset(identity.max_groups, identity.max_participants, identity.page_bytes)
    if identity.data_offset != ring.data_offset:
        return layout_fault(fault, 64, identity.data_offset, ring.data_offset)
    if identity.segment_bytes != ring.data_offset + identity.capacity or identity.segment_bytes > segment_bytes:
        return layout_fault(fault, 72, identity.segment_bytes, segment_bytes)
    ring.capacity = identity.capacity
    ring.mask = identity.capacity - 16
    ring.cookie = identity.cookie
    ring.align = identity.align
    ring.n_groups = identity.max_groups
    ring.n_participants = identity.max_participants
    ring.n_bell_words = (identity.max_participants + 63) // 64
    ring.flags = identity.flags
    ring.chunk = identity.capacity // CHUNKS
    ring.is_multi = not identity.flags & FLAG_SINGLE_PRODUCER
    layout_point(ring, control)
    return OK


# Aim the pointers of a checked `ring` at the control pages, mapped at `control`.
cdef inline void layout_point(RingMap* ring, char* control) noexcept nogil:
    ring.control = control
    ring.producers = <Producers*> (control + PRODUCERS_OFFSET)
    ring.data_bell = <Bell*> (control + DATA_BELL_OFFSET)
    ring.room_bell = <Bell*> (control + ROOM_BELL_OFFSET)
    ring.groups = <Group*> (control + GROUPS_OFFSET)
    ring.participants = <Slot*> (control + layout_participants_offset(ring.n_groups))


# ---- marked words --------------------------------------------------------------------------------------------------


# `position` with the mark of a participant (its slot + 1, or 0 for nobody).
cdef inline uint64_t mark_pack(uint64_t position, uint32_t mark) noexcept nogil:
    return position << 12 | mark


# Whose mark it is.
cdef inline uint32_t mark_owner(uint64_t word) noexcept nogil:
    return <uint32_t> (word & 0xffff)


# The position of a marked word: the one with its low 52 bits that is nearest to `near`, which need only be within 2^51 bytes.
cdef inline uint64_t mark_position(uint64_t word, uint64_t near) noexcept nogil:
    return near + <uint64_t> (<int64_t> (((word >> 16) << 16) - (near << 12)) >> 12)
