# One small io_uring: a descriptor that becomes readable when a futex is woken or a time comes. Functions return 0 or a count, or a
# negative errno.
#
# What is used of io_uring: FUTEX_WAIT (Linux 6.7), TIMEOUT, ASYNC_CANCEL, NOP; all of them are submitted by the call that
# queues them last (uring_submit) and never waited for. The descriptor is readable while completions lie in the queue:
# uring_next only looks at them, uring_quiet takes those away that were looked at.
#
# Not shared between processes: the queues are not inherited by a forked child (MADV_DONTFORK), which has only the descriptor.
# Whoever calls holds the GIL, so at most one thread of the process is in here. A completion is put into the queue by the thread
# that submitted its request, on its way out of the kernel; if that thread ends, the kernel cancels the request. So the queues'
# words are shared with the kernel alone, which is the other side of every edge here.
#
# The structs are the kernel's (linux/io_uring.h), written out because the headers of many systems are older than FUTEX_WAIT;
# tests/rules/test_uring.py holds them to its bytes. "The kernel" is Linux in this file.
# Progress: wait-free but for the system calls, none of which waits for somebody.
# Source: io_uring(7), io_uring_setup(2), io_uring_enter(2).
from libc.errno cimport EAGAIN, EINTR, ENOSYS, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset
from posix.mman cimport MADV_DONTFORK, MAP_FAILED, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE, madvise, mmap, munmap
from posix.unistd cimport close

from shmring._core.atomic cimport (kernel_assert, load_acquire_u32, load_relaxed_u32, store_relaxed_u32, store_release_u32, u32)
from shmring._core.futex cimport FUTEX2_SIZE_U32, io_uring_enter, io_uring_setup

cdef enum:
    URING_ENTRIES = 8               # requests that are queued at once: at most one of each kind

cdef enum:                          # IORING_OP_
    OP_NOP = 0
    OP_TIMEOUT = 11
    OP_TIMEOUT_REMOVE = 12
    OP_ASYNC_CANCEL = 14
    OP_FUTEX_WAIT = 51

cdef enum:                          # IORING_
    TIMEOUT_ABS = 1 << 0
    TIMEOUT_UPDATE = 1 << 1
    SETUP_CLAMP = 1 << 4
    FEAT_SINGLE_MMAP = 1 << 0
    OFF_SQ_RING = 0
    OFF_SQES = 0x10000000


cdef struct UringRequest:           # struct io_uring_sqe
    uint8_t opcode
    uint8_t flags
    uint16_t ioprio
    int32_t fd                      # FUTEX_WAIT: flags of the futex
    uint64_t off                    # FUTEX_WAIT: expected value; update of a TIMEOUT: its new time
    uint64_t addr                   # FUTEX_WAIT: the word; TIMEOUT: its time; ASYNC_CANCEL and update: user_data of the request
    uint32_t len
    uint32_t op_flags
    uint64_t user_data
    uint16_t buf_index
    uint16_t personality
    int32_t file_index
    uint64_t addr3                  # FUTEX_WAIT: mask
    uint64_t reserved

cdef struct UringCompletion:        # struct io_uring_cqe
    uint64_t user_data
    int32_t result
    uint32_t flags

cdef struct UringRequestOffsets:    # struct io_sqring_offsets
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t flags
    uint32_t dropped
    uint32_t array
    uint32_t reserved
    uint64_t user_addr

cdef struct UringCompletionOffsets:  # struct io_cqring_offsets
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t overflow
    uint32_t cqes
    uint32_t flags
    uint32_t reserved
    uint64_t user_addr

cdef struct UringParams:            # struct io_uring_params
    uint32_t sq_entries
    uint32_t cq_entries
    uint32_t flags
    uint32_t sq_thread_cpu
    uint32_t sq_thread_idle
    uint32_t features
    uint32_t wq_fd
    uint32_t reserved[3]
    UringRequestOffsets sq_off
    UringCompletionOffsets cq_off

