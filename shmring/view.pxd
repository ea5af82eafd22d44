# Messages where they lie: what claims and views lend to Python. For Cython users: see __init__.pxd.
from cython cimport final, no_gc_clear
from libc.stdint cimport int64_t, uint64_t

from shmring._core.layout cimport RingMap
from shmring.participant cimport Participant
from shmring.ring cimport Ring


@final
@no_gc_clear
cdef class Memory:
    cdef Lease lease
    cdef Ring ring


@no_gc_clear
cdef class Lease:
    # Bytes of the ring lent to Python; counted, so that nothing unmaps them meanwhile.
    cdef Participant owner
    cdef char* address
    cdef Py_ssize_t size
    cdef bint is_readonly
    cdef bint has_ended             # the claim or view that it belongs to
    cdef Py_ssize_t uses            # memories that live

    cdef object lend(self)
    cdef give_back(self)
    cdef end(self, object memory)


@final
@no_gc_clear
cdef class Loan(Lease):
    # A record that a view has lent out. The consumer keeps the loans, not the views, so that a dropped view ends by itself.
    cdef uint64_t position
    cdef int entry                  # of the reader's claims, in whose range it lies
    cdef int64_t since_ns           # when it was lent out, on the monotonic clock
    cdef object holder              # what was made of it, for messages: see shmring.objects.told_of
    cdef Loan newer

    cdef bint is_over(self) noexcept
    cdef str told(self)


@final
cdef class View:
    cdef Participant owner          # None once released
    cdef Loan loan
    cdef object memory              # memoryview of the loan, made when first asked for
    cdef readonly bint redelivered

    cdef check_open(self)
    cdef end(self)


@final
cdef class ObservedView:
    cdef Participant owner          # None once released
    cdef const RingMap* map         # the owner's
    cdef Lease lease
    cdef object memory              # memoryview of the lease, made when first asked for
    cdef uint64_t position

    cdef check_open(self)
    cdef end(self)
