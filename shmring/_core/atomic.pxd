# Shared words. Declared without members, so that only these functions can read or write them.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "shmring/atomic.h" nogil:
    ctypedef struct u16 "shmring_u16":
        pass
    ctypedef struct u32 "shmring_u32":
        pass
    ctypedef struct u64 "shmring_u64":
        pass

    uint16_t load_relaxed_u16 "shmring_load_relaxed_u16" (const u16* word) noexcept
    void store_relaxed_u16 "shmring_store_relaxed_u16" (u16* word, uint16_t value) noexcept

    uint32_t load_relaxed_u32 "shmring_load_relaxed_u32" (const u32* word) noexcept
    uint32_t load_acquire_u32 "shmring_load_acquire_u32" (const u32* word) noexcept
    void store_relaxed_u32 "shmring_store_relaxed_u32" (u32* word, uint32_t value) noexcept
    void store_release_u32 "shmring_store_release_u32" (u32* word, uint32_t value) noexcept
    uint32_t add_u32 "shmring_add_u32" (u32* word, uint32_t value) noexcept

    uint64_t load_relaxed_u64 "shmring_load_relaxed_u64" (const u64* word) noexcept
    uint64_t load_acquire_u64 "shmring_load_acquire_u64" (const u64* word) noexcept
    void store_relaxed_u64 "shmring_store_relaxed_u64" (u64* word, uint64_t value) noexcept
    void store_release_u64 "shmring_store_release_u64" (u64* word, uint64_t value) noexcept
    uint64_t add_u64 "shmring_add_u64" (u64* word, uint64_t value) noexcept
    int cas_u64 "shmring_cas_u64" (u64* word, uint64_t expected, uint64_t desired) noexcept
    int cas_pair "shmring_cas_pair" (u64* pair, uint64_t old0, uint64_t old1, uint64_t new0, uint64_t new1) noexcept
    uint64_t or_u64 "shmring_or_u64" (u64* word, uint64_t bits) noexcept
    uint64_t and_u64 "shmring_and_u64" (u64* word, uint64_t bits) noexcept

    void fence_full "shmring_fence_full" () noexcept
    void fence_release "shmring_fence_release" () noexcept
    void fence_acquire "shmring_fence_acquire" () noexcept
    void fence_compiler "shmring_fence_compiler" () noexcept
    void count "shmring_count" (volatile unsigned int* counter) noexcept
    void kernel_assert "shmring_assert" (bint holds) noexcept
    bint seldom "shmring_seldom" (bint condition) noexcept
    void pause "shmring_pause" () noexcept
    void prefetch "shmring_prefetch" (const void* address) noexcept
