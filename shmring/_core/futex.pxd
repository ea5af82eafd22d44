# System calls: 0 or a count, or a negative errno. See include/shmring/futex.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport u32

cdef extern from "shmring/futex.h" nogil:
    ctypedef struct Waitv "struct shmring_waitv":
        uint64_t value
        uint64_t address
        uint32_t flags
        uint32_t reserved

    const uint32_t FUTEX2_SIZE_U32 "SHMRING_FUTEX2_SIZE_U32"
    const unsigned WAITV_MAX "SHMRING_WAITV_MAX"

    int64_t now_ns "shmring_now_ns" () noexcept
    int futex_wait "shmring_futex_wait" (u32* word, uint32_t expected, int64_t until_ns) noexcept  # [W5]: doorbell.pml
    int futex_waitv "shmring_futex_waitv" (Waitv* waiters, unsigned count, int64_t until_ns) noexcept
    int futex_wake "shmring_futex_wake" (u32* word, int count) noexcept
    int io_uring_setup "shmring_io_uring_setup" (unsigned entries, void* params) noexcept
    int io_uring_enter "shmring_io_uring_enter" (int fd, unsigned count) noexcept
    void yield_slice "shmring_yield" () noexcept
    void sleep_until "shmring_sleep_until" (int64_t until_ns) noexcept
    int is_confined_to "shmring_is_confined_to" (int pid, int cpu) noexcept
    int membarrier_register "shmring_membarrier_register" () noexcept
    int membarrier "shmring_membarrier" () noexcept
    int lock_byte "shmring_lock_byte" (int fd, int64_t offset, int wait) noexcept
    int unlock_all "shmring_unlock_all" (int fd) noexcept
    int byte_is_locked "shmring_byte_is_locked" (int fd, int64_t offset) noexcept
