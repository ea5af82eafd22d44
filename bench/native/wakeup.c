/* A consumer parked in a bare futex: how long until it runs after a post, and what its wait costs in CPU.
 *
 * The producer sleeps idle_ns before every post and prints the times of the posts; the consumer prints the times at which it
 * had the payload. The harness subtracts.
 */
#include "mailbox.h"
#include "message.h"

int main(int argc, char **argv)
{
    const int producing = strcmp(option(argc, argv, "role", NULL), "producer") == 0;
    const uint64_t count = number(argc, argv, "count", NULL), idle = number(argc, argv, "idle_ns", "5000000");
    pin_to(option(argc, argv, "cpu", ""));
    struct mailbox *box = mailbox_attach(option(argc, argv, "path", NULL));
    _Atomic uint32_t *taken = &box[1].word; /* how many the consumer has had: a mailbox has no room for two */
    struct pool pool = pool_build(number(argc, argv, "pool", "61"), MAIL);
    uint64_t *stamps = calloc(count, sizeof *stamps), wrong = 0;
    if (!stamps)
        fail("calloc");
    if (producing && number(argc, argv, "spoil", "0"))
        pool_spoil(&pool);
    wait_for_start();

    const uint64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t i = 0; i < count; i++) {
        unsigned char got[MAIL];
        const unsigned char *message = pool_message(&pool, i % pool.count);
        if (producing) {
            struct timespec pause = {(time_t)(idle / 1000000000u), (long)(idle % 1000000000u)};
            do
                nanosleep(&pause, NULL);
            while (atomic_load_explicit(taken, memory_order_acquire) != (uint32_t)i);
            stamps[i] = now_ns(CLOCK_MONOTONIC);
            mailbox_post(box, (uint32_t)i + 1, message, 1);
        } else {
            mailbox_take(box, (uint32_t)i + 1, got, 1);
            stamps[i] = now_ns(CLOCK_MONOTONIC);
            atomic_store_explicit(taken, (uint32_t)i + 1, memory_order_release);
            wrong += memcmp(got, message, MAIL) != 0;
        }
    }
    const uint64_t end = now_ns(CLOCK_MONOTONIC), cpu_end = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    printf("{\"start_ns\": %lu, \"end_ns\": %lu, \"cpu_ns\": %lu, \"count\": %lu, \"wrong\": %lu, \"stamps_ns\": [", start,
           end, cpu_end - cpu, count, wrong);
    for (uint64_t i = 0; i < count; i++)
        printf(i ? ", %lu" : "%lu", stamps[i]);
    puts("]}");
    return 0;
}
