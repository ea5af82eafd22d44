/* An observer against producers that overwrite: observe.pxd, boundary.pxd and the writing side of reserve.pxd and record.pxd (many
   producers; with one, `reserve` stands for the tail). Names: [tail] [note] [reserve] [bytes] [stamp]; observer: [look] [copy]
   [fence] [jump].

   Records take one unit of two words. A reservation has up to MOST; those behind the first may be given up, as of one who died;
   and its producer may die before the exchange. What is
   reserved and not stamped is not reserved again by others (that is many_producers.pml), else nobody holds the producers back.

   Memory: stores become visible in order from the fence behind [reserve] on, up to [stamp]; without it (mutant) the tail that
   observers load may lag behind the bytes. The observer's loads are made in program order; mutants move them.

   Properties: (1) what is handed out is whole, and the message of that position, (2) the number that the observer keeps is that of
   its position, so that what it received, what it lost and what never came add up (`lost` is exact), (3) it never goes back,
   (4) some place is before the tail and not more than CAP before it, so that it never goes past what it could still read.

   Sizes: CAP, END (units), PRODUCERS, CHUNK (at most half of CAP, or 1 of 2), MOST (records in a reservation). */
#ifndef CAP
#define CAP 2
#endif
#ifndef END
#define END 5
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifdef WAS_NUMBER                 /* before (4): the tail was a place to go to */
#define WAS_TAIL
#endif
#ifdef WAS_TAIL
#define WAS_NOTE_LATE
#endif
#ifndef MOST
#define MOST 2
#endif
#ifndef CHUNK
#define CHUNK 1                   /* units from boundary to boundary */
#endif
#define PLACES (2 * CAP / CHUNK)  /* boundaries, of two laps */
#define NONE 255
#define COMMITTED 1
#define ABORTED 2
#define SHOW tail_seen = tail; number_seen = number
#define CELL(p) ((p) % CAP)
#define PLACE(p) ((p) / CHUNK % PLACES)
#define PASSES(p, q) ((p) / CHUNK != (q) / CHUNK)

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

inline put(p, e, c) {               /* boundary_note */
  if
  :: place[e] == NONE || place[e] < p -> place[e] = p; count[e] = c
  :: else
  fi
}

inline check_places() {             /* property (4) */
#ifndef WAS_TAIL
  i = 0;
  do
  :: i < PLACES && !(place[i] < tail && place[i] + CAP >= tail) -> i++
  :: else -> break
  od;
  assert(tail == 0 || i < PLACES);
  i = 0
#else
  skip
#endif
}

proctype producer(byte me) {
  byte at, end, n, i, entry, noted = NONE, lead;
  do
  :: atomic { tail < END -> at = tail; end = at + 1;                           /* [tail] reserve_look */
       do :: end < at + MOST && end < END -> end++ :: break od
     };
     n = number;
#ifndef NO_LEAD_CHECK
     atomic { if :: at != tail -> at = 0; end = 0; n = 0; goto again :: else fi };         /* [note] reserve_lead */
#endif
     atomic {                                                                  /* [note] */
       lead = noted;
#ifndef WAS_NOTE_LATE
       if
       :: PASSES(at, end) || noted == NONE || end > noted + CAP ->
#ifdef SAME_ENTRY
          entry = PLACE(end);
#else
          entry = (PASSES(at, end) -> PLACE(end) : PLACE(end + CHUNK));
#endif
#ifndef NO_LEAVE
          if
          :: place[entry] != NONE && !PASSES(place[entry], at) && end <= place[entry] + CAP
          :: else -> put(at, entry, n)
          fi;
#else
          put(at, entry, n);
#endif
          lead = place[entry]; entry = 0;
          check_places()
       :: else
       fi
#endif
     };
     atomic {
       if
       :: tail == at && number == n && (OPENED == NONE || end <= OPENED + CAP) ->
          tail = end; opened[me] = at; noted = lead; lead = 0;                 /* [reserve] */
          truth[at] = n;
          i = at;
          do :: i != end -> i++; n++; truth[i] = n :: else -> break od;
          number = n; i = 0;
          check_places()
       :: else -> at = 0; end = 0; n = 0; lead = 0; goto again
       :: at = 0; end = 0; n = 0; lead = 0; break                              /* killed before */
       fi
     };
#ifndef NO_LAPPING_FENCE
     atomic { SHOW };                                                          /* [lapping] */
#endif
#ifdef WAS_NOTE_LATE
     atomic {
       if :: PASSES(at, end) -> put(at, PLACE(end), truth[at]) :: else fi;
       check_places()
     };
#endif
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
     atomic { opened[me] = NONE; at = 0; end = 0; n = 0 };
again:
     skip
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
        do
        :: high = tail_seen;
#ifdef WAS_TAIL
           atomic { low = (high > CAP -> high - CAP : 0); high = high - 1; found = NONE };
#else
           atomic { high = high - 1; low = high + 1 - CAP; found = NONE };
#endif
           find();
#ifndef WAS_TAIL
           if :: found != NONE -> break :: else fi                             /* the tail moved, or an entry under our look */
#else
           break
#endif
        od;
        if
#ifdef WAS_TAIL
        :: atomic { found == NONE };                                           /* the tail and its number */
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
#endif
        :: atomic { found != NONE }
        fi;
        atomic {
          assert(found > at);
#ifndef WAS_NUMBER
          assert(found < tail_seen && found <= high);
#endif
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
