/* One-way throughput through the minimal ring.
 *
 *   work=copy       payload copied in from a pool and out into a private buffer. The consumer compares the first eight
 *                   bytes of every message; during warm-up, and for every 256th message, all of it.
 *   work=array      the producer fills float32 values in place, the consumer sums them in place,
 *                   as 64-bit words.
 *   work=untouched  header only: what reserve/publish and peek/release cost by themselves.
 */
#include "message.h"
#include "ring.h"

enum { COPY, ARRAY, UNTOUCHED };

struct job {
    struct side ring;
    struct pool pool;
    unsigned char *buffer;
    uint64_t next, size, wrong; /* next: index into the pool */
    uint64_t spoiled;           /* the array that a test fills with a wrong value; none if 0 */
};

static float value_of(uint64_t i)
{
    return (float)(i % 97 + 1);
}

typedef float lanes __attribute__((vector_size(16), aligned(16)));

static void fill(void *at, uint64_t bytes, float value)
{
    lanes *out = at, v = {value, value, value, value};
    for (uint64_t i = 0; i < bytes / sizeof v; i++)
        out[i] = v;
}

/* As 64-bit words: exact in any order, and fast enough for memory to be the limit. */
static uint64_t sum(const void *at, uint64_t bytes)
{
    const uint64_t *in = at;
    uint64_t total = 0;
    for (uint64_t i = 0; i < bytes / sizeof *in; i++)
        total += in[i];
    return total;
}

static uint64_t expected_sum(uint64_t i, uint64_t bytes)
{
    const float value = value_of(i);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (((uint64_t)bits << 32) | bits) * (bytes / 8);
}

static inline __attribute__((always_inline)) void produce(struct job *job, uint64_t count, int work, int index)
{
    for (uint64_t i = 0; i < count; i++) {
        if (work == COPY) {
            ring_send(&job->ring, pool_message(&job->pool, job->next), (uint32_t)job->size, index);
            if (++job->next == job->pool.count)
                job->next = 0;
            continue;
        }
        struct record *record = ring_reserve(&job->ring, (uint32_t)job->size, index);
        if (work == ARRAY)
            fill(record->payload, job->size, value_of(i + (i && i == job->spoiled)));
        ring_publish(&job->ring, (uint32_t)job->size);
    }
}

static inline __attribute__((always_inline)) void consume(struct job *job, uint64_t count, int work, int index, int all)
{
    for (uint64_t i = 0; i < count; i++) {
        if (work == COPY) {
            const unsigned char *expected = pool_message(&job->pool, job->next);
            const uint32_t length = ring_recv(&job->ring, job->buffer, index);
            job->wrong += length != job->size || memcmp(job->buffer, expected, 8) != 0;
            if (all || i % 256 == 255)
                job->wrong += memcmp(job->buffer, expected, job->size) != 0;
            if (++job->next == job->pool.count)
                job->next = 0;
            continue;
        }
        const struct record *record = ring_peek(&job->ring, index);
        const uint32_t length = record->length;
        if (work == ARRAY)
            job->wrong += sum(record->payload, length) != expected_sum(i, length);
        else
            job->wrong += length != job->size;
        ring_release(&job->ring, length);
    }
}

/* One specialised loop per combination, as a program written for one of them would have. */
static void run(struct job *job, int producing, uint64_t count, int work, int index, int all)
{
#define CASE(W, I)                                                \
    if (work == W && index == I) {                                \
        producing ? produce(job, count, W, I) : consume(job, count, W, I, all); \
        return;                                                   \
    }
    CASE(COPY, LAMPORT) CASE(COPY, CACHED) CASE(ARRAY, LAMPORT) CASE(ARRAY, CACHED)
    CASE(UNTOUCHED, LAMPORT) CASE(UNTOUCHED, CACHED)
}

int main(int argc, char **argv)
{
    const int producing = strcmp(option(argc, argv, "role", NULL), "producer") == 0;
    const int index = strcmp(option(argc, argv, "index", "cached"), "lamport") == 0 ? LAMPORT : CACHED;
    const char *name = option(argc, argv, "work", "copy");
    const int work = strcmp(name, "array") == 0 ? ARRAY : strcmp(name, "untouched") == 0 ? UNTOUCHED : COPY;
    const uint64_t count = number(argc, argv, "count", NULL), warmup = number(argc, argv, "warmup", "0");
    pin_to(option(argc, argv, "cpu", ""));

    struct job job = {.size = number(argc, argv, "size", NULL)};
    job.ring = ring_attach(option(argc, argv, "path", NULL), number(argc, argv, "capacity", NULL));
    if (work == COPY) {
        job.pool = pool_build(number(argc, argv, "pool", "61"), job.size);
        job.buffer = malloc(job.size + 64);
        if (!job.buffer)
            fail("malloc");
        if (producing && number(argc, argv, "spoil", "0"))
            pool_spoil(&job.pool);
    }
    job.spoiled = number(argc, argv, "spoil", "0");
    run(&job, producing, warmup, work, index, 1);
    wait_for_start();

    const uint64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(&job, producing, count, work, index, 0);
    const uint64_t end = now_ns(CLOCK_MONOTONIC), cpu_end = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    printf("{\"start_ns\": %lu, \"end_ns\": %lu, \"cpu_ns\": %lu, \"count\": %lu, \"wrong\": %lu}\n", start, end,
           cpu_end - cpu, count, job.wrong);
    return 0;
}
