"""Another clock for a process: a library that is loaded before libc and answers for it. Needs a C compiler."""

from __future__ import annotations

import shutil
import subprocess

import pytest

# SHMRING_REALTIME=jump: the time of day is a year off, back and forth, at every look.
# SHMRING_MONOTONIC=FACTOR: the time since boot runs that much faster; sleeps that are given in it are that much shorter.
SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <linux/futex.h>

long syscall(long number, ...);

static long long factor = 1, began;
static int jumps;
static unsigned looks;

static long long real_ns(clockid_t clock)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    struct timespec now;
    real(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

__attribute__((constructor)) static void start(void)
{
    const char *text = getenv("SHMRING_MONOTONIC");
    if (text) factor = atoll(text);
    jumps = getenv("SHMRING_REALTIME") != 0;
    began = real_ns(CLOCK_MONOTONIC);
}

int clock_gettime(clockid_t clock, struct timespec *result)
{
    long long now = real_ns(clock);
    if (clock == CLOCK_MONOTONIC) now = began + (now - began) * factor;
    if (clock == CLOCK_REALTIME && jumps) now += (looks++ % 2 ? 1 : -1) * 31536000ll * 1000000000;
    result->tv_sec = now / 1000000000;
    result->tv_nsec = now % 1000000000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *result, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}

static struct timespec outside(const struct timespec *inside)       /* of CLOCK_MONOTONIC, as the kernel knows it */
{
    long long ns = began + (inside->tv_sec * 1000000000ll + inside->tv_nsec - began) / factor;
    struct timespec result = {ns / 1000000000, ns % 1000000000};
    return result;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    struct timespec changed = *until;
    if (clock == CLOCK_MONOTONIC && flags & TIMER_ABSTIME) changed = outside(until);
    long result = syscall(SYS_clock_nanosleep, clock, flags, &changed, left);
    return result < 0 ? 4 : 0;
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long a[6];
    struct timespec changed;
    va_list words;
    va_start(words, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(words, long);
    va_end(words);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && a[3]) {
        changed = outside((const struct timespec *)a[3]);
        a[3] = (long)&changed;
    }
    if (number == 449 && a[3] && a[4] == CLOCK_MONOTONIC) {         /* futex_waitv */
        changed = outside((const struct timespec *)a[3]);
        a[3] = (long)&changed;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
"""


@pytest.fixture(scope="session")
def clock_library(tmp_path_factory):
    """The library's path, for LD_PRELOAD."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build another clock with: install gcc")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(SOURCE)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c", "-ldl"], check=True)
    return folder / "clock.so"
