/* libFuzzer's way into kernel_target.pyx: no Python runs. Says at the end how much was done. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void fuzz_one(const uint8_t *data, size_t size);
void fuzz_counts(uint64_t *counts);

static void report(void)
{
    uint64_t counts[3];
    fuzz_counts(counts);
    fprintf(stderr, "fuzzed: %llu inputs, %llu mutations, %llu acts\n", (unsigned long long)counts[0],
            (unsigned long long)counts[1], (unsigned long long)counts[2]);
}

extern int shmring_keeps_still;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    shmring_keeps_still = 1;
    atexit(report);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size)
        fuzz_one(data, size);
    return 0;
}