cdef struct Uring:
    int fd                          # readable while there are completions; -1: not open
    char* rings                     # both queues
    size_t rings_bytes
    UringRequest* entries
    size_t entries_bytes
    u32* sq_tail
    u32* cq_head
    u32* cq_tail
    uint32_t* sq_array
    UringCompletion* cqes
    uint32_t sq_mask
    uint32_t cq_mask
    uint32_t queued                 # requests that were not submitted yet
    uint32_t seen                   # completions up to here were looked at
    int64_t time[2]                 # struct __kernel_timespec of a request that is queued


# Closes it; in a forked child only the descriptor.
cdef inline void uring_close(Uring* uring, bint is_mine) noexcept nogil:
    if is_mine and uring.entries != NULL:
        munmap(uring.entries, uring.entries_bytes)
    if is_mine and uring.rings != NULL:
        munmap(uring.rings, uring.rings_bytes)
    if uring.fd >= 0:
        close(uring.fd)
    memset(uring, 0, sizeof(Uring))
    uring.fd = -1


# NULL with errno set on failure.
cdef inline void* uring_map(int fd, size_t length, int64_t offset) noexcept nogil:
    cdef void* address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)
    if address == MAP_FAILED:
        return NULL
    madvise(address, length, MADV_DONTFORK)
    return address


# 0, or a negative errno: ENOSYS, EPERM (seccomp, the sysctl io_uring_disabled), ENOMEM, EMFILE, ...
cdef inline int uring_open(Uring* uring) noexcept nogil:
    cdef UringParams params
    cdef size_t sq_bytes, cq_bytes
    cdef int result
    kernel_assert(sizeof(UringRequest) == 64 and sizeof(UringCompletion) == 16 and sizeof(UringParams) == 120)
    memset(uring, 0, sizeof(Uring))
    memset(&params, 0, sizeof(UringParams))
    params.flags = SETUP_CLAMP
    uring.fd = -1
    result = io_uring_setup(URING_ENTRIES, &params)
    if result < 0:
        return result
    uring.fd = result
    if not params.features & FEAT_SINGLE_MMAP:
        uring_close(uring, True)
        return -ENOSYS              # a kernel from before Linux 5.4, which has no futexes there
    sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t)
    cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(UringCompletion)
    uring.rings_bytes = sq_bytes if sq_bytes > cq_bytes else cq_bytes
    uring.entries_bytes = params.sq_entries * sizeof(UringRequest)
    uring.rings = <char*> uring_map(uring.fd, uring.rings_bytes, OFF_SQ_RING)
    if uring.rings != NULL:
        uring.entries = <UringRequest*> uring_map(uring.fd, uring.entries_bytes, OFF_SQES)
    if uring.entries == NULL:
        result = -errno
        uring_close(uring, True)
        return result
    uring.sq_tail = <u32*> (uring.rings + params.sq_off.tail)
    uring.sq_array = <uint32_t*> (uring.rings + params.sq_off.array)
    uring.sq_mask = params.sq_entries - 1
    uring.cq_head = <u32*> (uring.rings + params.cq_off.head)
    uring.cq_tail = <u32*> (uring.rings + params.cq_off.tail)
    uring.cqes = <UringCompletion*> (uring.rings + params.cq_off.cqes)
    uring.cq_mask = params.cq_entries - 1
    return 0


# The next request to fill in. The caller queues fewer than there are places between two submits.
cdef inline UringRequest* uring_queue(Uring* uring, uint8_t opcode, uint64_t user_data) noexcept nogil:
    # Relaxed: only we write it.
    cdef uint32_t tail = load_relaxed_u32(uring.sq_tail)
    cdef uint32_t index = tail & uring.sq_mask
    cdef UringRequest* entry = &uring.entries[index]
    memset(entry, 0, sizeof(UringRequest))
    entry.opcode = opcode
    entry.fd = -1
    entry.user_data = user_data
    uring.sq_array[index] = index
    # sync: uring-request (release). What lies in the queue comes before its tail. The rest of the request is filled in after it:
    # the kernel reads the queue inside the system call of this thread that follows.
    store_release_u32(uring.sq_tail, tail + 1)
    uring.queued += 1
    return entry


