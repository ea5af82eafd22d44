"""The mmap facility for users: makes mappings of every backing, and hands out their bytes. The addresses are
Region's.

A byte access checks before it (closed?) and after it (was a page missing?), so that a file cut by another
process is an exception of the call that met it; a memoryview reads zeros there, and the next call raises.

Source: mmap(2), msync(2), madvise(2), memfd_create(2), shm_overview(7).
"""

import errno as codes
import operator
import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.slice cimport PySlice_AdjustIndices, PySlice_Unpack
from libc.errno cimport EFAULT, errno
from libc.string cimport memmove
from posix.mman cimport MS_ASYNC, MS_SYNC, madvise, msync

from shmring.region cimport Region

from shmring import backing, hugepages
from shmring.errors import NotSpawning, mapping_error
from shmring.options import DEFAULT_NAME, Options, advice_number, bad_geometry, checked_size


@cython.final
cdef class Mapping(Region):
    """Bytes shared with other processes, or copied from them on the first write; made by one of five
    functions.

    `Mapping.file(path)`, `Mapping.shm(name)`, `Mapping.memfd(size)`, `Mapping.anonymous(size)`,
    `Mapping.from_fd(fd)`.

    Parameters
    ----------
    size : int, optional
        Bytes to map; default: the rest of the file from `offset` on. It need not be a multiple of the page
        size: `mapped` and `wasted` tell what was added. More than the file has is allowed, see PastEndOfFile.
    create, exclusive : bool
        (file, shm) Make the file if there is none, and make it at least `offset + size` bytes long; fail if
        there is one.
    mode : int
        (file, shm) Permissions of a file that is made, less the umask.
    reserve : bool
        Allocate the pages at creation, so that a full file system is NoSpace here, rather than at some later
        store.
    offset : int
        Where in the file the mapping begins: a multiple of the page size.
    access : {"write", "read", "copy"}
        Shared and writable; shared and read-only; private: writable, and no change reaches the file.
    populate : bool
        Take all page faults now; reading and writing cause none later.
    lock : bool
        Keep the pages in memory (mlock); LockLimit where RLIMIT_MEMLOCK forbids it.
    noreserve : bool
        Set nothing aside: no swap (MAP_NORESERVE), and no pages (as reserve=False).
    huge : bool or int
        Huge pages: from the hugetlb pool where that has room (memfd, anonymous) or the file lies on
        hugetlbfs, else transparent ones; HugePagesUnavailable says how to configure them. An int is a
        hugetlb page size in bytes.
    mirrored : bool
        Map the same bytes twice in a row, so that a range across the end is one piece. `len()` is then 2 *
        size.
    flags : int
        Further mmap flags, for porting C: MAP_DENYWRITE, MAP_EXECUTABLE, MAP_STACK, MAP_NONBLOCK and
        MAP_FILE are ignored, as Linux does; MAP_32BIT, MAP_GROWSDOWN, MAP_FIXED, MAP_SYNC and those that
        have a parameter here are refused (`shmring.options` has the reasons). There is no PROT_EXEC.

    Raises
    ------
    MappingError
        In the class for its cause (see `shmring.errors`), with errno.

    Concurrency
    -----------
    Methods may be called from several threads. Processes see each other's stores at once, and in no promised
    order: synchronising is the caller's business. fork children inherit every mapping; a mapping with a name
    pickles anywhere, one without only while a multiprocessing child is being started.

    Cost
    ----
    Creation makes a handful of system calls; access is a copy of the bytes asked for; views copy nothing.

    Examples
    --------
    >>> with Mapping.anonymous(10) as memory:
    ...     memory[2:5] = b"abc"
    ...     memory[:6], memory.mapped, memory.wasted
    (b'\\x00\\x00abc\\x00', 4096, 4086)
    """

    def __init__(self):
        raise TypeError("use Mapping.file, .shm, .memfd, .anonymous or .from_fd")

    @staticmethod
    def file(path, size=None, *, create=False, exclusive=False, mode=0o600, reserve=True, **options):
        """Map a named file. Its name is `path`, made absolute."""
        how = Options(**options)
        name = os.path.abspath(os.fsdecode(path))
        fd, made = backing.open_file(name, access=how.access, create=create, exclusive=exclusive, mode=mode)
        return build("file", name, fd, size, how, create, reserve, os.unlink if made else None)

    @staticmethod
    def shm(name, size=None, *, create=False, exclusive=False, mode=0o600, reserve=True, **options):
        """Map the POSIX shared memory object `name` (the file /dev/shm/NAME); `backing.unlink_shm` removes
        the name.
        """
        how = Options(**options)
        fd, made = backing.open_shm(name, access=how.access, create=create, exclusive=exclusive, mode=mode)
        undo = backing.unlink_shm if made else None
        return build("shm", name.lstrip("/"), fd, size, how, create, reserve, undo)

    @staticmethod
    def memfd(size, *, name=DEFAULT_NAME, reserve=True, **options):
        """Map a new memory file that only its descriptor names, sealed against shrinking; `name` is for
        /proc.
        """
        return build_memfd("memfd", name, size, reserve, Options(**options))

    @staticmethod
    def anonymous(size, *, reserve=True, **options):
        """Map new memory for this process and the children that inherit or are given it."""
        return build_memfd("anonymous", DEFAULT_NAME, size, reserve, Options(**options))

    @staticmethod
    def from_fd(fd, size=None, **options):
        """Map an open descriptor, which may be closed right afterwards. Never changes the file's size."""
        how = Options(**options)
        return build("fd", None, backing.duplicate(fd), size, how, False, False, None)

    # ---- the buffer ----------------------------------------------------------------------------------------

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self.check()
        PyBuffer_FillInfo(buffer, self, self.address, self.extent, self.readonly, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1

    @property
    def view(self):
        """A new memoryview of the mapping, writable unless `readonly`; release it before close()."""
        return memoryview(self)

    def __len__(self):
        return self.extent

    def __getitem__(self, key):
        cdef Py_ssize_t start, stop, step, count
        cdef object result
        self.check()
        if not isinstance(key, slice):
            result = <unsigned char>self.address[self.index_of(key)]
        else:
            PySlice_Unpack(key, &start, &stop, &step)
            self.check()        # converting the indices may have run code that closed us
            count = PySlice_AdjustIndices(self.extent, &start, &stop, step)
            if step == 1:
                result = PyBytes_FromStringAndSize(self.address + start, count)
            else:
                with memoryview(self) as view:
                    result = view[key].tobytes()
        self.check()
        return result

    def __setitem__(self, key, value):
        cdef Py_ssize_t start, stop, step, count, byte
        self.check()
        self.check_writable()
        if not isinstance(key, slice):
            start = self.index_of(key)
            byte = operator.index(value)
            if not 0 <= byte <= 255:
                raise ValueError(f"a byte is 0 to 255, not {byte}")
            self.check()
            self.address[start] = <char>byte
        else:
            PySlice_Unpack(key, &start, &stop, &step)
            self.check()
            count = PySlice_AdjustIndices(self.extent, &start, &stop, step)
            if step == 1:
                self.store(start, count, value)
            else:
                with memoryview(self) as view:
                    view[key] = value
        self.check()

    def __delitem__(self, key):
        raise TypeError("a mapping has a fixed size: bytes cannot be deleted")

    cdef Py_ssize_t index_of(self, key) except -1:
        cdef Py_ssize_t index = operator.index(key)
        if index < 0:
            index += self.extent
        if not 0 <= index < self.extent:
            raise IndexError(f"index {key} is outside the mapping of {self.extent} bytes")
        self.check()
        return index

    cdef int check_writable(self) except -1:
        if self.readonly:
            raise TypeError("the mapping is read-only: to change it, map with access='write' or 'copy'")

    cdef int store(self, Py_ssize_t start, Py_ssize_t count, value) except -1:
        """Copy a bytes-like into [start, start + count); count < 0: as long as it is."""
        cdef Py_buffer source
        PyObject_GetBuffer(value, &source, PyBUF_SIMPLE)
        try:
            self.check()
            if count < 0:
                count = source.len
                if count > self.extent - start:
                    raise ValueError(f"{count} bytes at offset {start} do not fit into {self.extent}")
            elif source.len != count:
                raise ValueError(f"{source.len} bytes cannot replace {count}: a mapping has a fixed size")
            memmove(self.address + start, source.buf, count)
        finally:
            PyBuffer_Release(&source)

    def read(self, offset=0, size=None):
        """Copy bytes out.

        Parameters
        ----------
        offset : int
            Where to begin, in bytes from the start of the mapping.
        size : int, optional
            How many bytes; default: all up to the end.

        Returns
        -------
        bytes
            Exactly `size` of them.

        Raises
        ------
        ValueError
            The range is not inside the mapping, or the mapping is closed.
        RingTruncated, PastEndOfFile, NoSpace
            Some of these bytes have no page behind them.
        """
        cdef Py_ssize_t start, count
        start, count = self.range_of(offset, size)
        result = PyBytes_FromStringAndSize(self.address + start, count)
        self.check()
        return result

    def write(self, data, offset=0):
        """Copy a bytes-like into the mapping at `offset` (bytes); returns how many bytes. Raises as `read`
        does, and TypeError when the mapping is read-only."""
        cdef Py_ssize_t start = self.range_of(offset, 0)[0]
        self.check_writable()
        self.store(start, -1, data)
        self.check()
        return memoryview(data).nbytes

    cdef tuple range_of(self, offset, size):
        """(offset, size) checked against the mapping."""
        cdef Py_ssize_t start = operator.index(offset)
        cdef Py_ssize_t count = self.extent - start if size is None else operator.index(size)
        self.check()
        if start < 0 or count < 0 or start > self.extent or count > self.extent - start:
            raise ValueError(f"offset {start} and size {count} are not inside {self.extent} bytes")
        return start, count

    # ---- the memory ----------------------------------------------------------------------------------------

    def flush(self, offset=0, size=None, wait=True):
        """Write changed pages to the file: msync(2).

        Parameters
        ----------
        offset, size : int
            The range in bytes, rounded outwards to pages; default: everything.
        wait : bool
            Return when the file system has the data on its device (MS_SYNC). False only asks for it
            (MS_ASYNC): Linux writes the pages in its own time, which it would have done anyway.

        Notes
        -----
        Shared memory, memfds and private copies have no device: flush succeeds and does nothing.
        """
        cdef Py_ssize_t start, count, early
        cdef int result, how = MS_SYNC if wait else MS_ASYNC
        start, count = self.range_of(offset, size)
        early = start % self.page_size
        self.exports += 1       # keeps other threads from closing while we are outside the interpreter's lock
        with nogil:
            result = errno if msync(self.address + start - early, count + early, how) != 0 else 0
        self.exports -= 1
        if result != 0:
            raise mapping_error(result, f"flush {count} bytes", self.name)
        self.check()

    def advise(self, advice, offset=0, size=None):
        """Tell the kernel how the memory will be used: madvise(2).

        Parameters
        ----------
        advice : str or int
            One of `shmring.options.ADVICE` ("sequential", "willneed", "dontneed", "hugepage",
            "populate_write" ...) or its MADV_* number.
        offset, size : int
            The range in bytes, rounded outwards to pages; default: everything.
        """
        cdef Py_ssize_t start, count, early
        cdef int result, number = advice_number(advice)
        start, count = self.range_of(offset, size)
        early = start % self.page_size
        self.exports += 1
        with nogil:
            result = errno if madvise(self.address + start - early, count + early, number) != 0 else 0
        self.exports -= 1
        if result == EFAULT:
            raise self.reason()
        if result != 0:
            raise mapping_error(result, f"advise {advice!r} for {count} bytes", self.name)
        self.check()

    def resize(self, size, *, reserve=True):
        """Make the mapping larger, and its file too where that is shorter.

        Parameters
        ----------
        size : int
            The new size in bytes, at least the present one; a multiple of the page size when mirrored.
        reserve : bool
            Allocate the new pages now.

        Raises
        ------
        BufferError
            A view is alive: the memory may move, and the view would point nowhere.
        BadGeometry
            Smaller than now (close, and map again).
        NoSpace, FileTooLarge, NotPermitted, OutOfMemory, LockLimit
            As at creation; the mapping is as it was before.

        Notes
        -----
        Mappings of the same file in other processes stay as they are until each of them is resized.
        """
        cdef Py_ssize_t asked = checked_size(size, self.options.offset)
        self.check()
        self.check_unused("resize")
        if asked < self.size:
            raise bad_geometry(f"cannot resize {self.size} bytes to {asked}: only growing is possible; "
                               "close the mapping and map again")
        self.grow(asked, reserve)

    def close(self):
        """Unmap. Idempotent; BufferError while a view is alive; every use afterwards raises ValueError."""
        self.release()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *details):
        self.close()

    # ---- identity ------------------------------------------------------------------------------------------

    def fileno(self):
        """The mapping's own descriptor; it lives as long as the mapping."""
        if self.closed:
            raise ValueError("the mapping is closed")
        return self.fd

    def __repr__(self):
        state = "closed" if self.closed else f"{self.size} bytes, {self.access}"
        twice = ", mirrored" if self.mirrored else ""
        return f"<shmring.Mapping {self.kind} {self.name or ''!r} {state}{twice}>"

    def __reduce__(self):
        if self.closed:
            raise ValueError("the mapping is closed")
        if self.kind in ("file", "shm"):
            return reopen, (self.kind, self.name, self.size, self.options, backing.identity(self.fd))
        from multiprocessing import context, reduction

        if context.get_spawning_popen() is None:
            raise NotSpawning(f"this mapping ({self.kind}) has no name that another process could open: pass "
                              "it as an argument of a multiprocessing Process when that is started")
        return rebuild, (self.kind, self.name, self.size, self.options, reduction.DupFd(self.fd))


