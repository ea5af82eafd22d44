# A member of a group, below its Python interface. For Cython users: see __init__.pxd.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.reader cimport Found, Reader
from shmring.receiver cimport Receiver
from shmring.view cimport Loan, View


# Messages that were received together: shmring.nogil. Opaque; some 2 KiB.
cdef struct Batch:
    Found found
    uint64_t taken                  # messages handed out
    int entry                       # of the only one, which was there already when a member died with it; 0: an ordinary batch


cdef class Member(Receiver):
    cdef Reader reader
    cdef readonly str group         # its name
    cdef uint32_t group_number
    cdef bint from_latest           # where a new group starts
    cdef object ephemeral           # what the user asked: bool or None
    cdef object redeliver
    cdef bint exclusive             # the user wants it to be the only member
    cdef Loan oldest_loan           # records of open views, oldest first: a list through Loan.newer
    cdef Loan newest_loan
    cdef uint64_t most_borrowed     # bytes that arrays without a view may hold back when nothing is left to receive

    cdef Loan outlived(self)
    cdef check_borrowed(self)
    cdef bytes take_carefully(self, int* code, uint64_t longest)
    cdef int find(self, uint64_t longest, uint64_t* position, uint64_t* length, int* entry) except? -100
    cdef let_go(self, int entry, uint64_t length)
    cdef put_back(self, View view)
    cdef end_or_put_back(self, View view, object error)
    cdef int claim_some(self, uint64_t limit, uint64_t most_bytes, uint64_t longest, Found* found) except? -100
    cdef int await_batch(self, Batch* batch, uint64_t limit, int64_t deadline) except -1 with gil
    cdef int end_batch(self, Batch* batch) except -1 with gil
