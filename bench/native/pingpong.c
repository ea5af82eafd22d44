/* Round trips of one message between two processes.
 *
 *   wait=spin  through two minimal rings;
 *   wait=bare  through two mailboxes, spinning: the floor below any ring;
 *   wait=park  through two mailboxes, parked in a futex.
 *
 * Spinning, one clock reading per round trip, taken while the message is under way, as in the Python loops: a sample is the
 * time from one send to the next. Parked, each side is busy for think_ns before it sends, so that the other one is asleep by
 * then, and the answering side's pause is subtracted.
 */
#include "mailbox.h"
#include "message.h"
#include "ring.h"

enum { SPIN, BARE, PARK };

struct job {
    struct side there, back;
    struct mailbox *boxes;
    struct pool sent, expected; /* the same bytes, unless a test spoils what is sent */
    unsigned char buffer[65536];
    uint64_t *stamps, wrong, think;
    uint32_t size, turn;
};

static void stay_busy(uint64_t ns)
{
    const uint64_t until = now_ns(CLOCK_MONOTONIC) + ns;
    while (now_ns(CLOCK_MONOTONIC) < until)
        ;
}

static inline __attribute__((always_inline)) void ping(struct job *job, uint64_t count, int wait)
{
    uint64_t k = 0;
    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *message = pool_message(&job->sent, k);
        if (wait == SPIN) {
            ring_send(&job->there, message, job->size, CACHED);
            job->stamps[i] = now_ns(CLOCK_MONOTONIC);
            ring_recv(&job->back, job->buffer, CACHED);
        } else {
            if (wait == PARK)
                stay_busy(job->think);
            const uint64_t sent = now_ns(CLOCK_MONOTONIC);
            mailbox_post(&job->boxes[0], ++job->turn, message, wait == PARK);
            job->stamps[i] = sent;
            mailbox_take(&job->boxes[1], job->turn, job->buffer, wait == PARK);
            if (wait == PARK)
                job->stamps[i] = now_ns(CLOCK_MONOTONIC) - sent - job->think;
        }
        job->wrong += memcmp(job->buffer, pool_message(&job->expected, k), job->size) != 0;
        if (++k == job->sent.count)
            k = 0;
    }
}

static inline __attribute__((always_inline)) void pong(struct job *job, uint64_t count, int wait)
{
    for (uint64_t i = 0; i < count; i++) {
        if (wait == SPIN) {
            const uint32_t length = ring_recv(&job->there, job->buffer, CACHED);
            ring_send(&job->back, job->buffer, length, CACHED);
        } else {
            mailbox_take(&job->boxes[0], ++job->turn, job->buffer, wait == PARK);
            if (wait == PARK)
                stay_busy(job->think);
            mailbox_post(&job->boxes[1], job->turn, job->buffer, wait == PARK);
        }
    }
}

static void run(struct job *job, int producing, uint64_t count, int wait)
{
    if (wait == SPIN)
        producing ? ping(job, count, SPIN) : pong(job, count, SPIN);
    else if (wait == BARE)
        producing ? ping(job, count, BARE) : pong(job, count, BARE);
    else
        producing ? ping(job, count, PARK) : pong(job, count, PARK);
}

int main(int argc, char **argv)
{
    static struct job job;
    const int producing = strcmp(option(argc, argv, "role", NULL), "producer") == 0;
    const char *name = option(argc, argv, "wait", NULL);
    const int wait = strcmp(name, "spin") == 0 ? SPIN : strcmp(name, "bare") == 0 ? BARE : PARK;
    const uint64_t count = number(argc, argv, "count", NULL), warmup = number(argc, argv, "warmup", "0");
    pin_to(option(argc, argv, "cpu", ""));

    job.think = number(argc, argv, "think_ns", "0");
    job.size = (uint32_t)number(argc, argv, "size", "64");
    if (job.size > sizeof job.buffer || (wait != SPIN && job.size != MAIL)) {
        fprintf(stderr, "size %u is not possible here\n", job.size);
        return 2;
    }
    if (wait == SPIN) {
        const uint64_t capacity = number(argc, argv, "capacity", NULL);
        job.there = ring_attach(option(argc, argv, "path", NULL), capacity);
        job.back = ring_attach(option(argc, argv, "back", NULL), capacity);
    } else {
        job.boxes = mailbox_attach(option(argc, argv, "path", NULL));
    }
    job.sent = pool_build(number(argc, argv, "pool", "61"), job.size);
    job.expected = pool_build(job.sent.count, job.size);
    job.stamps = calloc((count > warmup ? count : warmup) + 1, sizeof *job.stamps);
    if (!job.stamps)
        fail("calloc");
    if (number(argc, argv, "spoil", "0"))
        pool_spoil(&job.sent);
    run(&job, producing, warmup, wait);
    wait_for_start();

    const uint64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(&job, producing, count, wait);
    const uint64_t end = now_ns(CLOCK_MONOTONIC), cpu_end = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    printf("{\"start_ns\": %lu, \"end_ns\": %lu, \"cpu_ns\": %lu, \"count\": %lu, \"wrong\": %lu, \"samples_ns\": [",
           start, end, cpu_end - cpu, count, job.wrong);
    for (uint64_t i = 1; producing && i < count; i++)
        printf(i > 1 ? ", %lu" : "%lu", wait == PARK ? job.stamps[i] : job.stamps[i] - job.stamps[i - 1]);
    puts("]}");
    return 0;
}
