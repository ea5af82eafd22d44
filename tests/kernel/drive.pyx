# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The kernel at work without Python: a program with one thread per role. `drive PLAY LIVES MESSAGES SEED` prints what happened.

PLAY is one of: single (one producer at a time, two groups), many (several producers, a shared group), churn (both, with deaths,
and groups that come and go). Exit code: 0 if every message came whole, to each group once (or again after a death), else 1.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport printf
from libc.stdlib cimport atoi, calloc
from libc.string cimport strcmp

from shmring._core.membership cimport group_begin
from shmring._core.shutdown cimport shutdown_begin

from roles cimport (
    LIVES, MOST, Part, Play, consume_life, consume_part, observe_part, produce_part, visit_part,
)
from stage cimport Stage, pthread_create, pthread_join, pthread_t, stage_open

cdef extern from * nogil:
    """
    int shmring_drive(int count, char **words);
    static const char group_name[64] = "second";
    int main(int count, char **words) { return shmring_drive(count, words); }
    """
    const char* NAME "group_name"

cdef enum:
    THREADS = 12

# Positions begin here, so that they pass 2^32 on the way.
cdef enum:
    ORIGIN = 0xffff0000


# How often was each message delivered to the group? Wrong ones.
cdef uint32_t wrong_deliveries(Play* play, uint32_t group) noexcept nogil:
    cdef uint32_t life, place, wrong = 0, times
    for life in range(play.most_lives):
        for place in range(play.per_life):
            times = play.seen[group][life][place]
            if times == 0 if place < play.sent[life] else times != 0:
                wrong += 1
            elif times > 1 and play.deaths == 0:
                wrong += 1
            else:
                continue
            printf("group %u: message %u of life %u (which sent %u) came %u times\n", group, place, life, play.sent[life], times)
    return wrong


cdef int play_out(Play* play, int producers, int members, int second, int observers, int visitors, uint64_t seed) noexcept nogil:
    cdef pthread_t threads[THREADS]
    cdef Part parts[THREADS]
    cdef int count = 0, index, each
    cdef uint32_t wrong = 0, group, n_groups = 2 if second else 1
    # The second group begins before anybody sends.
    cdef Part last
    last.play = play
    last.random = seed
    for index in range(THREADS):
        parts[index].play = play
        parts[index].random = seed * 1000 + index
        parts[index].group = 0
    if second:
        group_begin(&play.stage.map, 1, NAME, 0, False, ORIGIN)
    for each in range(members):
        pthread_create(&threads[count], NULL, consume_part, &parts[count])
        count += 1
    for each in range(second):
        parts[count].group = 1
        pthread_create(&threads[count], NULL, consume_part, &parts[count])
        count += 1
    for each in range(observers):
        pthread_create(&threads[count], NULL, observe_part, &parts[count])
        count += 1
    for each in range(visitors):
        pthread_create(&threads[count], NULL, visit_part, &parts[count])
        count += 1
    for each in range(producers):
        pthread_create(&threads[count], NULL, produce_part, &parts[count])
        count += 1
    for index in range(count - producers, count):
        pthread_join(threads[index], NULL)
    shutdown_begin(&play.stage.map)
    for index in range(count - producers):
        pthread_join(threads[index], NULL)
    for group in range(n_groups):
        last.group = group
        consume_life(&last, group, False, 0, True)      # what the dead left
        wrong += wrong_deliveries(play, group)
    printf("%u lives, %u deaths, %u redelivered, %u observed, %u lapped; %u broken, %u wrong\n", play.most_lives, play.dead,
           play.redelivered, play.observed, play.lapped, play.broken, wrong)
    return 1 if wrong or play.broken else 0


cdef public int shmring_drive(int count, char** words) noexcept nogil:
    cdef Play* play = <Play*> calloc(1, sizeof(Play))
    cdef bint single
    if count != 5 or play == NULL:
        return 2
    single = strcmp(words[1], b"single") == 0
    if not stage_open(&play.stage, 8192, single, ORIGIN):
        printf("no memory to share\n")
        return 2
    play.most_lives = min(<uint32_t> atoi(words[2]), <uint32_t> LIVES)
    play.per_life = min(<uint32_t> atoi(words[3]), <uint32_t> MOST)
    if single:
        return play_out(play, 1, 1, 1, 1, 0, atoi(words[4]))
    if strcmp(words[1], b"many") == 0:
        return play_out(play, 3, 2, 1, 1, 0, atoi(words[4]))
    play.deaths = 5
    return play_out(play, 2, 3, 1, 1, 1, atoi(words[4]))
