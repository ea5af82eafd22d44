/* What each benchmark process does around its loop: read options, map the segment, pin itself, wait for the start.
 *
 * Protocol with the harness, the same as the Python workers': print "ready", wait for a line, run, print one JSON line.
 */
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Options are name=value words. A missing one without a default is a mistake of the caller. */
static inline const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return argv[i] + n + 1;
    if (!otherwise) {
        fprintf(stderr, "missing option %s=\n", name);
        exit(2);
    }
    return otherwise;
}

static inline uint64_t number(int argc, char **argv, const char *name, const char *otherwise)
{
    return strtoull(option(argc, argv, name, otherwise), NULL, 10);
}

/* CLOCK_MONOTONIC is one clock for all processes: a time taken in one may be subtracted from a time taken in the other. */
static inline uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void pin_to(const char *cpu)
{
    if (!*cpu)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("sched_setaffinity");
}

static inline void wait_for_start(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(1);
}

/* The harness has made the file with its final size, all zero. */
static inline int open_segment(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    return fd;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
