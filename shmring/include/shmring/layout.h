/* The bytes of a ring: one segment, one layout, little-endian words. docs/layout.md says the same in prose.
 *
 *   0                 identity      who and what the ring is; written by the creator, never again
 *   4096              producers     what producers write: tail, ...
 *   5120              data bell     consumers that wait for data
 *   5504              room bell     producers that wait for room
 *   8192              groups        max_groups x 512 B
 *   + groups          participants  max_participants x 512 B
 *   data_offset       data          capacity bytes, page-aligned; mapped twice in a row
 *
 * The parts are grouped by who writes them, 128 B apart (two cache lines: the adjacent-line prefetcher of x86 fetches pairs),
 * so that a writer's stores disturb only the readers of what it wrote.
 *
 * A record, at a position p with (p + 16) % align == 0; the payload follows and ends at p + 16 + length, the next record
 * begins at the next such position after it:
 *
 *    0                            8              12             14             16
 *   +----------------------------+--------------+--------------+--------------+---------------------------
 *   | stamp = (p | state) ^ cookie  length (u32) | participant  | previous     | payload
 *   +----------------------------+--------------+--------------+--------------+---------------------------
 *
 * A marked word says where and who in one word, so that one exchange can change both:
 *
 *    63                                                    16 15               0
 *   +--------------------------------------------------------+------------------+
 *   | position / 16, its low 48 bits                          | participant + 1  |   the head of a group; the tail of many
 *   +--------------------------------------------------------+------------------+   producers
 *
 * Invariant: for every gating group, head <= tail; for every hold that protects something, hold <= its group's head; the tail
 * is never more than capacity beyond the lowest of them (unsigned differences).
 *
 * A change of any size, offset or meaning below bumps SHMRING_LAYOUT_VERSION.
 */
#ifndef SHMRING_LAYOUT_H
#define SHMRING_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "shmring/atomic.h"

#define SHMRING_MAGIC UINT64_C(0x00676e69726d6873) /* "shmring\0" */
#define SHMRING_LAYOUT_VERSION 4u
#define SHMRING_READY UINT64_C(0x0000007964616572) /* "ready" */

#define SHMRING_PAIR 128            /* bytes: two cache lines */
#define SHMRING_IDENTITY_BYTES 4096
#define SHMRING_PRODUCERS_OFFSET 4096
#define SHMRING_DATA_BELL_OFFSET 5120
#define SHMRING_ROOM_BELL_OFFSET 5504
#define SHMRING_GROUPS_OFFSET 8192

#define SHMRING_HEADER_BYTES 16
#define SHMRING_MIN_CAPACITY 4096
#define SHMRING_MAX_CAPACITY (UINT64_C(1) << 46)
#define SHMRING_MAX_PARTICIPANTS 1024
#define SHMRING_BELL_WORDS (SHMRING_MAX_PARTICIPANTS / 64)
#define SHMRING_MAX_GROUPS 64
#define SHMRING_CONTENT_BYTES 1024  /* UTF-8, zero-padded; so 1023 bytes of text */
#define SHMRING_GROUP_NAME_BYTES 64 /* UTF-8, zero-padded; so 63 bytes of name */
#define SHMRING_BOUNDARIES 32       /* record positions that observers can land on, */
#define SHMRING_CHUNKS 16           /* one for each such part of the capacity: the last two laps */
#define SHMRING_CLAIMS 16           /* ranges that a member can hold apart from each other, less the one it is winning */
#define SHMRING_NONE (~UINT64_C(0)) /* no position: positions are multiples of 16 */

/* Bytes of the segment that serve as locks (file locks need no content, but keep clear of each other). */
#define SHMRING_LOCK_REGISTRY 0     /* held while the tables of groups and participants change */
#define SHMRING_LOCK_PARTICIPANT 4096 /* + slot number: held by the participant as long as it lives */

/* identity.flags */
#define SHMRING_FLAG_SINGLE_PRODUCER 1u

