"""Owns addresses: maps a descriptor once or twice in a row, hands out buffers, and unmaps when nobody looks any more.

    address                length                2 * length
    | size bytes ... |tail |                                     one copy: tail is `wasted`
    | copy one             | copy two, the same pages |           mirrored: size == length, no tail

Invariant: while `exports` is above 0 the address range stays mapped, whatever other processes do to the file; a page that
is gone reads as zeros and the next method call raises (see sigbus.pyx). `fd` is a descriptor of our own, so the caller's
may be closed at once.

Source: mmap(2), mremap(2), msync(2), madvise(2), memfd_create(2), fallocate(2).
"""

import errno as codes
import operator
import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.slice cimport PySlice_AdjustIndices, PySlice_Unpack
from libc.errno cimport EFAULT, errno
from libc.stdint cimport uintptr_t
from libc.string cimport memmove
from posix.mman cimport (
    MADV_HUGEPAGE, MAP_FAILED, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MS_ASYNC, MS_SYNC,
    PROT_READ, PROT_WRITE, madvise, mlock, mremap, msync, munmap,
)
from posix.unistd cimport close as close_fd

from shmring._core.pages cimport pages_cover, pages_huge_bytes, pages_map
from shmring.sigbus cimport guard_close, guard_open, guard_set

from shmring import backing
from shmring.backing import Options
from shmring.errors import HugePagesUnavailable, NoSpace, NotSpawning, PastEndOfFile, RingTruncated, mapping_error


