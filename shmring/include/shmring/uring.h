/* One small io_uring: a descriptor that becomes readable when a futex is woken or a time comes. For _core/uring.pxd.
 *
 * What is used of io_uring: FUTEX_WAIT (Linux 6.7), TIMEOUT, ASYNC_CANCEL, NOP; all of them are submitted by the call that
 * queues them last (shmring_uring_submit) and never waited for. The descriptor is readable while completions lie in the queue:
 * shmring_uring_next only looks at them, shmring_uring_quiet takes those away that were looked at.
 *
 * Not shared between processes: the queues are not inherited by a forked child (MADV_DONTFORK), which has only the descriptor.
 * Whoever calls holds the GIL, so at most one thread of the process is in here. A completion is put into the queue by the thread
 * that submitted its request, on its way out of the kernel; if that thread ends, the kernel cancels the request.
 *
 * The structs are the kernel's (linux/io_uring.h), written out because the headers of many systems are older than FUTEX_WAIT.
 * Source: io_uring(7), io_uring_setup(2), io_uring_enter(2).
 */
#ifndef SHMRING_URING_H
#define SHMRING_URING_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shmring/atomic.h"
#include "shmring/futex.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#endif

#define SHMRING_URING_ENTRIES 8      /* requests that are queued at once: at most one of each kind */

enum {                               /* IORING_OP_ */
    SHMRING_OP_NOP = 0, SHMRING_OP_TIMEOUT = 11, SHMRING_OP_TIMEOUT_REMOVE = 12, SHMRING_OP_ASYNC_CANCEL = 14,
    SHMRING_OP_FUTEX_WAIT = 51
};
enum { SHMRING_TIMEOUT_ABS = 1 << 0, SHMRING_TIMEOUT_UPDATE = 1 << 1 };
enum { SHMRING_SETUP_CLAMP = 1 << 4, SHMRING_FEAT_SINGLE_MMAP = 1 << 0, SHMRING_OFF_SQES = 0x10000000 };

struct shmring_sqe {                 /* struct io_uring_sqe */
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;                      /* FUTEX_WAIT: flags of the futex */
    uint64_t off;                    /* FUTEX_WAIT: expected value; update of a TIMEOUT: its new time */
    uint64_t addr;                   /* FUTEX_WAIT: the word; TIMEOUT: its time; ASYNC_CANCEL and update: user_data of the request */
    uint32_t len, op_flags;
    uint64_t user_data;
    uint16_t buf_index, personality;
    int32_t file_index;
    uint64_t addr3;                  /* FUTEX_WAIT: mask */
    uint64_t reserved;
};
struct shmring_cqe {                 /* struct io_uring_cqe */
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};
struct shmring_uring_params {        /* struct io_uring_params */
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct { uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved; uint64_t user_addr; } sq_off;
    struct { uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved; uint64_t user_addr; } cq_off;
};
_Static_assert(sizeof(struct shmring_sqe) == 64 && sizeof(struct shmring_cqe) == 16, "the kernel's sizes");
_Static_assert(sizeof(struct shmring_uring_params) == 120, "the kernel's size");

struct shmring_uring {
    int fd;                          /* readable while there are completions; -1: not open */
    char *rings;                     /* both queues */
    size_t rings_bytes;
    struct shmring_sqe *entries;
    size_t entries_bytes;
    shmring_u32 *sq_tail, *cq_head, *cq_tail;
    uint32_t *sq_array;
    struct shmring_cqe *cqes;
    uint32_t sq_mask, cq_mask;
    uint32_t queued;                 /* requests that were not submitted yet */
    uint32_t seen;                   /* completions up to here were looked at */
    int64_t time[2];                 /* struct __kernel_timespec of a request that is queued */
};

/* Closes it; in a forked child only the descriptor. */
static inline void shmring_uring_close(struct shmring_uring *uring, int is_mine)
{
    if (is_mine && uring->entries)
        munmap(uring->entries, uring->entries_bytes);
    if (is_mine && uring->rings)
        munmap(uring->rings, uring->rings_bytes);
    if (uring->fd >= 0)
        close(uring->fd);
    memset(uring, 0, sizeof *uring);
    uring->fd = -1;
}

static inline void *shmring_uring_map(int fd, size_t bytes, int64_t offset)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
    if (address == MAP_FAILED)
        return NULL;
    madvise(address, bytes, MADV_DONTFORK);
    return address;
}

/* 0, or a negative errno: ENOSYS, EPERM (seccomp, the sysctl io_uring_disabled), ENOMEM, EMFILE, ... */
static inline int shmring_uring_open(struct shmring_uring *uring)
{
    struct shmring_uring_params params;
    size_t sq_bytes, cq_bytes;
    int error;
    memset(uring, 0, sizeof *uring);
    memset(&params, 0, sizeof params);
    params.flags = SHMRING_SETUP_CLAMP;
    uring->fd = (int)syscall(SYS_io_uring_setup, SHMRING_URING_ENTRIES, &params);
    if (uring->fd < 0)
        return -errno;
    if (!(params.features & SHMRING_FEAT_SINGLE_MMAP)) {
        shmring_uring_close(uring, 1);
        return -ENOSYS;              /* a kernel from before Linux 5.4, which has no futexes there */
    }
    sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct shmring_cqe);
    uring->rings_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    uring->entries_bytes = params.sq_entries * sizeof(struct shmring_sqe);
    uring->rings = shmring_uring_map(uring->fd, uring->rings_bytes, 0);
    uring->entries = uring->rings ? shmring_uring_map(uring->fd, uring->entries_bytes, SHMRING_OFF_SQES) : NULL;
    if (!uring->entries) {
        error = errno;
        shmring_uring_close(uring, 1);
        return -error;
    }
    uring->sq_tail = (shmring_u32 *)(uring->rings + params.sq_off.tail);
    uring->sq_array = (uint32_t *)(uring->rings + params.sq_off.array);
    uring->sq_mask = params.sq_entries - 1;
    uring->cq_head = (shmring_u32 *)(uring->rings + params.cq_off.head);
    uring->cq_tail = (shmring_u32 *)(uring->rings + params.cq_off.tail);
    uring->cqes = (struct shmring_cqe *)(uring->rings + params.cq_off.cqes);
    uring->cq_mask = params.cq_entries - 1;
    return 0;
}