/* record states, in the low bits of the stamp (positions are multiples of 16) */
#define SHMRING_COMMITTED 1u
#define SHMRING_ABORTED 2u          /* skip it; `participant` counts the messages that it takes the place of */

/* group.state */
#define SHMRING_GROUP_FREE 0u
#define SHMRING_GROUP_JOINING 1u    /* gates; its head is not settled yet; left behind only by a death */
#define SHMRING_GROUP_ACTIVE 2u

/* group.flags */
#define SHMRING_GROUP_EPHEMERAL 1u  /* goes with its last member */
#define SHMRING_GROUP_DROP 2u       /* what a dead member held is not delivered again */
#define SHMRING_GROUP_EXCLUSIVE 4u  /* its member wants to be the only one */

/* group.attention: what a member's fast path must not overlook */
#define SHMRING_SHARED 1u           /* there are, or were, several members: claim by exchange */
#define SHMRING_ORPHANS 2u          /* a slot of this group waits for somebody to adopt its claims */
#define SHMRING_SETTLED 4u          /* SHARED, and every claim that began without an exchange has ended */

/* participant.state */
#define SHMRING_SLOT_FREE 0u
#define SHMRING_SLOT_ACTIVE 1u
#define SHMRING_SLOT_LEFT 2u        /* its owner left; whoever next holds the registry lock frees it */
#define SHMRING_SLOT_ORPHAN 3u      /* its owner is gone; its claims still gate, until a member of its group adopts them */

/* participant.role */
#define SHMRING_ROLE_PRODUCER 1u
#define SHMRING_ROLE_CONSUMER 2u
#define SHMRING_ROLE_OBSERVER 3u

/* low bit of claim.end: whether the range was won is not noted yet */
#define SHMRING_TENTATIVE 1u

struct shmring_identity {
    uint64_t magic;                 /*   0 */
    uint32_t layout_version;        /*   8 */
    uint32_t signature;             /*  12  SHMRING_SIGNATURE: sizes and offsets, folded */
    shmring_u64 ready;              /*  16  SHMRING_READY, written last */
    uint64_t capacity;              /*  24  bytes, a power of two */
    uint64_t cookie;                /*  32  random; multiple of 16, so that states stay readable */
    uint32_t align;                 /*  40  payload alignment: 16 or 64 */
    uint32_t flags;                 /*  44 */
    uint32_t max_participants;      /*  48 */
    uint32_t max_groups;            /*  52 */
    uint64_t participants_offset;   /*  56  from the start of the segment */
    uint64_t data_offset;           /*  64  from the start of the segment */
    uint64_t segment_bytes;         /*  72  data_offset + capacity */
    uint8_t uuid[16];               /*  80 */
    uint8_t boot_id[16];            /*  96  of the machine that made it */
    uint64_t created_ns;            /* 112  CLOCK_REALTIME */
    uint32_t creator_pid;           /* 120 */
    uint32_t page_bytes;            /* 124  of the creator */
    char content[SHMRING_CONTENT_BYTES]; /* 128  what the messages are, in words of whoever made it; may be empty */
    uint8_t unused[SHMRING_IDENTITY_BYTES - 1152];
};

/* Where a record begins, and how many messages come before it in the ring's order. */
struct shmring_boundary {
    shmring_u64 position;
    shmring_u64 number;
};

