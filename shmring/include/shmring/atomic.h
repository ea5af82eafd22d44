/* Shared words and the only ways to touch them.
 *
 * A word that several processes use is wrapped into a struct of one member, so that plain C (or Cython) cannot read or write
 * it by accident: `head->tail + 1` does not compile. Every access names its ordering. The builtins are those of GCC and Clang
 * (C11 semantics); all words are naturally aligned, so each access is one instruction and works across processes.
 *
 *   load_relaxed / store_relaxed   the value alone; says nothing about other words
 *   load_acquire                   later accesses of this thread happen after the load
 *   store_release                  earlier accesses of this thread are visible to who acquires the stored value
 *   cas, add, or, and              read-modify-write, sequentially consistent
 *   cas_pair                       the same for two neighbouring words at once, aligned to 16 bytes
 *   fence_full                     earlier stores become visible before later loads are made
 *   fence_release                  earlier accesses are made before later stores become visible; costs nothing on x86
 *   fence_acquire                  earlier loads are made before later accesses; costs nothing on x86
 *   fence_compiler                 the compiler keeps the order; the processor may not
 */
#ifndef SHMRING_ATOMIC_H
#define SHMRING_ATOMIC_H

#include <stdint.h>

typedef struct { uint16_t value; } shmring_u16;
typedef struct { uint32_t value; } shmring_u32;
typedef struct { uint64_t value; } shmring_u64;

_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "64-bit words must be lock-free to be shared");

#define SHMRING_DEFINE_WORD(BITS)                                                                                             \
    static inline uint##BITS##_t shmring_load_relaxed_u##BITS(const shmring_u##BITS *word)                                    \
    { return __atomic_load_n(&word->value, __ATOMIC_RELAXED); }                                                               \
    static inline uint##BITS##_t shmring_load_acquire_u##BITS(const shmring_u##BITS *word)                                    \
    { return __atomic_load_n(&word->value, __ATOMIC_ACQUIRE); }                                                               \
    static inline void shmring_store_relaxed_u##BITS(shmring_u##BITS *word, uint##BITS##_t value)                             \
    { __atomic_store_n(&word->value, value, __ATOMIC_RELAXED); }                                                              \
    static inline void shmring_store_release_u##BITS(shmring_u##BITS *word, uint##BITS##_t value)                             \
    { __atomic_store_n(&word->value, value, __ATOMIC_RELEASE); }                                                              \
    static inline int shmring_cas_u##BITS(shmring_u##BITS *word, uint##BITS##_t expected, uint##BITS##_t desired)             \
    { return __atomic_compare_exchange_n(&word->value, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }          \
    static inline uint##BITS##_t shmring_add_u##BITS(shmring_u##BITS *word, uint##BITS##_t value)                             \
    { return __atomic_fetch_add(&word->value, value, __ATOMIC_SEQ_CST); }                                                     \
    static inline uint##BITS##_t shmring_or_u##BITS(shmring_u##BITS *word, uint##BITS##_t bits)                               \
    { return __atomic_fetch_or(&word->value, bits, __ATOMIC_SEQ_CST); }                                                       \
    static inline uint##BITS##_t shmring_and_u##BITS(shmring_u##BITS *word, uint##BITS##_t bits)                              \
    { return __atomic_fetch_and(&word->value, bits, __ATOMIC_SEQ_CST); }

SHMRING_DEFINE_WORD(16)
SHMRING_DEFINE_WORD(32)
SHMRING_DEFINE_WORD(64)
#undef SHMRING_DEFINE_WORD

/* Two words in one exchange. Every x86-64 processor of the last fifteen years has it (cmpxchg16b), aarch64 as a pair of exclusive
 * accesses or casp; the attribute lets it be compiled without a flag, which is then one call. */
typedef unsigned __int128 __attribute__((may_alias)) shmring_pair;

#if defined(__x86_64__)
__attribute__((target("cx16")))
#endif
static inline int shmring_cas_pair(shmring_u64 *pair, uint64_t expected0, uint64_t expected1, uint64_t desired0, uint64_t desired1)
{
    unsigned __int128 expected = (unsigned __int128)expected1 << 64 | expected0;
    unsigned __int128 desired = (unsigned __int128)desired1 << 64 | desired0;
    return __sync_bool_compare_and_swap((shmring_pair *)pair, expected, desired);
}

static inline void shmring_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void shmring_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void shmring_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void shmring_fence_compiler(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

/* One more of what a variable of this process counts. It is no shared word: whoever reads it does so plainly, as a hint. */
static inline void shmring_count(volatile unsigned *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELEASE); }

/* What must hold inside the kernel whatever others write into shared memory; compiled in by SHMRING_DEBUG=1 only. */
#ifdef SHMRING_DEBUG
#include <stdlib.h>
static inline void shmring_assert(int holds) { if (!holds) abort(); }
#else
static inline void shmring_assert(int holds) { (void)holds; }
#endif

/* A hint: `condition` is seldom true, so what follows goes out of the way of what does not. */
static inline int shmring_seldom(int condition) { return __builtin_expect(condition, 0); }

/* A hint: the line at `address` is read soon. Any address is allowed. */
static inline void shmring_prefetch(const void *address) { __builtin_prefetch(address); }

/* Tell the processor that this is a spin loop. */
static inline void shmring_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ __volatile__("isb" ::: "memory"); /* `yield` returns at once on most cores; `isb` waits about as long as x86 pause */
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

#endif