# Completes at once, and so makes the descriptor readable.
cdef inline void uring_nop(Uring* uring, uint64_t user_data) noexcept nogil:
    uring_queue(uring, OP_NOP, user_data)


# Completes when the word is woken (0), or at once if it differs from `expected` (-EAGAIN).
cdef inline void uring_futex_wait(Uring* uring, u32* word, uint32_t expected, uint64_t user_data) noexcept nogil:
    cdef UringRequest* entry = uring_queue(uring, OP_FUTEX_WAIT, user_data)
    entry.fd = FUTEX2_SIZE_U32
    entry.addr = <uintptr_t> word
    entry.off = expected
    entry.addr3 = 0xffffffff


# Completes at that time of CLOCK_MONOTONIC (-ETIME); or, if it `moves`, changes the time of the one under that user_data. One for
# each submit.
cdef inline void uring_timer(Uring* uring, int64_t until_ns, uint64_t user_data, bint moves, uint64_t mover_data) noexcept nogil:
    cdef UringRequest* entry
    uring.time[0] = until_ns // 1000000000
    uring.time[1] = until_ns % 1000000000
    if moves:
        entry = uring_queue(uring, OP_TIMEOUT_REMOVE, mover_data)
        entry.op_flags = TIMEOUT_ABS | TIMEOUT_UPDATE
        entry.addr = user_data
        entry.off = <uintptr_t> &uring.time[0]
    else:
        entry = uring_queue(uring, OP_TIMEOUT, user_data)
        entry.op_flags = TIMEOUT_ABS
        entry.addr = <uintptr_t> &uring.time[0]
        entry.len = 1


# The request under that user_data completes: with -ECANCELED, unless it was done. So does this one.
cdef inline void uring_cancel(Uring* uring, uint64_t target, uint64_t user_data) noexcept nogil:
    uring_queue(uring, OP_ASYNC_CANCEL, user_data).addr = target


# Hands all that was queued to the kernel, in one call. 0, or a negative errno.
cdef inline int uring_submit(Uring* uring) noexcept nogil:
    cdef int result
    while uring.queued:
        result = io_uring_enter(uring.fd, uring.queued)
        if result < 0 and result != -EINTR:
            return result
        if result > 0:
            uring.queued -= <uint32_t> result
    return 0


# The next completion that was not looked at: 1; or 0: there is none.
cdef inline bint uring_next(Uring* uring, uint64_t* user_data, int* result) noexcept nogil:
    cdef UringCompletion* completion
    # sync: uring-completion (acquire). What the kernel wrote before it moved the tail is visible.
    if uring.seen == load_acquire_u32(uring.cq_tail):
        return False
    completion = &uring.cqes[uring.seen & uring.cq_mask]
    user_data[0] = completion.user_data
    result[0] = completion.result
    uring.seen += 1
    return True


# Takes away what was looked at: the descriptor is not readable any more, unless more has come.
cdef inline void uring_quiet(Uring* uring) noexcept nogil:
    # sync: uring-room (release). The completions were read before the kernel may write over them.
    store_release_u32(uring.cq_head, uring.seen)


# Relaxed: no completion is read because of it, and the head is what only we write.
cdef inline bint uring_is_readable(const Uring* uring) noexcept nogil:
    return load_relaxed_u32(uring.cq_tail) != load_relaxed_u32(uring.cq_head)


# Does this kernel, and whoever filters its calls, let this process wait for futexes in that way? 0, or a negative errno.
cdef inline int uring_probe() noexcept nogil:
    cdef Uring uring
    cdef u32 word
    cdef uint64_t user_data
    cdef int result = uring_open(&uring)
    if result != 0:
        return result
    # Relaxed: nobody else knows the word but the kernel, inside the call of this thread.
    store_relaxed_u32(&word, 1)
    uring_futex_wait(&uring, &word, 2, 0)
    result = uring_submit(&uring)
    if result == 0 and (not uring_next(&uring, &user_data, &result) or result == -EAGAIN):
        result = 0                  # else -EINVAL: it does not know the request
    uring_close(&uring, True)
    return result
