"""The pickles that queues put: protocol 5, with the reductions that multiprocessing has for what belongs to a process.

`pickle.dumps` would take a connection for a number that means something else in another process, and ForkingPickler makes a new
pickler with a chain of tables for each object, 2 us. Here picklers are kept: for a small dict that is faster than pickle.dumps.
A pickler that raised is dropped; one that is in use, by another thread or by the object that is being pickled, is not there.

Buffers of LEAST_BUFFER bytes and more stay out of the pickle: the message is that of the codec "pickle" with buffers. It writes
itself into the ring, and comes out in pieces, which are the memory of the objects that are made of them.

In Cython, as packing and loading small objects is what most puts and gets consist of.
"""

from cython cimport final
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from shmring.codecs.pickled cimport PickleCopier, is_plain, pack_buffers, take_apart
from shmring.counted cimport NUMBER_BYTES
from shmring.packed cimport packed_bytes

import copyreg
from multiprocessing.reduction import ForkingPickler
from pickle import Pickler, loads

from shmring.errors import CodecError
from shmring.view import View

cdef enum:
    LEAST_BUFFER = 16384            # bytes from which a buffer of its own costs less than its place in the pickle

PROTOCOL = 5

cdef dict ours = ForkingPickler._extra_reducers
cdef dict everybodys = copyreg.dispatch_table
cdef dict reducers = {}             # both; a dict, as the C pickler looks types up in dicts much faster
cdef Py_ssize_t seen = -1           # how many reducers there were then
cdef list idle = []                 # packers: as many as were in use at a time
cdef object unpickle = loads

copier = PickleCopier()             # how counted.recv copies what is large


@final
cdef class File:
    """What a pickler writes to."""
    cdef readonly object write


@final
cdef class Beside:
    """What a pickler calls with each buffer: whether it belongs into the pickle."""
    cdef list buffers, parts

    def __call__(self, buffer):
        try:
            raw = buffer.raw()
        except BufferError:
            return True             # not in one piece: pickle says so
        if raw.nbytes < LEAST_BUFFER or PyBytes_CheckExact(raw.obj):
            return True             # the pickle of bytes gives bytes, a buffer would give a memoryview
        self.buffers.append(raw)
        self.parts.append(b"")      # so that it is seen at no cost for who has none
        return False


@final
cdef class Packer:
    """A pickler, and where what it makes is collected."""
    cdef object dump, clear_memo
    cdef list parts                 # of the pickle: one, but for large objects
    cdef Beside beside

    def __init__(self):
        cdef File file = File()
        self.parts = []
        file.write = self.parts.append
        self.beside = Beside()
        self.beside.parts = self.parts
        self.beside.buffers = []
        pickler = Pickler(file, PROTOCOL, buffer_callback=self.beside)
        pickler.dispatch_table = reducers
        self.dump, self.clear_memo = pickler.dump, pickler.clear_memo

    cdef object pack(self, obj):
        cdef list buffers
        self.dump(obj)
        self.clear_memo()
        if len(self.parts) == 1:
            return self.parts.pop()
        pickle = b"".join(self.parts)
        self.parts.clear()
        buffers = self.beside.buffers
        if not buffers:
            return pickle
        self.beside.buffers = []
        return pack_buffers(pickle, buffers)


cdef renew():
    global seen
    reducers.update(everybodys)
    reducers.update(ours)
    seen = len(ours) + len(everybodys)


def pack(obj):
    """The object as a message: bytes, or what writes itself into the ring, from the object's memory.

    Raises what pickling it raises.
    """
    cdef Packer packer
    if len(ours) + len(everybodys) != seen:
        renew()
    packer = idle.pop() if idle else Packer()
    message = packer.pack(obj)
    idle.append(packer)
    return message


def pack_many(objects):
    """The same of each object, in a list."""
    cdef Packer packer
    cdef list messages = []
    if len(ours) + len(everybodys) != seen:
        renew()
    objects = list(objects)
    packer = Packer()
    for obj in objects:
        messages.append(packer.pack(obj))
    return messages


def snapshot(message not None):
    """The message as bytes, which stay what they are, whatever happens to the object."""
    return packed_bytes(message)


def load(taken not None):
    """The object of a message that counted.recv returned (with `copier`), or of a `View` of one.

    Raises CodecError if it is none, and what unpickling it raises.
    """
    return load_message(taken)


def load_all(list taken not None):
    """The objects, in order; all of them are out of the queue, so one that cannot be unpickled must not cost the others."""
    cdef list objects = []
    failure = None
    for each in taken:
        try:
            objects.append(load_message(each))
        except Exception as error:
            failure = failure or error
    if failure is not None:
        failure.objects = objects
        raise failure
    return objects


cdef object load_message(object taken):
    if PyBytes_CheckExact(taken) and is_plain(PyBytes_AS_STRING(taken), PyBytes_GET_SIZE(taken)):
        return unpickle(taken)      # which ends before the number
    if isinstance(taken, View):
        with taken.data as memory:
            return load_from(memory)
    if isinstance(taken, tuple):
        pickle, buffers = taken
        return load_pieces(pickle, buffers)
    return load_from(taken)


cdef object load_from(object memory):
    """A message that lies in memory of any kind, with its number."""
    cdef Py_buffer source
    cdef list buffers = []
    PyObject_GetBuffer(memory, &source, PyBUF_SIMPLE)
    try:
        if is_plain(<const char*> source.buf, source.len):
            return unpickle(memory)
        pickle = take_apart(<const char*> source.buf, max(source.len - NUMBER_BYTES, 0), buffers, None)
    finally:
        PyBuffer_Release(&source)
    return load_pieces(pickle, buffers)


cdef object load_pieces(object pickle, list buffers):
    if not PyBytes_CheckExact(pickle):
        raise CodecError(pickle)
    return unpickle(pickle, buffers=buffers)