cdef extern from * nogil:
    """
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    enum: MADV_POPULATE_READ, MADV_POPULATE_WRITE, MREMAP_MAYMOVE


cdef Py_ssize_t base_page = os.sysconf("SC_PAGESIZE")


cdef inline Py_ssize_t round_up(Py_ssize_t value, Py_ssize_t unit) noexcept:
    return (value + unit - 1) // unit * unit


@cython.final
cdef class Mapping:
    def __cinit__(self):
        self.closed = True
        self.fd = -1

    def __init__(self):
        raise TypeError("use Mapping.file, .shm, .memfd, .anonymous or .from_fd")

    def __dealloc__(self):
        # A live buffer keeps us alive, so exports is only above 0 here if someone counts wrong: leaking is the safe side.
        if self.address != NULL and self.exports == 0:
            if self.guard != NULL:
                guard_close(self.guard)
            munmap(self.address, self.length * self.copies())
        if self.fd >= 0:
            close_fd(self.fd)

    @staticmethod
    def file(path, size=None, *, create=False, exclusive=False, mode=0o600, reserve=True, **options):
        how = Options(**options)
        name = os.path.abspath(os.fsdecode(path))
        fd, made = backing.open_file(name, access=how.access, create=create, exclusive=exclusive, mode=mode)
        return build("file", name, fd, size, how, create, reserve, os.unlink if made else None)

    @staticmethod
    def shm(name, size=None, *, create=False, exclusive=False, mode=0o600, reserve=True, **options):
        how = Options(**options)
        fd, made = backing.open_shm(name, access=how.access, create=create, exclusive=exclusive, mode=mode)
        return build("shm", name.lstrip("/"), fd, size, how, create, reserve, backing.unlink_shm if made else None)

    @staticmethod
    def memfd(size, *, name=backing.MAPPING_NAME, reserve=True, **options):
        return build_memfd("memfd", name, size, reserve, Options(**options))

    @staticmethod
    def anonymous(size, *, reserve=True, **options):
        return build_memfd("anonymous", backing.MAPPING_NAME, size, reserve, Options(**options))

    @staticmethod
    def from_fd(fd, size=None, **options):
        how = Options(**options)
        return build("fd", None, backing.duplicate(fd), size, how, False, False, None)

    # ---- the buffer --------------------------------------------------------------------------------------------------

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
            count = PySlice_AdjustIndices(self.extent, &start, &stop, step)
            if step == 1:
                result = PyBytes_FromStringAndSize(self.address + start, count)
            else:
                with memoryview(self) as view:
                    result = view[key].tobytes()
        self.check()
        return result

    def __setitem__(self, key, value):
        cdef Py_ssize_t start, stop, step, count
        cdef unsigned char byte
        self.check()
        self.check_writable()
        if not isinstance(key, slice):
            start = self.index_of(key)
            byte = value
            self.check()        # converting the index or the value may have run code that closed us
            self.address[start] = <char>byte
        else:
            PySlice_Unpack(key, &start, &stop, &step)
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
            raise TypeError("the mapping is read-only: map it with access='write' or access='copy' to change it")

    cdef int store(self, Py_ssize_t start, Py_ssize_t count, value) except -1:
        """Copy a bytes-like into [start, start + count); count < 0: as long as it is."""
        cdef Py_buffer source
        PyObject_GetBuffer(value, &source, PyBUF_SIMPLE)
        try:
            self.check()
            if count < 0:
                count = source.len
                if count > self.extent - start:
                    raise ValueError(f"{count} bytes at offset {start} do not fit into a mapping of {self.extent}")
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
        """Copy a bytes-like into the mapping at `offset` (bytes); returns how many bytes. Raises as `read` does, and
        TypeError when the mapping is read-only."""
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
            raise ValueError(f"offset {start} and size {count} are not inside a mapping of {self.extent} bytes")
        return start, count

    # ---- the memory --------------------------------------------------------------------------------------------------

    def flush(self, offset=0, size=None, wait=True):
        """Write changed pages to the file: msync(2).

        Parameters
        ----------
        offset, size : int
            The range in bytes, rounded outwards to pages; default: everything.
        wait : bool
            Return when the file system has the data on its device (MS_SYNC). False only asks for it (MS_ASYNC): Linux
            writes the pages in its own time, which it would have done anyway.

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
            One of `shmring.backing.ADVICE` ("sequential", "willneed", "dontneed", "hugepage", "populate_write" ...) or
            its MADV_* number.
        offset, size : int
            The range in bytes, rounded outwards to pages; default: everything.
        """
        cdef Py_ssize_t start, count, early
        cdef int result, number = backing.advice_number(advice)
        start, count = self.range_of(offset, size)
        early = start % self.page_size
        self.exports += 1
        with nogil:
            result = errno if madvise(self.address + start - early, count + early, number) != 0 else 0
        self.exports -= 1
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
        cdef Py_ssize_t asked = backing.checked_size(size, self.options.offset)
        cdef Mapping larger
        self.check()
        self.check_unused("resize")
        if asked < self.size:
            raise backing.bad_geometry(f"cannot resize {self.size} bytes to {asked}: only growing is possible; close the "
                                       "mapping and map again")
        larger = Mapping.__new__(Mapping)
        larger.kind, larger.name, larger.options = self.kind, self.name, self.options
        larger.fd = backing.duplicate(self.fd)
        larger.measure(asked)
        if self.options.access == "write":
            larger.extend(reserve and not self.options.noreserve)
        if self.mirrored or self.align > base_page or not self.move_to(larger):
            larger.place()
            self.check_unused("resize")     # place() let other threads run
        self.swap(larger)
        larger.close()
        self.prepare(self.address)

    cdef bint move_to(self, Mapping larger) except -1:
        """Move our pages, with private changes and locks, into `larger`; False when they are not in one piece."""
        cdef char* moved = <char*>mremap(self.address, self.length, larger.length, MREMAP_MAYMOVE)
        if moved == MAP_FAILED:
            if errno == EFAULT and self.options.access != "copy":
                return False
            if errno == codes.EAGAIN:
                raise backing.lock_failure(errno, larger.length, self.name)
            raise backing.map_failure(errno, f"grow the mapping to {larger.length} bytes", self.name)
        larger.address, self.address = moved, NULL
        larger.guard, self.guard = self.guard, NULL
        larger.opened()
        return True

    cdef int swap(self, Mapping other) except -1:
        self.address, other.address = other.address, self.address
        self.length, other.length = other.length, self.length
        self.guard, other.guard = other.guard, self.guard
        self.fd, other.fd = other.fd, self.fd
        self.size, self.extent, self.known_end = other.size, other.extent, other.known_end

    def close(self):
        """Unmap. Idempotent; BufferError while a view is alive; every use afterwards raises ValueError."""
        if self.closed:
            return
        self.check_unused("close")
        self.closed = True
        if self.guard != NULL:
            guard_close(self.guard)
            self.guard = NULL
        if self.address != NULL:
            munmap(self.address, self.length * self.copies())
            self.address = NULL
        close_fd(self.fd)
        self.fd = -1

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *details):
        self.close()

    cdef int check_unused(self, str action) except -1:
        if self.exports != 0:
            raise BufferError(f"cannot {action} the mapping: {self.exports} views of it are alive; release() them first")

    # ---- how it comes to be mapped -----------------------------------------------------------------------------------

    cdef int copies(self) noexcept:
        return 2 if self.mirrored else 1

    cdef int measure(self, Py_ssize_t size) except -1:
        """Everything that follows from the descriptor, the size and the options; maps nothing."""
        how = self.options
        cdef Py_ssize_t huge_bytes = pages_huge_bytes(self.fd)
        self.page_size = huge_bytes or base_page
        self.align = self.page_size
        self.size = size
        self.length = round_up(size, self.page_size)
        self.mirrored = how.mirrored
        self.readonly = how.access == "read"
        self.extent = size * self.copies()
        self.prot = PROT_READ if self.readonly else PROT_READ | PROT_WRITE
        self.map_flags = MAP_PRIVATE if how.access == "copy" else MAP_SHARED
        for wanted, flag in ((how.populate, MAP_POPULATE), (how.lock, MAP_LOCKED), (how.noreserve, MAP_NORESERVE)):
            if wanted:
                self.map_flags |= flag
        if how.huge and not huge_bytes:
            self.align = backing.advised_huge_page(self.fd, self.kind, how.huge, self.name)
        if how.offset % self.page_size:
            raise backing.bad_geometry(f"offset {how.offset} is not a multiple of the page size {self.page_size}")
        if self.mirrored and size % self.align:
            raise backing.bad_geometry(f"size {size} is not a multiple of the page size {self.align}, which a mirrored "
                                       f"mapping needs: ask for {round_up(size, self.align)}")

    cdef int extend(self, bint reserve) except -1:
        """Make the file long enough. hugetlbfs knows whole pages only."""
        cdef bint is_huge = self.page_size > base_page
        backing.extend(self.fd, self.options.offset + (<Py_ssize_t>self.length if is_huge else self.size), reserve=reserve,
                       in_memory=self.kind in ("shm", "memfd", "anonymous") and not is_huge,
                       action=f"reserve {self.size} bytes", name=self.name)

    cdef int place(self) except -1:
        """Map, and do what populate, lock and huge ask for; leaves nothing mapped on failure."""
        cdef char* address
        cdef int copies = self.copies(), code = 0
        cdef Py_ssize_t offset = self.options.offset
        with nogil:     # MAP_POPULATE may take seconds
            address = pages_map(self.length, copies, self.align, base_page, self.prot, self.map_flags, self.fd, offset)
            if address == NULL:
                code = errno
        if code == codes.EAGAIN or (code == codes.EPERM and self.map_flags & MAP_LOCKED):
            raise backing.lock_failure(code, self.length * copies, self.name)
        if code:
            raise backing.map_failure(code, f"map {self.size} bytes", self.name, hugetlb=self.page_size > base_page)
        try:
            self.prepare(address)
            if backing.may_be_cut(self.fd):
                self.guard = guard_open()
        except BaseException:
            munmap(address, self.length * copies)
            raise
        self.address = address
        self.opened()

    cdef int opened(self) except -1:
        self.closed = False
        self.known_end = min(self.file_end(), <Py_ssize_t>self.options.offset + self.size)
        if self.guard != NULL:
            guard_set(self.guard, <uintptr_t>self.address, self.length, self.copies(), self.page_size, self.prot)

    cdef int prepare(self, char* address) except -1:
        """What mmap's own flags promise only half: THP advice, pages that are writable without a fault, locked pages."""
        cdef size_t total = self.length * self.copies()
        cdef int code = 0, how = MADV_POPULATE_READ if self.readonly else MADV_POPULATE_WRITE
        if self.align > self.page_size and madvise(address, total, MADV_HUGEPAGE) != 0:
            raise mapping_error(errno, "use huge pages", self.name, HugePagesUnavailable, backing.huge_pages_text())
        if self.map_flags & MAP_POPULATE:
            with nogil:
                if madvise(address, total, how) != 0:
                    code = errno
            if code == EFAULT:
                raise self.missing(self.file_end(), self.size)
            if code and code != codes.EINVAL:       # EINVAL: Linux before 5.14, where MAP_POPULATE has done what it can
                raise backing.map_failure(code, f"populate {self.size} bytes", self.name)
        if self.map_flags & MAP_LOCKED and self.file_end() >= self.options.offset + self.size:
            with nogil:
                if mlock(address, total) != 0:
                    code = errno
            if code:
                raise backing.lock_failure(code, total, self.name)

    # ---- when pages are missing --------------------------------------------------------------------------------------

    cdef int check(self) except -1:
        """Raise when the mapping is closed, or when a page was missing since the last look."""
        if self.closed:
            raise ValueError("the mapping is closed")
        if self.is_cut or (self.guard != NULL and self.guard.hits != 0):
            self.explain()
        return 0

    cdef int explain(self) except -1:
        """Find out why the handler had to put zeros under us, undo that where it makes sense, and raise."""
        cdef Py_ssize_t end = self.file_end(), needed = self.options.offset + self.size
        cdef uintptr_t low
        if self.is_cut or end < self.known_end:
            self.is_cut = True
            raise self.cut(end, needed)
        error = self.missing(end, needed)
        low = self.guard.low
        if not pages_cover(self.address, self.length, self.copies(), self.prot, self.map_flags & ~MAP_POPULATE, self.fd,
                           self.options.offset, low):
            raise backing.map_failure(errno, f"map {self.size} bytes again", self.name)
        guard_set(self.guard, <uintptr_t>self.address, self.length, self.copies(), self.page_size, self.prot)
        self.known_end = min(end, needed)
        raise error

    cdef object cut(self, Py_ssize_t end, Py_ssize_t needed):
        text = (f"the file has {end} bytes and the mapping needs {needed}" if end < needed else "it has grown again since")
        return RingTruncated(codes.EIO, f"another process cut the file under the mapping: {text}. What was beyond the cut "
                                        "is gone: close the mapping, and create or open it again", self.name)

    cdef object missing(self, Py_ssize_t end, Py_ssize_t needed):
        """The error for a page that was missing although nobody made the file shorter than it was."""
        if end < needed or self.known_end < needed:
            return PastEndOfFile(codes.ENXIO, f"this part of the mapping is past the end of its file, which has {end} "
                                              f"bytes now and needs {needed}: it works once the file has grown", self.name)
        free = backing.free_bytes(self.fd)
        if free is not None and free < self.page_size or self.page_size > base_page:
            return NoSpace(codes.ENOSPC, f"no page for this part of the mapping: needed {self.page_size} bytes, free "
                                         f"{free or 0}; what was written there is lost. Use reserve=True at creation",
                           self.name)
        self.is_cut = True
        return self.cut(end, needed)

    cdef Py_ssize_t file_end(self) except -1:
        if self.closed and self.fd < 0:
            raise ValueError("the mapping is closed")
        return os.fstat(self.fd).st_size

    # ---- what is mapped ----------------------------------------------------------------------------------------------

    @property
    def mapped(self):
        """Bytes of one copy as mapped: `size` rounded up to `page_size`."""
        return self.length

    @property
    def wasted(self):
        """Bytes at the end of the last page that were mapped but not asked for."""
        return self.length - self.size

    @property
    def zero_tail(self):
        """Bytes of the mapping from the end of the file to the end of that page: they read as zero, and what is
        written there is never stored (a snapshot)."""
        cdef Py_ssize_t end = self.file_end() - self.options.offset
        return round_up(end, self.page_size) - end if 0 < end < <Py_ssize_t>self.length else 0

    @property
    def past_end(self):
        """Bytes of the mapping in pages wholly past the end of the file; touching them raises PastEndOfFile (a
        snapshot)."""
        cdef Py_ssize_t end = round_up(self.file_end() - self.options.offset, self.page_size)
        return min(max(0, <Py_ssize_t>self.length - end), <Py_ssize_t>self.length)

    @property
    def offset(self):
        """Where in the file the mapping begins, in bytes."""
        return self.options.offset

    @property
    def access(self):
        """"write" (shared), "read" (shared) or "copy" (private copy-on-write)."""
        return self.options.access

    @property
    def huge(self):
        """"hugetlb", "advised" or None."""
        if self.page_size > base_page:
            return "hugetlb"
        return "advised" if self.align > base_page else None

    @property
    def truncated(self):
        """Whether another process has cut the file under the mapping."""
        if not self.closed and self.file_end() < self.known_end:
            self.is_cut = True
        return self.is_cut

    def fileno(self):
        """The mapping's own descriptor; it lives as long as the mapping."""
        if self.closed:
            raise ValueError("the mapping is closed")
        return self.fd

    def __repr__(self):
        state = "closed" if self.closed else f"{self.size} bytes, {self.access}"
        return f"<shmring.Mapping {self.kind} {self.name or ''!r} {state}{', mirrored' if self.mirrored else ''}>"

    def __reduce__(self):
        if self.closed:
            raise ValueError("the mapping is closed")
        if self.kind in ("file", "shm"):
            return reopen, (self.kind, self.name, self.size, self.options, backing.identity(self.fd))
        from multiprocessing import context, reduction

        if context.get_spawning_popen() is None:
            raise NotSpawning(f"this mapping ({self.kind}) has no name that another process could open: pass it as "
                              "an argument of a multiprocessing Process when that is started")
        return rebuild, (self.kind, self.name, self.size, self.options, reduction.DupFd(self.fd))


# ---- construction ----------------------------------------------------------------------------------------------------

cdef Mapping build(str kind, name, int fd, size, how, bint extend, bint reserve, undo):
    """A mapping of the descriptor, which is ours from here on: closed on failure, and the name taken back by `undo`."""
    cdef Mapping made = Mapping.__new__(Mapping)
    made.fd, made.kind, made.name, made.options = fd, kind, name, how
    try:
        made.measure(backing.checked_size(size, how.offset, fd if size is None else -1))
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
    fd = backing.open_memfd(name, backing.hugetlb_page(how.huge, backing.checked_size(size, how.offset)))
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
