"""Owns address ranges: places a descriptor's pages, moves them, gives them back, and says why one was
missing.

    address                length                2 * length
    | size bytes ... |tail |                                     one copy: tail is what Mapping calls `wasted`
    | copy one             | copy two, the same pages |           mirrored: size == length, no tail

Invariant: while `exports` is above 0 the address range stays mapped, whatever other processes do to the
file; a page that is gone reads as zeros and the next `check` raises (see sigbus.pyx). `fd` is a descriptor
of our own, so the caller's may be closed at once.

Source: mmap(2), mremap(2), mlock(2), madvise(2).
"""

import errno as codes
import os

from libc.errno cimport EFAULT, EINVAL, errno
from libc.stdint cimport uintptr_t
from posix.mman cimport (
    MADV_HUGEPAGE, MAP_FAILED, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ,
    PROT_WRITE, madvise, mlock, mremap, munmap,
)
from posix.unistd cimport close as close_fd

from shmring._core.guard cimport guard_hits, guard_low
from shmring._core.pages cimport pages_cover, pages_huge_bytes, pages_map
from shmring.sigbus cimport guard_close, guard_open, guard_set

from shmring import backing, hugepages
from shmring.errors import HugePagesUnavailable, NoSpace, PastEndOfFile, RingTruncated, mapping_error
from shmring.options import bad_geometry


