/* The smallest honest ring: one producer, one consumer, records of any length, nothing else.
 *
 *   file:  | tail, 128 B | head, 128 B | rest of the page | data area, a power of two |
 *   mapped: page 0, then the data area twice in a row, so that every record is contiguous.
 *   record: 16-byte header (position, length), payload, rounded up to 16.
 *
 * Two variants, chosen at compile time by a constant argument:
 *   LAMPORT  reads the other side's index at every operation, as in Lamport's paper;
 *   CACHED   keeps the last value it read and reads again only when that one says full or empty.
 * No validation, no liveness, no parking, no groups: what the machine allows, not what a program should use.
 */
#pragma once
#include <stdatomic.h>

#include "process.h"

enum { LAMPORT = 0, CACHED = 1 };
enum { PAGE = 4096, HEADER = 16 };

struct shared {
    _Alignas(128) _Atomic uint64_t tail; /* written by the producer only */
    _Alignas(128) _Atomic uint64_t head; /* written by the consumer only */
};

struct record {
    uint64_t position;
    uint32_t length;
    uint32_t unused;
    unsigned char payload[];
};

/* One side's private view of a ring. `mine` is my own index, `theirs` the last value seen of the other one. */
struct side {
    struct shared *shared;
    unsigned char *data;
    uint64_t capacity, mask, mine, theirs;
};

static inline struct side ring_attach(const char *path, uint64_t capacity)
{
    int fd = open_segment(path);
    unsigned char *base = mmap(NULL, PAGE + 2 * capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        fail("mmap");
    const int rights = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    if (mmap(base, PAGE + capacity, rights, flags, fd, 0) == MAP_FAILED)
        fail("mmap");
    if (mmap(base + PAGE + capacity, capacity, rights, flags, fd, PAGE) == MAP_FAILED)
        fail("mmap");
    close(fd);
    return (struct side){(struct shared *)base, base + PAGE, capacity, capacity - 1, 0, 0};
}

static inline uint64_t span_of(uint32_t length)
{
    return HEADER + (((uint64_t)length + 15) & ~(uint64_t)15);
}

/* Room for one record; spins while the ring is full. */
static inline __attribute__((always_inline)) struct record *ring_reserve(struct side *s, uint32_t length, int index)
{
    const uint64_t end = s->mine + span_of(length);
    if (index == LAMPORT)
        s->theirs = atomic_load_explicit(&s->shared->head, memory_order_acquire);
    while (end - s->theirs > s->capacity) {
        relax();
        s->theirs = atomic_load_explicit(&s->shared->head, memory_order_acquire);
    }
    struct record *record = (struct record *)(s->data + (s->mine & s->mask));
    record->position = s->mine;
    record->length = length;
    return record;
}

/* sync: native-record (release). Publishes header and payload; pairs with the acquire in ring_peek. */
static inline __attribute__((always_inline)) void ring_publish(struct side *s, uint32_t length)
{
    s->mine += span_of(length);
    atomic_store_explicit(&s->shared->tail, s->mine, memory_order_release);
}

/* The next record; spins while the ring is empty. */
static inline __attribute__((always_inline)) const struct record *ring_peek(struct side *s, int index)
{
    if (index == LAMPORT)
        s->theirs = atomic_load_explicit(&s->shared->tail, memory_order_acquire);
    while (s->theirs == s->mine) {
        relax();
        s->theirs = atomic_load_explicit(&s->shared->tail, memory_order_acquire);
    }
    return (const struct record *)(s->data + (s->mine & s->mask));
}

/* sync: native-room (release). Lets the producer overwrite what was read; pairs with the acquire in ring_reserve. */
static inline __attribute__((always_inline)) void ring_release(struct side *s, uint32_t length)
{
    s->mine += span_of(length);
    atomic_store_explicit(&s->shared->head, s->mine, memory_order_release);
}

static inline __attribute__((always_inline)) void ring_send(struct side *s, const void *from, uint32_t length, int index)
{
    struct record *record = ring_reserve(s, length, index);
    memcpy(record->payload, from, length);
    ring_publish(s, length);
}

static inline __attribute__((always_inline)) uint32_t ring_recv(struct side *s, void *to, int index)
{
    const struct record *record = ring_peek(s, index);
    const uint32_t length = record->length;
    memcpy(to, record->payload, length);
    ring_release(s, length);
    return length;
}
