/* The Linux system calls of the kernel, each as one function that returns 0 (or a count) or a negative errno.
 *
 * Futexes are the shared kind (no FUTEX_PRIVATE_FLAG): the word is found by its page, so that processes which mapped it at
 * different addresses meet. Waits take an absolute CLOCK_MONOTONIC time in ns, so that a wait restarted after a signal keeps
 * its deadline.
 */
#ifndef SHMRING_FUTEX_H
#define SHMRING_FUTEX_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "shmring/atomic.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_io_uring_setup           /* missing from headers before Linux 5.1 */
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#endif
#define SHMRING_FUTEX2_SIZE_U32 0x02 /* FUTEX2_SIZE_U32 is missing from headers before Linux 5.16 */
#define SHMRING_WAITV_MAX 128        /* FUTEX_WAITV_MAX */

struct shmring_waitv {               /* struct futex_waitv, for the same reason */
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

static inline int64_t shmring_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline struct timespec shmring_timespec(int64_t ns)
{
    struct timespec time = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    return time;
}

/* Sleeps while *word == expected, until until_ns. 0: woken; -EAGAIN: changed already; -ETIMEDOUT; -EINTR: a signal. */
static inline int shmring_futex_wait(shmring_u32 *word, uint32_t expected, int64_t until_ns)
{
    struct timespec until = shmring_timespec(until_ns);
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return result < 0 ? -errno : 0;
}

/* Sleeps until one of the words differs from its value or is woken. The index of a woken one, or a negative errno. */
static inline int shmring_futex_waitv(struct shmring_waitv *waiters, unsigned count, int64_t until_ns)
{
    struct timespec until = shmring_timespec(until_ns);
    long result = syscall(SYS_futex_waitv, waiters, count, 0, &until, CLOCK_MONOTONIC);
    return result < 0 ? -errno : (int)result;
}

static inline int shmring_futex_wake(shmring_u32 *word, int count)
{
    long result = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return result < 0 ? -errno : (int)result;
}

/* An io_uring's descriptor, or a negative errno; `params` is a struct io_uring_params. */
static inline int shmring_io_uring_setup(unsigned entries, void *params)
{
    long result = syscall(SYS_io_uring_setup, entries, params);
    return result < 0 ? -errno : (int)result;
}

/* Hands queued requests over and waits for none. How many were taken, or a negative errno. */
static inline int shmring_io_uring_enter(int fd, unsigned count)
{
    long result = syscall(SYS_io_uring_enter, fd, count, 0, 0, NULL, 0);
    return result < 0 ? -errno : (int)result;
}

static inline void shmring_yield(void) { sched_yield(); }

/* Until then, or until a signal comes. */
static inline void shmring_sleep_until(int64_t until_ns)
{
    struct timespec until = shmring_timespec(until_ns);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* 1: the process (its main thread; 0: this thread) may run on that CPU and on no other; 0: elsewhere, too; negative errno. */
static inline int shmring_is_confined_to(int pid, int cpu)
{
    unsigned long mask[8192 / (8 * sizeof(unsigned long))];
    const int bits = 8 * sizeof *mask;
    long bytes = syscall(SYS_sched_getaffinity, pid, sizeof mask, mask);
    if (bytes < 0)
        return -errno;
    for (int word = 0; word < bytes / (long)sizeof *mask; word++)
        if (mask[word] != (word == cpu / bits ? 1ul << cpu % bits : 0))
            return 0;
    return 1;
}

/* The asymmetric fence of the doorbell. A process that notifies without a fence registers once; a waiter then makes every
 * running thread of every registered process pass a full fence. 0, or a negative errno where the kernel or a seccomp filter
 * refuses. */
static inline int shmring_membarrier_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

static inline int shmring_membarrier(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

/* One byte of a file as a lock that belongs to the open file description, so that it ends with its last descriptor: the
 * evidence of life. 0: mine; -EAGAIN or -EACCES: somebody else's; -EINTR when waiting. */
static inline int shmring_lock_byte(int fd, int64_t offset, int wait)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = offset;
    lock.l_len = 1;
    return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* Drop every lock of this open file description, for all who share it. */
static inline int shmring_unlock_all(int fd)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_UNLCK;
    lock.l_whence = SEEK_SET;
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* 1: another open file description holds the byte; 0: nobody else does; negative errno. */
static inline int shmring_byte_is_locked(int fd, int64_t offset)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = offset;
    lock.l_len = 1;
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

#endif
