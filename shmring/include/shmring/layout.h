/* The bytes of a ring: one segment, one layout, little-endian words. docs/layout.md says the same in prose.
 *
 *   0                 identity      who and what the ring is; written by the creator, never again
 *   4096              producers     what producers write: tail, ...
 *   5120              data bell     consumers that wait for data
 *   5504              room bell     producers that wait for room
 *   8192              groups        max_groups x 512 B
 *   + groups          participants  max_participants x 256 B
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
 * Invariant: for every gating group, head <= cursor <= tail and tail - head <= capacity (unsigned differences).
 *
 * A change of any size, offset or meaning below bumps SHMRING_LAYOUT_VERSION.
 */
#ifndef SHMRING_LAYOUT_H
#define SHMRING_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "shmring/atomic.h"

#define SHMRING_MAGIC UINT64_C(0x00676e69726d6873) /* "shmring\0" */
#define SHMRING_LAYOUT_VERSION 1u
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
#define SHMRING_GROUP_NAME_BYTES 64 /* UTF-8, zero-padded; so 63 bytes of name */
#define SHMRING_BOUNDARIES 64

/* Bytes of the segment that serve as locks (file locks need no content, but keep clear of each other). */
#define SHMRING_LOCK_REGISTRY 0     /* held while the tables of groups and participants change */
#define SHMRING_LOCK_PARTICIPANT 4096 /* + slot number: held by the participant as long as it lives */

/* identity.flags */
#define SHMRING_FLAG_SINGLE_PRODUCER 1u

/* record states, in the low bits of the stamp (positions are multiples of 16) */
#define SHMRING_COMMITTED 1u
#define SHMRING_ABORTED 2u

/* group.state */
#define SHMRING_GROUP_FREE 0u
#define SHMRING_GROUP_JOINING 1u    /* gates; its head is not settled yet; left behind only by a death */
#define SHMRING_GROUP_ACTIVE 2u

/* participant.state */
#define SHMRING_SLOT_FREE 0u
#define SHMRING_SLOT_ACTIVE 1u
#define SHMRING_SLOT_LEFT 2u        /* its owner left; whoever next holds the registry lock frees it */

/* participant.role */
#define SHMRING_ROLE_PRODUCER 1u
#define SHMRING_ROLE_CONSUMER 2u

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
    uint8_t unused[SHMRING_IDENTITY_BYTES - 128];
};

struct shmring_producers {
    _Alignas(SHMRING_PAIR) shmring_u64 tail;     /* end of what is published; written by producers */
    _Alignas(SHMRING_PAIR) shmring_u64 reserve;  /* end of what may be being written, for observers */
    _Alignas(SHMRING_PAIR) shmring_u32 shutdown; /* 1 from shutdown() on; written once */
    shmring_u32 sole;                            /* single producer: its slot + 1, or 0; written under the registry lock */
    shmring_u32 joins;                           /* counts groups that were made; written under the registry lock */
    _Alignas(SHMRING_PAIR) uint8_t unused[SHMRING_PAIR];
    _Alignas(SHMRING_PAIR) shmring_u64 boundaries[SHMRING_BOUNDARIES]; /* recent record positions, for lapped observers */
};

/* Who waits. Bit n belongs to participant n: set and cleared by it alone, or cleared for it by repair. */
struct shmring_bell {
    _Alignas(SHMRING_PAIR) shmring_u64 armed[SHMRING_BELL_WORDS];  /* may park soon: notifiers fence before they look */
    _Alignas(SHMRING_PAIR) shmring_u64 parked[SHMRING_BELL_WORDS]; /* in futex wait, or about to be */
    _Alignas(SHMRING_PAIR) shmring_u32 sequence;                   /* the room bell's futex word (a group has its own for data) */
};

struct shmring_group {
    /* written under the registry lock */
    _Alignas(SHMRING_PAIR) shmring_u32 state;
    uint32_t flags;
    shmring_u32 member;             /* exclusive group: its member's slot + 1, or 0 */
    uint32_t generation;
    char name[SHMRING_GROUP_NAME_BYTES];
    /* written by the member */
    _Alignas(SHMRING_PAIR) shmring_u64 head;   /* everything before it is released; gates */
    shmring_u64 cursor;                        /* everything before it was handed out; head <= cursor */
    shmring_u64 claim;                         /* shared group: position / 16 in the high 48 bits, last claimer in the low 16 */
    shmring_u64 watermark;                     /* everything before it was handed out to some member that is gone */
    /* written by who notifies */
    _Alignas(SHMRING_PAIR) shmring_u32 sequence; /* futex word of the data bell */
    /* written by repair */
    _Alignas(SHMRING_PAIR) shmring_u64 repaired; /* members found dead */
    shmring_u64 redelivered;                     /* records that were handed out again */
};

struct shmring_participant {
    /* written by the participant when it attaches and when it leaves, by repair afterwards */
    _Alignas(SHMRING_PAIR) shmring_u32 state;
    uint32_t role;
    uint32_t pid;                   /* in its own pid namespace */
    shmring_u32 group;              /* consumer: the group's number */
    uint64_t start_time;            /* clock ticks since boot, field 22 of /proc/PID/stat */
    uint64_t pid_namespace;         /* inode of /proc/PID/ns/pid */
    uint64_t generation;            /* counts the owners of this slot */
    uint8_t boot_id[16];            /* of the machine it runs (ran) on */
    /* written by the participant */
    _Alignas(SHMRING_PAIR) shmring_u64 intent_start; /* many producers: the reservation it is about to make, */
    uint32_t intent_span;                            /* in units of 16 bytes, */
    uint32_t intent_previous;                        /* and who reserved before it */
    shmring_u64 hold;               /* shared group: lowest position it still reads */
    shmring_u64 hold_end;
    shmring_u32 confirmed;
    uint32_t unused;
    shmring_u64 room_target;        /* producer: wakes are wanted once every head has passed this */
    shmring_u64 messages;           /* statistics, since it attached; one writer */
    shmring_u64 bytes;
    shmring_u64 waits;              /* found nothing to do and spun */
    shmring_u64 parks;              /* slept in the futex */
    shmring_u64 wakes;              /* woke somebody */
};

struct shmring_header {
    shmring_u64 stamp;
    shmring_u32 length;             /* bytes of payload */
    uint16_t participant;           /* who wrote it */
    uint16_t previous;              /* many producers: who made the reservation before it */
};

#define SHMRING_AT(type, member, offset) \
    _Static_assert(offsetof(struct type, member) == (offset), #type "." #member " moved")
#define SHMRING_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type " has another size")

SHMRING_SIZE(shmring_identity, 4096);
SHMRING_SIZE(shmring_producers, 1024);
SHMRING_SIZE(shmring_bell, 384);
SHMRING_SIZE(shmring_group, 512);
SHMRING_SIZE(shmring_participant, 256);
SHMRING_SIZE(shmring_header, SHMRING_HEADER_BYTES);
SHMRING_AT(shmring_identity, ready, 16);
SHMRING_AT(shmring_identity, page_bytes, 124);
SHMRING_AT(shmring_producers, shutdown, 256);
SHMRING_AT(shmring_producers, joins, 264);
SHMRING_AT(shmring_producers, boundaries, 512);
SHMRING_AT(shmring_bell, parked, 128);
SHMRING_AT(shmring_bell, sequence, 256);
SHMRING_AT(shmring_group, head, 128);
SHMRING_AT(shmring_group, sequence, 256);
SHMRING_AT(shmring_participant, intent_start, 128);
SHMRING_AT(shmring_participant, wakes, 208);
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
