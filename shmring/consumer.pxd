# The consumer port. Its kernel state, for Cython users: see __init__.pxd.
from cython cimport final, no_gc_clear
from libc.stdint cimport int64_t, uint64_t

from shmring._core.consume cimport Reader
from shmring.participant cimport Lease, Participant


@final
cdef class Consumer(Participant):
    cdef Reader reader
    cdef readonly str group         # its name
    cdef Loan oldest_loan           # records of open views, oldest first: a list through Loan.newer
    cdef Loan newest_loan

    cdef bytes take(self, int* code)
    cdef int try_peek(self, char** payload, uint64_t* length) noexcept
    cdef await_record(self, char** payload, uint64_t* length, int64_t deadline)
    cdef release_handed_out(self)
    cdef check_receiving(self)
    cdef raise_code(self, int code)
    cdef raise_empty(self)


@final
@no_gc_clear
cdef class Loan(Lease):
    # A record that a view has lent out. The consumer keeps the loans, not the views, so that a dropped view ends by itself.
    cdef uint64_t position
    cdef Loan newer


@final
cdef class View:
    cdef Consumer owner             # None once released
    cdef Loan loan
    cdef object memory              # memoryview of the loan, made when first asked for
    cdef readonly bint redelivered

    cdef check_open(self)
    cdef end(self)
