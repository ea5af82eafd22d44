/* A word and 64 bytes: the bare exchange between two processes, one mailbox per direction.
 *
 * post writes the payload, then the word; take waits for the word, then reads the payload. Parking is a bare futex: a wake for
 * every post, a wait for every take that comes too early.
 */
#pragma once
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "process.h"

enum { MAIL = 64 };

struct mailbox {
    _Alignas(128) _Atomic uint32_t word;
    _Alignas(128) unsigned char payload[MAIL];
};

static inline struct mailbox *mailbox_attach(const char *path)
{
    int fd = open_segment(path);
    void *base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED)
        fail("mmap");
    close(fd);
    return base;
}

static inline void mailbox_post(struct mailbox *box, uint32_t turn, const void *from, int parking)
{
    memcpy(box->payload, from, MAIL);
    /* sync: native-mail (release). Publishes the payload; pairs with the acquire in mailbox_take. */
    atomic_store_explicit(&box->word, turn, memory_order_release);
    if (parking)
        syscall(SYS_futex, &box->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void mailbox_take(struct mailbox *box, uint32_t turn, void *to, int parking)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&box->word, memory_order_acquire);
        if (seen == turn)
            break;
        if (parking)
            syscall(SYS_futex, &box->word, FUTEX_WAIT, seen, NULL, NULL, 0);
        else
            relax();
    }
    memcpy(to, box->payload, MAIL);
}
