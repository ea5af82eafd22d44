"""Turns the SIGBUS of a mapping whose file was cut into a flag, and leaves every other SIGBUS alone.

Owns: the process's SIGBUS action (from the first guarded mapping on), a chain of chunks of `Guard` entries that is
never freed, and `process_epoch`.

How the handler reads an entry that a thread may be changing: _core/guard.pxd.

What the handler does for an address of ours: put zeroed private pages from the faulting page to the end of that copy,
add to hits, bump the epoch, return; the interrupted instruction goes on and reads zeros. For any other address it does
what would have been done without us: default, ignore, or the handler that was there before.

Declined by SHMRING_SIGBUS=0 in the environment or `decline()`; touching a cut file then kills the process, as in C.

Source: sigaction(2), signal-safety(7), mmap(2); CPython Modules/faulthandler.c for what it does to a fatal signal.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc
from libc.string cimport memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, mmap
from posix.signal cimport sigaction, sigaction_t, siginfo_t, sigset_t

from shmring._core.atomic cimport u64
from shmring._core.guard cimport (
    Guard, guard_append, guard_count_epoch, guard_fill, guard_following, guard_hit, guard_read, guard_take,
)


cdef extern from * nogil:
    """
    #include <errno.h>
    #include <pthread.h>
    #include <signal.h>
    #include <sys/uio.h>
    #include <ucontext.h>
    #include <unistd.h>

    /* Where this thread last faulted so that a signal was sent; it stays in every later signal's frame. 0: unknown. */
    static inline uintptr_t shmring_last_fault(void *context) {
    #if defined(__x86_64__)
        return (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_CR2];
    #elif defined(__aarch64__)
        return (uintptr_t)((ucontext_t *)context)->uc_mcontext.fault_address;
    #else
        (void)context;
        return 0;
    #endif
    }
    /* Whether a byte of our own memory has no page: asked without touching it. */
    static inline int shmring_is_missing(uintptr_t address) {
        char byte;
        struct iovec local = {&byte, 1}, remote = {(void *)address, 1};
        return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1 && errno == EFAULT;
    }
    /* Cython's types for handlers require the GIL; these do not. */
    static inline void shmring_action_call(struct sigaction *action, int number, void *info, void *context) {
        if (action->sa_flags & SA_SIGINFO)
            action->sa_sigaction(number, (siginfo_t *)info, context);
        else
            action->sa_handler(number);
    }
    static inline int shmring_action_is_default(struct sigaction *action) { return action->sa_handler == SIG_DFL; }
    static inline int shmring_action_is_ignore(struct sigaction *action) { return action->sa_handler == SIG_IGN; }
    """
    uintptr_t shmring_last_fault(void* context) noexcept
    bint shmring_is_missing(uintptr_t address) noexcept
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)
    int pthread_sigmask(int how, const sigset_t* new, sigset_t* old)
    int sigemptyset(sigset_t* mask)
    int c_raise "raise" (int number) noexcept
    int getpid() noexcept
    int sigaction_quiet "sigaction" (int number, const sigaction_t* action, sigaction_t* old)
    void shmring_action_call(sigaction_t* action, int number, void* info, void* context) noexcept
    bint shmring_action_is_default(sigaction_t* action) noexcept
    bint shmring_action_is_ignore(sigaction_t* action) noexcept
    enum: BUS_ADRERR, SA_ONSTACK, SA_SIGINFO, SIGBUS, SIG_BLOCK, SIG_SETMASK, SI_TKILL


cdef enum:
    CHUNK = 64          # entries per chunk


cdef struct Chunk:
    u64 following               # address of the chunk after this one, or 0 (guard_append)
    Guard guards[CHUNK]


cdef Chunk first_chunk
cdef sigaction_t previous       # the action before ours; written before our handler can run
cdef volatile uintptr_t last_served     # the last address that the handler gave a page to; a hint, written by the handler
cdef bint is_installed = False
cdef bint is_declined = os.environ.get("SHMRING_SIGBUS") == "0"

memset(&first_chunk, 0, sizeof(first_chunk))
process_epoch = 1


# ---- the table -----------------------------------------------------------------------------------------------------

cdef Guard* guard_open() except? NULL:
    """Take an unused entry; NULL without an exception when the handler was declined. The entry stays odd (not yet
    seen by the handler) until guard_set."""
    cdef Chunk* chunk = &first_chunk
    cdef Chunk* fresh
    if is_declined:
        return NULL
    install()
    while True:
        for i in range(CHUNK):
            if guard_take(&chunk.guards[i]):
                return &chunk.guards[i]
        if guard_following(&chunk.following) == 0:
            fresh = <Chunk*>calloc(1, sizeof(Chunk))
            if fresh == NULL:
                raise MemoryError("no memory for the table of guarded mappings")
            if not guard_append(&chunk.following, <uintptr_t>fresh):
                pass    # another thread appended first; ours leaks once, which costs less than a lock
        chunk = <Chunk*>guard_following(&chunk.following)


cdef void guard_set(Guard* guard, uintptr_t start, uintptr_t length, int copies, uintptr_t page,
                    int prot) noexcept nogil:
    guard_fill(guard, start, length, copies, page, prot)


cdef void guard_close(Guard* guard) noexcept nogil:
    guard_fill(guard, 0, 0, 0, 1, 0)


# ---- the handler: async-signal-safe, no Python, no allocation, no lock ----------------------------------------------

cdef Guard* owner_of(uintptr_t address, Guard* copy) noexcept nogil:
    """The entry that covers the address, and in `copy` its fields as they were together; NULL when it is not ours."""
    cdef Chunk* chunk = &first_chunk
    cdef int i
    while chunk != NULL:
        for i in range(CHUNK):
            if not guard_read(&chunk.guards[i], copy):
                continue
            if copy.start != 0 and address - copy.start < copy.length * copy.copies:
                return &chunk.guards[i]
        chunk = <Chunk*>guard_following(&chunk.following)
    return NULL


cdef bint serve(uintptr_t address) noexcept nogil:
    cdef Guard seen
    cdef Guard* guard = owner_of(address, &seen)
    cdef uintptr_t within, copy_start, offset
    if guard == NULL:
        return False
    within = address - seen.start
    copy_start = within - within % seen.length
    offset = within - copy_start
    offset -= offset % seen.page
    if mmap(<void*>(seen.start + copy_start + offset), seen.length - offset, seen.prot,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED:
        return False
    last_served = address
    guard_hit(guard, offset)
    guard_count_epoch(&process_epoch)
    return True


cdef bint serve_raised(uintptr_t fault) noexcept nogil:
    """A handler installed after ours (faulthandler) reports a fault, puts ours back and raises SIGBUS again; all that is
    left of the fault is the thread's last fault address. A SIGBUS that was merely raised finds an address there that was
    served long ago. Without this, a process that enables faulthandler late would die of a cut file."""
    return fault != 0 and fault != last_served and shmring_is_missing(fault) and serve(fault)


cdef void pass_on(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef sigset_t before
    cdef bint is_fault = info.si_code > 0
    if shmring_action_is_ignore(&previous) and not is_fault:
        return
    if shmring_action_is_default(&previous) or shmring_action_is_ignore(&previous):
        # A fault runs into the restored action by itself; a signal that was sent has to be sent again. (The kernel kills
        # a process that ignores a fault.)
        sigaction_quiet(number, &previous, NULL)
        if not is_fault:
            c_raise(number)
        return
    pthread_sigmask(SIG_BLOCK, &previous.sa_mask, &before)
    shmring_action_call(&previous, number, info, context)
    pthread_sigmask(SIG_SETMASK, &before, NULL)


cdef void on_sigbus(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef int saved = errno
    cdef bint done = False
    if info.si_code == BUS_ADRERR:
        done = serve(<uintptr_t>info.si_addr)
    elif info.si_code == SI_TKILL and info.si_pid == getpid():
        done = serve_raised(shmring_last_fault(context))
    if not done:
        pass_on(number, info, context)
    (&errno)[0] = saved


cdef void after_fork() noexcept nogil:
    guard_count_epoch(&process_epoch)


if pthread_atfork(NULL, NULL, after_fork) != 0:
    raise MemoryError("pthread_atfork refused the handler that tells a forked child from its parent")


# ---- for Python ----------------------------------------------------------------------------------------------------

def install() -> bool:
    """Install the SIGBUS handler now, rather than at the first mapping that needs it.

    Returns
    -------
    bool
        Whether the handler is installed; False when it was declined.

    Concurrency
    -----------
    Call it from one thread at a time (the interpreter's lock sees to that).
    """
    global is_installed
    cdef sigaction_t ours
    if is_declined or is_installed:
        return is_installed
    memset(&ours, 0, sizeof(ours))
    sigemptyset(&ours.sa_mask)
    ours.sa_sigaction = on_sigbus
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK
    # Read first: our handler may run the moment it is in place, and must find the previous action then.
    if sigaction(SIGBUS, NULL, &previous) != 0 or sigaction(SIGBUS, &ours, NULL) != 0:
        raise OSError(errno, "the SIGBUS handler could not be installed")
    is_installed = True
    return True


def decline() -> None:
    """Never install the SIGBUS handler in this process (like SHMRING_SIGBUS=0 in the environment).

    Touching a mapping whose file was cut then kills the process, as it does in C.

    Raises
    ------
    RuntimeError
        The handler is already installed: another library may have chained to it since.
    """
    global is_declined
    if is_installed:
        raise RuntimeError("the SIGBUS handler is already installed; decline it before the first mapping")
    is_declined = True


def epoch() -> int:
    """The number of served faults and forks so far, plus one (a snapshot)."""
    return process_epoch
