# The tables of groups and participants, for the other ports.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.layout cimport Fault, RingMap, Slot
from shmring._core.reader cimport Reader
from shmring.mapping cimport Mapping
from shmring.table_lock cimport Tables


# CorruptRing, from the facts that the kernel left.
cdef object corrupt(Fault* fault, str label)


cdef class Registry(Tables):
    cdef RingMap* map               # the ring's, which owns this and lives longer
    cdef Mapping data               # the data area, writable; mapped when something dead has to be cleaned up there
    cdef bint has_news              # something was cleaned up, and sleepers were not told yet
    cdef list found                 # what was done for the dead: facts, to be logged once the lock is free

    cdef find_group(self, str name)
    cdef find_alike(self, str name, object ephemeral, object redeliver, bint exclusive)
    cdef uint32_t make_group(self, str name, uint32_t flags, bint latest) except? 0xffffffff
    cdef remove_group(self, str name)
    cdef end_group(self, uint32_t number)
    cdef object group_name(self, uint32_t number)
    cdef enter_group(self, uint32_t number, uint32_t me, bint exclusive, bint must_exchange)
    cdef bint is_settled(self, uint32_t number, uint32_t me)
    cdef int repair(self, Slot* finder=*) except -1
    cdef bint look_after(self, uint32_t number, Slot* finder) except -1
    cdef bury(self, uint32_t number, bint died)
    cdef bint adopt(self, Reader* reader) except -1
    cdef uint64_t lately(self) noexcept
    cdef bint is_alive(self, uint32_t number) except -1
    cdef list live_members(self, uint32_t number)
    cdef bint has_neighbour(self, uint32_t number, int cpu) noexcept
    cdef object describe(self, uint32_t number)
    cdef object describe_members(self, uint32_t number)
    cdef object describe_producers(self)
    cdef bint any_producer_alive(self) except -1
    cdef uint32_t dead_producer(self)
    cdef list describe_obstacles(self, uint64_t span)
    cdef str describe_claims(self, const RingMap* ring, uint64_t least)
    cdef object describe_holding(self, uint32_t number)