/* The next request to fill in. The caller queues fewer than there are places between two submits. */
static inline struct shmring_sqe *shmring_uring_queue(struct shmring_uring *uring, uint8_t opcode, uint64_t user_data)
{
    uint32_t tail = shmring_load_relaxed_u32(uring->sq_tail), index = tail & uring->sq_mask;
    struct shmring_sqe *entry = &uring->entries[index];
    memset(entry, 0, sizeof *entry);
    entry->opcode = opcode;
    entry->fd = -1;
    entry->user_data = user_data;
    uring->sq_array[index] = index;
    /* The kernel reads the queue inside the system call of this thread that follows. */
    shmring_store_release_u32(uring->sq_tail, tail + 1);
    uring->queued++;
    return entry;
}

/* Completes at once, and so makes the descriptor readable. */
static inline void shmring_uring_nop(struct shmring_uring *uring, uint64_t user_data)
{
    shmring_uring_queue(uring, SHMRING_OP_NOP, user_data);
}

/* Completes when the word is woken (0), or at once if it differs from `expected` (-EAGAIN). */
static inline void shmring_uring_futex_wait(struct shmring_uring *uring, shmring_u32 *word, uint32_t expected, uint64_t user_data)
{
    struct shmring_sqe *entry = shmring_uring_queue(uring, SHMRING_OP_FUTEX_WAIT, user_data);
    entry->fd = SHMRING_FUTEX2_SIZE_U32;
    entry->addr = (uint64_t)(uintptr_t)word;
    entry->off = expected;
    entry->addr3 = 0xffffffff;
}

/* Completes at that time of CLOCK_MONOTONIC (-ETIME); or, if it `moves`, changes the time of the one under that user_data. One
 * for each submit. */
static inline void shmring_uring_timer(struct shmring_uring *uring, int64_t until_ns, uint64_t user_data, int moves,
                                       uint64_t mover_data)
{
    struct shmring_sqe *entry =
        shmring_uring_queue(uring, moves ? SHMRING_OP_TIMEOUT_REMOVE : SHMRING_OP_TIMEOUT, moves ? mover_data : user_data);
    uring->time[0] = until_ns / 1000000000;
    uring->time[1] = until_ns % 1000000000;
    entry->op_flags = SHMRING_TIMEOUT_ABS | (moves ? SHMRING_TIMEOUT_UPDATE : 0);
    if (moves) {
        entry->addr = user_data;
        entry->off = (uint64_t)(uintptr_t)uring->time;
    } else {
        entry->addr = (uint64_t)(uintptr_t)uring->time;
        entry->len = 1;
    }
}

/* The request under that user_data completes: with -ECANCELED, unless it was done. So does this one. */
static inline void shmring_uring_cancel(struct shmring_uring *uring, uint64_t target, uint64_t user_data)
{
    shmring_uring_queue(uring, SHMRING_OP_ASYNC_CANCEL, user_data)->addr = target;
}

/* Hands all that was queued to the kernel, in one call. 0, or a negative errno. */
static inline int shmring_uring_submit(struct shmring_uring *uring)
{
    while (uring->queued) {
        long result = syscall(SYS_io_uring_enter, uring->fd, uring->queued, 0, 0, NULL, 0);
        if (result < 0 && errno != EINTR)
            return -errno;
        if (result > 0)
            uring->queued -= (uint32_t)result;
    }
    return 0;
}

/* The next completion that was not looked at: 1; or 0: there is none. */
static inline int shmring_uring_next(struct shmring_uring *uring, uint64_t *user_data, int *result)
{
    /* What the kernel wrote before it moved the tail is visible. */
    if (uring->seen == shmring_load_acquire_u32(uring->cq_tail))
        return 0;
    *user_data = uring->cqes[uring->seen & uring->cq_mask].user_data;
    *result = uring->cqes[uring->seen & uring->cq_mask].result;
    uring->seen++;
    return 1;
}

/* Takes away what was looked at: the descriptor is not readable any more, unless more has come. */
static inline void shmring_uring_quiet(struct shmring_uring *uring)
{
    shmring_store_release_u32(uring->cq_head, uring->seen);
}

static inline int shmring_uring_is_readable(const struct shmring_uring *uring)
{
    return shmring_load_acquire_u32(uring->cq_tail) != shmring_load_relaxed_u32(uring->cq_head);
}

/* Does this kernel, and whoever filters its calls, let this process wait for futexes in that way? 0, or a negative errno. */
static inline int shmring_uring_probe(void)
{
    struct shmring_uring uring;
    shmring_u32 word = { 1 };
    uint64_t user_data;
    int result = shmring_uring_open(&uring);
    if (result)
        return result;
    shmring_uring_futex_wait(&uring, &word, 2, 0);
    result = shmring_uring_submit(&uring);
    if (!result && (!shmring_uring_next(&uring, &user_data, &result) || result == -EAGAIN))
        result = 0;                  /* else -EINVAL: it does not know the request */
    shmring_uring_close(&uring, 1);
    return result;
}

#endif
