/* The messages: a pool of a few different ones, sent round and round; both sides build the same pool.
 *
 * Message k: bytes 0-7 are k, the rest is a xorshift sequence seeded by k.
 */
#pragma once
#include "process.h"

struct pool {
    unsigned char *bytes;
    uint64_t count, size;
};

static inline struct pool pool_build(uint64_t count, uint64_t size)
{
    struct pool pool = {malloc(count * size), count, size};
    if (!pool.bytes)
        fail("malloc");
    for (uint64_t k = 0; k < count; k++) {
        uint64_t x = (k + 1) * 0x9e3779b97f4a7c15u;
        unsigned char *message = pool.bytes + k * size;
        for (uint64_t i = 0; i < size; i++) {
            if (i % 8 == 0) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
            }
            message[i] = (unsigned char)(i < 8 ? k >> (8 * i) : x >> (8 * (i % 8)));
        }
    }
    return pool;
}

static inline const unsigned char *pool_message(const struct pool *pool, uint64_t k)
{
    return pool->bytes + k * pool->size;
}

/* Spoils one byte of the sender's copy of message 1, to see the receiver's check fail. */
static inline void pool_spoil(struct pool *pool)
{
    pool->bytes[(pool->count > 1 ? pool->size : 0) + pool->size - 1] ^= 0x40;
}