struct shmring_producers {
    /* one producer: tail is a position, the end of what is published. Many: a marked word, the end of what is reserved, */
    _Alignas(SHMRING_PAIR) shmring_u64 tail;
    shmring_u64 number;                          /* and with it, in one exchange, the messages reserved so far */
    /* one producer: end of what may be being written. Many: a position of lately, to extend marked words from. */
    _Alignas(SHMRING_PAIR) shmring_u64 reserve;
    _Alignas(SHMRING_PAIR) shmring_u32 shutdown; /* 1 from shutdown() on; written once */
    shmring_u32 sole;                            /* single producer: its slot + 1, or 0; written under the registry lock */
    shmring_u32 moves;                           /* counts what a scan of the gate must not miss: groups made, claims adopted */
    shmring_u32 slots_used;                      /* slots from this one on were never used */
    shmring_u32 producers_joined;                /* since the ring was made; written under the registry lock, as all below */
    shmring_u32 missed_pid;                      /* of a producer that died, until another one comes */
    _Alignas(SHMRING_PAIR) shmring_u64 repairs;  /* participants found dead; above, whose burial was begun: repair.pxd */
    shmring_u64 aborted;                         /* messages that were reserved and never came */
    _Alignas(SHMRING_PAIR) struct shmring_boundary boundaries[SHMRING_BOUNDARIES]; /* for observers */
};

/* Who waits. Bit n belongs to participant n: set and cleared by it alone, or cleared for it by repair. */
struct shmring_bell {
    _Alignas(SHMRING_PAIR) shmring_u64 armed[SHMRING_BELL_WORDS];  /* may park soon: notifiers fence before they look */
    _Alignas(SHMRING_PAIR) shmring_u64 parked[SHMRING_BELL_WORDS]; /* in futex wait, or about to be */
    _Alignas(SHMRING_PAIR) shmring_u32 sequence;                   /* futex word: of producers; of observers (groups have their own) */
};

struct shmring_group {
    /* written under the registry lock */
    _Alignas(SHMRING_PAIR) shmring_u32 state;
    uint32_t flags;
    shmring_u32 attention;
    shmring_u32 members;            /* consumers that belong to it, dead ones not yet found included */
    uint32_t generation;
    uint32_t unused;
    char name[SHMRING_GROUP_NAME_BYTES];
    /* written by members */
    _Alignas(SHMRING_PAIR) shmring_u64 head;     /* marked: everything before it is claimed, the last time by that member */
    shmring_u64 passed;                          /* if messages carry their numbers: so many were claimed, or more */
    /* written by who notifies */
    _Alignas(SHMRING_PAIR) shmring_u32 sequence; /* futex word of the data bell */
    /* written under the registry lock */
    _Alignas(SHMRING_PAIR) shmring_u64 repaired; /* members found dead; above, as repairs */
    shmring_u64 redelivered;                     /* records that were handed to another member */
    shmring_u64 dropped;                         /* records that were not, as the group is made so */
};

/* A range of records that a member has claimed and not released. */
struct shmring_claim {
    shmring_u64 start;              /* position, or NONE */
    shmring_u64 end;                /* position | TENTATIVE */
};

struct shmring_participant {
    /* written by the participant when it attaches and when it leaves, by repair afterwards */
    _Alignas(SHMRING_PAIR) shmring_u32 state;
    shmring_u32 role;
    uint32_t pid;                   /* in its own pid namespace */
    shmring_u32 group;              /* consumer: the group's number */
    uint64_t start_time;            /* clock ticks since boot, field 22 of /proc/PID/stat */
    uint64_t pid_namespace;         /* inode of /proc/PID/ns/pid; 0: pid and start_time tell others nothing */
    uint64_t generation;            /* counts the owners of this slot */
    uint8_t boot_id[16];            /* of the machine it runs (ran) on */
    /* written by members of its group */
    shmring_u64 granted;            /* marked, with its group + 1: what it claimed up to here was won, says the next claimer */
    /* written by the participant */
    _Alignas(SHMRING_PAIR) shmring_u64 intent_start; /* many producers: the reservation it is making, or NONE; gates: */
    shmring_u64 intent;             /* span / 16 in the high 32 bits, then its messages, then the mark it follows (16 each) */
    shmring_u64 hold;               /* member: gates; nothing before it is held. NONE: holds nothing */
    shmring_u64 awaited;            /* parked: the position it waits for (producer: the gate; observer: the record) */
    shmring_u64 messages;           /* statistics, since it attached; one writer */
    shmring_u64 bytes;
    shmring_u64 waits;              /* found nothing to do and spun */
    shmring_u64 parks;              /* slept in the futex */
    shmring_u64 wakes;              /* woke somebody */
    shmring_u64 repairs;            /* found dead by it */
    shmring_u64 redelivered;        /* records that it got after a dead one */
    shmring_u64 lost;               /* observer: messages it was lapped out of */
    shmring_u64 pondering;          /* many producers: 1 while a reservation is a user's to fill: refused once shut down */
    shmring_u64 moving;             /* member: 1 while it moves the head by a plain store */
    shmring_u64 stalls;             /* statistics: producer: times it waited for room */
    shmring_u64 stalled_ns;         /* and how long, together, when those waits had ended */
    /* written by the participant; read by repair. The first is the one it is winning. */
    _Alignas(SHMRING_PAIR) struct shmring_claim claims[SHMRING_CLAIMS];
};

