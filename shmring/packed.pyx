"""What writes itself into a record that was reserved for it, and what copies itself out of one that was claimed.

Both are called while the record is this process's alone and its handle is in the middle of something, so neither runs Python
code, nor makes an object that the garbage collector knows, as the collector may run anything.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t


cdef class Packed:
    """A message of `nbytes` bytes that is still where it was packed from. Made by codecs."""

    def __init__(self):
        raise TypeError("packed messages are made by codecs")

    cdef int write(self, char* target) except -1:
        """Fill `nbytes` bytes at `target`. Raises if they cannot be had; runs no Python code otherwise."""
        raise NotImplementedError


cdef class Copier:
    """Copies large messages out of their records: this one in one piece, as bytes."""

    cdef object copy(self, const char* begin, uint64_t size, list rest):
        """The first piece of the message of `size` bytes at `begin`; others are appended to `rest`. All own their memory.

        Raises MemoryError. Others may write to the message meanwhile. Runs no Python code.
        """
        return PyBytes_FromStringAndSize(begin, size)


cdef bytes packed_bytes(object message):
    """A message as bytes, which stay what they are."""
    cdef Packed packed
    cdef bytes snapshot
    if PyBytes_CheckExact(message):
        return message
    packed = message
    snapshot = PyBytes_FromStringAndSize(NULL, packed.nbytes)
    packed.write(PyBytes_AS_STRING(snapshot))
    return snapshot