# ---- construction ------------------------------------------------------------------------------------------

cdef Mapping build(str kind, name, int fd, size, how, bint extend, bint reserve, undo):
    """A mapping of the descriptor, which is ours from here on: closed on failure, and the name taken back by
    `undo`.
    """
    cdef Mapping made = Mapping.__new__(Mapping)
    made.fd, made.kind, made.name, made.options = fd, kind, name, how
    try:
        made.measure(checked_size(size, how.offset, fd if size is None else -1))
        if extend:
            made.extend(reserve and not how.noreserve)
        made.place()
    except BaseException:
        if undo is not None:
            undo(name)
        raise       # the descriptor goes with the object
    return made


cdef Mapping build_memfd(str kind, name, size, bint reserve, how):
    cdef Mapping made
    fd = backing.open_memfd(name, hugepages.hugetlb_page(how.huge, checked_size(size, how.offset)))
    made = build(kind, name, fd, size, how, True, reserve, None)
    backing.seal_against_shrinking(fd)
    return made


def reopen(kind, name, size, how, identity):
    """Unpickle a mapping that has a name."""
    fd, _ = (backing.open_file if kind == "file" else backing.open_shm)(
        name, access=how.access, create=False, exclusive=False, mode=0)
    try:
        backing.check_identity(fd, identity, name)
    except BaseException:
        os.close(fd)
        raise
    return build(kind, name, fd, size, how, False, False, None)


def rebuild(kind, name, size, how, travelled):
    """Unpickle a mapping whose descriptor came along."""
    return build(kind, name, travelled.detach(), size, how, False, False, None)
