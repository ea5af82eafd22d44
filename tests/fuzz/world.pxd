# What the kernel fuzzer works on: small rings whose memory touches inaccessible pages at every end, in every stage of their life.
#
#   PROT_NONE | control pages | PROT_NONE | data | data again | PROT_NONE       for producers and repair (read and write)
#   PROT_NONE | control pages | PROT_NONE | data | data again | PROT_NONE       for consumers: data PROT_READ; for observers: all
#
# One byte before or behind is a SIGSEGV. A `World` is one geometry with the private state of every participant; a `Stage` is a
# copy of its bytes and of that state, put back by memcpy before each input, so that thousands of inputs a second begin anew.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport abort, malloc
from libc.string cimport memcpy, memset
from posix.mman cimport (MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ,
                         PROT_WRITE, mmap)
from posix.unistd cimport ftruncate

from shmring._core.layout cimport (FLAG_SINGLE_PRODUCER, Fault, Identity, OK, RingMap, layout_attach, layout_data_offset,
                                   layout_point)
from shmring._core.membership cimport layout_create
from shmring._core.observe cimport Watcher
from shmring._core.produce cimport Writer
from shmring._core.reader cimport Reader

cdef extern from "sys/mman.h" nogil:
    int memfd_create(const char* name, unsigned int flags)

cdef enum:
    PAGE = 4096
    CAPACITY = 4096
    GROUPS = 2
    WORLDS = 8              # bit 0: many producers; bit 1: align 64 and high positions; bit 2: 70 slots, else 6
    STAGES = 6
    WRITERS = 2
    READERS = 3             # two members of group 0, one of group 1
    WATCHERS = 2            # one with a slot, one that may only read

cdef struct World:
    char* control           # writable
    char* control_seen      # the same pages, PROT_READ
    char* data              # twice in a row, writable
    char* data_seen         # the same, PROT_READ
    uint64_t control_bytes
    RingMap map             # of the registry: as attached before any damage
    Writer writers[WRITERS]
    Reader readers[READERS]
    Watcher watchers[WATCHERS]
    uint64_t reserved[WRITERS]      # length of the open claim + 1, or 0

cdef struct Stage:
    World world
    char* control
    char* data


# `bytes` pages of the file from `offset` on, `copies` times in a row, between inaccessible pages.
cdef inline char* fenced(int fd, uint64_t bytes, uint64_t offset, int copies, int prot) noexcept nogil:
    cdef uint64_t total = bytes * copies + 2 * PAGE
    cdef char* start = <char*> mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    cdef int copy
    if start == <char*> MAP_FAILED:
        abort()
    for copy in range(copies):
        if mmap(start + PAGE + copy * bytes, bytes, prot, MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED:
            abort()
    return start + PAGE


# A new ring of the geometry `kind`, that nobody has joined.
cdef inline void world_make(World* world, int kind) noexcept nogil:
    cdef Identity identity
    cdef Fault fault
    cdef int fd = memfd_create("shmring-fuzz", 1)
    memset(world, 0, sizeof(World))
    memset(&identity, 0, sizeof(Identity))
    identity.capacity = CAPACITY
    identity.align = 64 if kind & 2 else 16
    identity.flags = 0 if kind & 1 else FLAG_SINGLE_PRODUCER
    identity.max_participants = 70 if kind & 4 else 6       # both end with a page
    identity.max_groups = GROUPS
    identity.page_bytes = PAGE
    identity.cookie = <uint64_t> 0x9e3779b97f4a7c15 & ~<uint64_t> 15
    world.control_bytes = layout_data_offset(GROUPS, identity.max_participants, PAGE)
    if fd < 0 or ftruncate(fd, world.control_bytes + CAPACITY) != 0:
        abort()
    world.control = fenced(fd, world.control_bytes, 0, 1, PROT_READ | PROT_WRITE)
    world.control_seen = fenced(fd, world.control_bytes, 0, 1, PROT_READ)
    world.data = fenced(fd, CAPACITY, world.control_bytes, 2, PROT_READ | PROT_WRITE)
    world.data_seen = fenced(fd, CAPACITY, world.control_bytes, 2, PROT_READ)
    layout_create(world.control, &identity, ((<uint64_t> 1 << 52) - 2 * CAPACITY if kind & 2 else 0) + identity.align - 16)
    if layout_attach(&world.map, world.control, world.control_bytes + CAPACITY, &fault) != OK:
        abort()
    world.map.data = world.data


# The map as a participant has it: its own view of the data, and of the control pages.
cdef inline void world_view(const World* world, RingMap* map, bint writes_data, bint writes_control) noexcept nogil:
    memcpy(map, &world.map, sizeof(RingMap))
    if not writes_control:
        layout_point(map, world.control_seen)
    map.data = world.data if writes_data else world.data_seen


cdef inline void stage_take(Stage* stage, const World* world) noexcept nogil:
    stage.world = world[0]
    stage.control = <char*> malloc(world.control_bytes)
    stage.data = <char*> malloc(CAPACITY)
    if stage.control == NULL or stage.data == NULL:
        abort()
    memcpy(stage.control, world.control, world.control_bytes)
    memcpy(stage.data, world.data, CAPACITY)


cdef inline void stage_put_back(const Stage* stage, World* world) noexcept nogil:
    world[0] = stage.world
    memcpy(world.control, stage.control, world.control_bytes)
    memcpy(world.data, stage.data, CAPACITY)


# ---- the input -----------------------------------------------------------------------------------------------------


# Bytes of an input, zeros behind its end.
cdef struct Input:
    const uint8_t* data
    uint64_t size
    uint64_t at


cdef inline uint64_t take(Input* input, int n_bytes) noexcept nogil:
    cdef uint64_t value = 0
    cdef int index
    for index in range(n_bytes):
        if input.at < input.size:
            value |= <uint64_t> input.data[input.at] << (8 * index)
            input.at += 1
    return value


# A number below `limit`.
cdef inline uint32_t pick(Input* input, uint32_t limit) noexcept nogil:
    return <uint32_t> take(input, 1) % limit
