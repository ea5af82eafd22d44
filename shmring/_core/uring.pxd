# A descriptor that becomes readable when a futex is woken: 0 or a count, or a negative errno. See include/shmring/uring.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport u32

cdef extern from "shmring/uring.h" nogil:
    ctypedef struct Uring "struct shmring_uring":
        int fd

    int uring_probe "shmring_uring_probe" () noexcept
    int uring_open "shmring_uring_open" (Uring* uring) noexcept
    void uring_close "shmring_uring_close" (Uring* uring, bint is_mine) noexcept
    void uring_nop "shmring_uring_nop" (Uring* uring, uint64_t user_data) noexcept
    void uring_futex_wait "shmring_uring_futex_wait" (Uring* uring, u32* word, uint32_t expected, uint64_t user_data) noexcept
    void uring_timer "shmring_uring_timer" (Uring* uring, int64_t until_ns, uint64_t user_data, bint moves, uint64_t mover) noexcept
    void uring_cancel "shmring_uring_cancel" (Uring* uring, uint64_t target, uint64_t user_data) noexcept
    int uring_submit "shmring_uring_submit" (Uring* uring) noexcept
    bint uring_next "shmring_uring_next" (Uring* uring, uint64_t* user_data, int* result) noexcept
    void uring_quiet "shmring_uring_quiet" (Uring* uring) noexcept
    bint uring_is_readable "shmring_uring_is_readable" (const Uring* uring) noexcept
