/* memcpy bandwidth of one core, for scale: bytes copied per second from one private buffer to another. */
#include "process.h"

int main(int argc, char **argv)
{
    const uint64_t size = number(argc, argv, "size", NULL), count = number(argc, argv, "count", NULL);
    pin_to(option(argc, argv, "cpu", ""));
    unsigned char *from = malloc(size), *to = malloc(size);
    if (!from || !to)
        fail("malloc");
    memset(from, 1, size);
    memset(to, 2, size);
    wait_for_start();
    const uint64_t start = now_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < count; i++) {
        from[0] = (unsigned char)i;
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory"); /* the copy is read by someone the compiler cannot see */
    }
    const uint64_t end = now_ns(CLOCK_MONOTONIC);
    const uint64_t wrong = memcmp(to, from, size) != 0;
    printf("{\"start_ns\": %lu, \"end_ns\": %lu, \"count\": %lu, \"wrong\": %lu}\n", start, end, count, wrong);
    return 0;
}