cdef extern from * nogil:
    """
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    enum: MADV_POPULATE_READ, MADV_POPULATE_WRITE, MREMAP_MAYMOVE


base_page = os.sysconf("SC_PAGESIZE")


cdef class Region:
    """What every mapping is made of; `shmring.Mapping` is the part that users see."""

    def __cinit__(self):
        self.closed = True
        self.fd = -1

    def __dealloc__(self):
        # A live buffer keeps us alive, so exports is only above 0 here if someone counts wrong: leaking is
        # the safe side.
        if self.address != NULL and self.exports == 0:
            if self.guard != NULL:
                guard_close(self.guard)
            munmap(self.address, self.length * self.copies())
        if self.fd >= 0:
            close_fd(self.fd)

    # ---- how it comes to be mapped -------------------------------------------------------------------------

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
        self.populate = how.populate
        for wanted, flag in ((how.lock, MAP_LOCKED), (how.noreserve, MAP_NORESERVE)):
            if wanted:
                self.map_flags |= flag
        if how.populate:
            self.map_flags |= MAP_POPULATE
        if how.huge and not huge_bytes:
            self.map_flags &= ~MAP_POPULATE     # brings small pages before madvise can ask for huge ones
            self.align = hugepages.advised_page(self.fd, how.huge, self.name)
        if how.offset % self.page_size:
            raise bad_geometry(f"offset {how.offset} is not a multiple of the page size {self.page_size}")
        if self.mirrored and size % self.align:
            raise bad_geometry(f"size {size} is not a multiple of the page size {self.align}, which a "
                                       f"mirrored mapping needs: ask for {round_up(size, self.align)}")

    cdef int extend(self, bint reserve) except -1:
        """Make the file long enough. hugetlbfs knows whole pages only."""
        cdef bint is_huge = self.page_size > base_page
        # On tmpfs only a page fault in an advised mapping brings a huge page: allocating before would bring
        # small ones.
        cdef bint by_faults = self.align > self.page_size and hugepages.is_tmpfs(self.fd)
        cdef Py_ssize_t end = self.options.offset + (<Py_ssize_t>self.length if is_huge else self.size)
        backing.extend(self.fd, end, reserve=reserve, allocate=not by_faults,
                       in_memory=self.kind in ("shm", "memfd", "anonymous") and not is_huge,
                       action=f"reserve {self.size} bytes", name=self.name)
        if by_faults and reserve:
            self.populate = True

    cdef int place(self) except -1:
        """Map, and do what populate, lock and huge ask for; leaves nothing mapped on failure."""
        cdef char* address
        cdef int copies = self.copies(), code = 0
        cdef Py_ssize_t offset = self.options.offset
        with nogil:     # MAP_POPULATE may take seconds
            address = pages_map(self.length, copies, self.align, base_page, self.prot, self.map_flags,
                                self.fd, offset)
            if address == NULL:
                code = errno
        if code == codes.EAGAIN or (code == codes.EPERM and self.map_flags & MAP_LOCKED):
            raise backing.lock_failure(code, self.length * copies, self.name)
        if code == codes.ENOMEM and self.page_size > base_page:
            raise mapping_error(code, f"map {self.size} bytes", self.name, HugePagesUnavailable,
                                hugepages.text(self.page_size))
        if code:
            raise backing.map_failure(code, f"map {self.size} bytes", self.name)
        try:
            self.note_end()
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
        self.note_end()
        if self.guard != NULL:
            self.arm()

    cdef void arm(self) noexcept:
        """Tell the handler where we are; forgets what it told us."""
        guard_set(self.guard, <uintptr_t>self.address, self.length, self.copies(), self.page_size, self.prot)

    cdef int note_end(self) except -1:
        self.known_end = min(self.file_end(), <Py_ssize_t>self.options.offset + self.size)

    cdef int prepare(self, char* address) except -1:
        """What mmap's own flags promise only half: THP advice, pages that are writable without a fault,
        locked pages.
        """
        cdef size_t total = self.length * self.copies()
        cdef int code = 0, how = MADV_POPULATE_READ if self.readonly else MADV_POPULATE_WRITE
        if self.align > self.page_size and madvise(address, total, MADV_HUGEPAGE) != 0:
            raise mapping_error(errno, "use huge pages", self.name, HugePagesUnavailable, hugepages.text())
        if self.populate:
            with nogil:
                if madvise(address, total, how) != 0:
                    code = errno
                    if code == EINVAL:      # Linux before 5.14: what MAP_POPULATE did is what can be had
                        code = 0
            if code == EFAULT:
                raise self.reason()
            if code:
                raise backing.map_failure(code, f"populate {self.size} bytes", self.name)
            code = 0
        if self.map_flags & MAP_LOCKED and self.file_end() >= self.options.offset + self.size:
            with nogil:
                if mlock(address, total) != 0:
                    code = errno
            if code:
                raise backing.lock_failure(code, total, self.name)

    # ---- when pages are missing ----------------------------------------------------------------------------

    cdef int check(self) except -1:
        """Raise when the mapping is closed, or when a page was missing since the last look."""
        if self.closed:
            raise ValueError("the mapping is closed")
        if self.is_cut or (self.guard != NULL and guard_hits(self.guard) != 0):
            self.explain()
        return 0

    cdef int explain(self) except -1:
        """Find out why the handler had to put zeros under us, undo that where it makes sense, and raise."""
        cdef uintptr_t low
        error = self.reason()
        if self.is_cut:
            raise error
        low = guard_low(self.guard)
        if not pages_cover(self.address, self.length, self.copies(), self.prot,
                           self.map_flags & ~MAP_POPULATE, self.fd, self.options.offset, low):
            raise backing.map_failure(errno, f"map {self.size} bytes again", self.name)
        self.arm()
        self.note_end()
        raise error

    cdef object reason(self):
        """The error for a page that is missing."""
        cdef Py_ssize_t end = self.file_end(), needed = self.options.offset + self.size
        if self.is_cut or end < self.known_end:
            self.is_cut = True
            return self.cut(end, needed)
        if end < needed or self.known_end < needed:
            text = (f"this part of the mapping is past the end of its file, which has {end} bytes now and "
                    f"needs {needed}: it works once the file has grown")
            return PastEndOfFile(codes.ENXIO, text, self.name)
        free = backing.free_bytes(self.fd)
        if free is not None and free < self.page_size or self.page_size > base_page:
            text = (f"no page for this part of the mapping: needed {self.page_size} bytes, free {free or 0}; "
                    "what was written there is lost. Use reserve=True at creation")
            return NoSpace(codes.ENOSPC, text, self.name)
        self.is_cut = True
        return self.cut(end, needed)

    cdef object cut(self, Py_ssize_t end, Py_ssize_t needed):
        now = f"the file has {end} bytes and the mapping needs {needed}"
        if end >= needed:
            now = "it has grown again since"
        text = (f"another process cut the file under the mapping: {now}. What was beyond the cut is gone: "
                "close the mapping, and create or open it again")
        return RingTruncated(codes.EIO, text, self.name)

    cdef Py_ssize_t file_end(self) except -1:
        if self.closed and self.fd < 0:
            raise ValueError("the mapping is closed")
        return os.fstat(self.fd).st_size

    # ---- what is mapped ------------------------------------------------------------------------------------

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
        """Bytes of the mapping from the end of the file to the end of that page: they read as zero, and what
        is written there is never stored (a snapshot)."""
        cdef Py_ssize_t end = self.file_end() - self.options.offset
        return round_up(end, self.page_size) - end if 0 < end < <Py_ssize_t>self.length else 0

    @property
    def past_end(self):
        """Bytes of the mapping in pages wholly past the end of the file; touching them raises PastEndOfFile
        (a snapshot)."""
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

    # ---- growing and closing -------------------------------------------------------------------------------

    cdef int grow(self, Py_ssize_t asked, bint reserve) except -1:
        cdef Region larger
        larger = Region.__new__(Region)
        larger.kind, larger.name, larger.options = self.kind, self.name, self.options
        larger.fd = backing.duplicate(self.fd)
        larger.measure(asked)
        if self.options.access == "write":
            larger.extend(reserve and not self.options.noreserve)
        if self.mirrored or self.align > base_page or not self.move_to(larger):
            self.exports += 1       # place() lets other threads run: none may close or resize us meanwhile
            try:
                larger.place()
            finally:
                self.exports -= 1
            self.check_unused("resize")
        self.swap(larger)
        larger.release()
        self.prepare(self.address)

    cdef bint move_to(self, Region larger) except -1:
        """Move our pages, with private changes and locks, into `larger`; False when they are not in one
        piece.
        """
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

    cdef int swap(self, Region other) except -1:
        self.address, other.address = other.address, self.address
        self.length, other.length = other.length, self.length
        self.guard, other.guard = other.guard, self.guard
        self.fd, other.fd = other.fd, self.fd
        self.size, self.extent, self.known_end = other.size, other.extent, other.known_end

    cdef int release(self) except -1:
        if self.closed:
            return 0
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

    cdef int check_unused(self, str action) except -1:
        if self.exports != 0:
            raise BufferError(f"cannot {action} the mapping: {self.exports} views of it are alive; "
                              "release() them first")