struct shmring_header {
    shmring_u64 stamp;
    shmring_u32 length;             /* bytes of payload */
    shmring_u16 participant;        /* who wrote it: slot + 1 */
    shmring_u16 previous;           /* many producers: the mark of the reservation before its own */
};

#define SHMRING_AT(type, member, offset) \
    _Static_assert(offsetof(struct type, member) == (offset), #type "." #member " moved")
#define SHMRING_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type " has another size")

SHMRING_SIZE(shmring_identity, 4096);
SHMRING_SIZE(shmring_producers, 1024);
SHMRING_SIZE(shmring_bell, 384);
SHMRING_SIZE(shmring_group, 512);
SHMRING_SIZE(shmring_participant, 512);
SHMRING_SIZE(shmring_header, SHMRING_HEADER_BYTES);
SHMRING_AT(shmring_identity, ready, 16);
SHMRING_AT(shmring_identity, page_bytes, 124);
SHMRING_AT(shmring_identity, content, 128);
SHMRING_AT(shmring_producers, number, 8);
SHMRING_AT(shmring_producers, shutdown, 256);
SHMRING_AT(shmring_producers, moves, 264);
SHMRING_AT(shmring_producers, boundaries, 512);
SHMRING_AT(shmring_bell, parked, 128);
SHMRING_AT(shmring_bell, sequence, 256);
SHMRING_AT(shmring_group, head, 128);
SHMRING_AT(shmring_group, sequence, 256);
SHMRING_AT(shmring_participant, granted, 56);
SHMRING_AT(shmring_participant, intent_start, 128);
SHMRING_AT(shmring_participant, claims, 256);
_Static_assert(SHMRING_PRODUCERS_OFFSET % 16 == 0, "the tail is exchanged as 16 bytes");
_Static_assert(SHMRING_PRODUCERS_OFFSET + 1024 <= SHMRING_DATA_BELL_OFFSET, "producers overlap the data bell");
_Static_assert(SHMRING_DATA_BELL_OFFSET + 384 <= SHMRING_ROOM_BELL_OFFSET, "the bells overlap");
_Static_assert(SHMRING_ROOM_BELL_OFFSET + 384 <= SHMRING_GROUPS_OFFSET, "the room bell overlaps the groups");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian");

/* One number that changes when a size or an offset does, so that builds which disagree refuse each other's rings. */
#define SHMRING_FOLD(hash, number) (((hash) ^ (uint32_t)(number)) * 16777619u)
#define SHMRING_SIGNATURE                                                                                         \
    SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(SHMRING_FOLD(      \
        2166136261u, sizeof(struct shmring_identity)), sizeof(struct shmring_producers)),                        \
        sizeof(struct shmring_bell)), sizeof(struct shmring_group)), sizeof(struct shmring_participant)),        \
        offsetof(struct shmring_participant, intent_start) * 65536u + offsetof(struct shmring_group, head)),     \
        SHMRING_DATA_BELL_OFFSET * 65536u + SHMRING_ROOM_BELL_OFFSET),                                           \
        SHMRING_GROUPS_OFFSET * 65536u + SHMRING_HEADER_BYTES)

#endif
