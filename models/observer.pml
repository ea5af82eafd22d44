/* An observer against producers that overwrite: observe.pxd, boundary.pxd and the writing side of reserve.pxd and record.pxd (many
   producers; with one, `reserve` stands for the tail). Names: [reserve] [note] [bytes] [stamp]; observer: [look] [copy] [fence]
   [jump].

   Records take one unit of two words. A reservation has one or two; the second of two may be given up, as of one who died. What is
   reserved and not stamped is not reserved again by others (that is many_producers.pml), else nobody holds the producers back.

   Memory: stores become visible in order from the fence behind [reserve] on, up to [stamp]; without it (mutant) the tail that
   observers load may lag behind the bytes. The observer's loads are made in program order; mutants move them.

   Properties: (1) what is handed out is whole, and the message of that position, (2) the number that the observer keeps is that of
   its position, so that what it received, what it lost and what never came add up (`lost` is exact), (3) it never goes back.

   Sizes: CAP, END (units), PRODUCERS. */
#ifndef CAP
#define CAP 2
#endif
#ifndef END
#define END 5
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#define PLACES 4                  /* boundaries */
#ifndef CHUNK
#define CHUNK 1                   /* units from boundary to boundary */
#endif
#define NONE 255
#define COMMITTED 1
#define ABORTED 2
#define SHOW tail_seen = tail; number_seen = number
#define CELL(p) ((p) % CAP)
#define PLACE(p) ((p) / CHUNK % PLACES)

byte tail, number, tail_seen, number_seen;                 /* one pair; and as observers load it */
byte stamp[CAP], first[CAP], second[CAP];                  /* position * 4 + state; the payload's words */
byte place[PLACES] = NONE, count[PLACES];                  /* boundaries */
byte opened[PRODUCERS] = NONE;    /* where an unstamped reservation begins */
byte truth[END + 1];              /* ghost: messages before a position */
byte n_done;

#if PRODUCERS == 2
#define OPENED (opened[0] < opened[1] -> opened[0] : opened[1])
#else
#define OPENED opened[0]
#endif

#ifdef WAS_MISSING                /* its first record was overwritten already, and counts as missing */
#define MISSING (tail > at - 1 + CAP -> 2 : 1)
#else
#define MISSING 1
#endif

proctype producer(byte me) {
  byte at, end, n;
  do
  :: atomic { tail < END && (OPENED == NONE || tail + 1 <= OPENED + CAP) ->    /* [reserve] */
       at = tail; end = at + 1;
       if :: skip :: at + 2 <= END && (OPENED == NONE || at + 2 <= OPENED + CAP) -> end = at + 2 fi;
       n = number; truth[at] = n;
       do :: at != end -> at++; n++; truth[at] = n :: else -> break od;
       number = n; at = tail; tail = end; opened[me] = at
     };
#ifndef NO_LAPPING_FENCE
     atomic { SHOW };                                                          /* [lapping] */
#endif
     atomic {                                                                  /* [note] */
       if
       :: at / CHUNK != end / CHUNK && (place[PLACE(end)] == NONE || place[PLACE(end)] < end) ->
          place[PLACE(end)] = end; count[PLACE(end)] = n
       :: else
       fi
     };
     n = 0;
     do
     :: at != end ->
#ifdef STAMP_EARLY
        atomic { SHOW; stamp[CELL(at)] = at * 4 + COMMITTED };
#endif
        first[CELL(at)] = at + 1;                                              /* [bytes] */
        second[CELL(at)] = at + 1;
#ifndef STAMP_EARLY
        atomic { SHOW; stamp[CELL(at)] = at * 4 + COMMITTED };     /* [stamp] */
#endif
        at++;
#ifdef WAS_MISSING
        opened[me] = at;                                                       /* what was stamped may be read, and reserved again */
#endif
        if
        :: at != end ->                                                        /* killed before the second: repair_close */
           second[CELL(at)] = 0;
           atomic { first[CELL(at)] = MISSING; SHOW; stamp[CELL(at)] = at * 4 + ABORTED };
           at++
        :: skip
        fi
     :: else -> break
     od;
     atomic { opened[me] = NONE; at = 0; end = 0 }
  :: break
  od;
  atomic { n_done++; SHOW; at = 0 }
}
active proctype memory() {
end_idle:
  do
  :: atomic { tail_seen != tail -> SHOW }
  od
}

