# The consumer of an ArrayRing.
from cython cimport final

from shmring.array_reader cimport ArrayReceiver


@final
cdef class ArrayConsumer(ArrayReceiver):
    cdef int fill_shared(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100
    cdef int fill_range(self, char* target, Py_ssize_t* filled) except? -100