/* boundary_find: the oldest place from `low` to `high` */
inline find() {
  n = 0;
  do
  :: n < PLACES ->
     p = place[n];                                         /* boundary_read [place] */
     c = count[n];
     atomic {
       if
#ifndef NO_RECHECK
       :: p != NONE && place[n] == p && low <= p && p <= high && p < found -> found = p; found_count = c
#else
       :: p != NONE && low <= p && p <= high && p < found -> found = p; found_count = c
#endif
       :: else
       fi;
       n++; p = 0; c = 0
     }
  :: else -> n = 0; break
  od
}

#define STAMPED (stamp[CELL(at)] / 4 == at && stamp[CELL(at)] % 4 != 0)

proctype observer() {
  byte at, mine, got, lost, gone;      /* position, number; messages received, lost, and told not to come */
  byte s, a, b, t, n, p, c, low, high, found, found_count;
  do
  :: s = stamp[CELL(at)];                                                      /* [look] */
#ifdef NO_OBSERVER_FENCE
     t = tail_seen;
#endif
     a = first[CELL(at)];                                                      /* [copy] */
     b = second[CELL(at)];
#ifndef NO_OBSERVER_FENCE
     t = tail_seen;                                                            /* [fence] observe_is_whole */
#endif
     if
#ifdef LATE_CHECK
     :: atomic { t > at + CAP + 1 -> s = 0; a = 0; b = 0; t = 0 };
#else
     :: atomic { t > at + CAP -> s = 0; a = 0; b = 0; t = 0 };                 /* LAPPED: observe_jump [jump] */
#endif
        high = tail_seen;
        atomic { low = (high > CAP -> high - CAP : 0); found = NONE };
        find();
        if
        :: atomic { found == NONE };                                           /* observe_jump_to_tail */
           found = tail_seen;
           found_count = number_seen;
           do
           :: t = tail_seen;
#ifdef WAS_NUMBER
              found_count = number_seen;
#endif
              if
              :: t == found -> break
              :: else -> found = t; found_count = number_seen
              fi
           od;
           t = 0
        :: atomic { found != NONE }
        fi;
        atomic {
          assert(found > at);
          lost = lost + found_count - mine; at = found; mine = found_count;
          assert(mine == truth[at] && got + lost + gone == mine);
          low = 0; high = 0; found = 0; found_count = 0
        }
     :: atomic { t <= at + CAP && s / 4 == at && s % 4 == COMMITTED ->
          assert(a == at + 1 && b == at + 1);
          got++; mine++; at++;
          assert(mine == truth[at] && got + lost + gone == mine);
          s = 0; a = 0; b = 0; t = 0 }
     :: atomic { t <= at + CAP && s / 4 == at && s % 4 == ABORTED ->
          gone = gone + a; mine = mine + a; at++;
          assert(mine == truth[at] && got + lost + gone == mine);
          s = 0; a = 0; b = 0; t = 0 }
     :: atomic { t <= at + CAP && (s / 4 != at || s % 4 == 0) -> s = 0; a = 0; b = 0; t = 0 };   /* EMPTY: waits */
        (STAMPED || tail_seen > at + CAP || n_done == PRODUCERS);
        if :: atomic { n_done == PRODUCERS && tail_seen == at } -> break :: else fi
     fi
  od
}

init {
  atomic {
    run producer(0); run observer();
#if PRODUCERS == 2
    run producer(1)
#endif
  }
}
