/* The data doorbell of shmring/_core/doorbell.pxd, step by step under the names used there (W1..W6, N1..N5), with the waits of
   shmring/participant.pyx around it (wait_for, park_once, arm, calm_down).

   One producer (a successor may follow a dead one) publishes records, alone or in batches. Two exclusive groups sleep on words of
   their own; group 0's member may be shared by two threads of its process, group 1's member may die and have a successor.

   Memory. The producer has a store buffer of one entry: N1 goes into it and becomes visible at any later time, at N3, or when a
   waiter's membarrier (W1) reaches a registered producer. Each member has one of two entries, cursor and parked bit, which W2's
   fence, the GIL's release and read-modify-writes drain in order. Loads are made in program order.

   Property (deadlock = "invalid end state"): nobody sleeps for ever while something is published for it. A thread may stop calling
   at any time and the producer may stop after any record, so a wake-up that is lost is never made good by a later one. Time
   slices end by themselves only after a producer died between N1 and N5; deaths elsewhere do not excuse anybody.

   Sizes:   MSG records, THREADS of group 0, CRASHES, SHUTDOWN (somebody may shut the ring down). Mutants: see run.py. */
#ifndef MSG
#define MSG 3
#endif
#ifndef THREADS
#define THREADS 1
#endif
#ifndef GROUPS
#define GROUPS 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif

byte tail;                        /* as everybody sees it */
bit stored; byte store;           /* the producer's store buffer: a tail that nobody sees yet */
bit registered;                   /* the running producer could register for membarrier; if not, it must fence */
byte armed, parked;               /* a bell's bits: one per participant; participant = group here */
byte cursor[2];                   /* groups[g].cursor, as everybody sees it */
bit cursor_stored[2]; byte cursor_store[2]; bit bit_stored[2];      /* the members' store buffers */
byte seq[2];
bit asleep[3];                    /* by thread: 0 and 2 belong to group 0, 1 to group 1 */
byte mine[2];                     /* Reader.cursor: private to the member's process, as are the next two */
bit is_armed[2];
byte n_parked[2];
bit gil[2];
byte crashes; bit slices, finished, down;

#ifdef SHARED_WORD
#define WORD(g) 0
#else
#define WORD(g) g
#endif
#define READY(g) (mine[g] != tail || down)

inline drain_producer() { if :: stored -> tail = store; stored = 0 :: else fi }
inline drain_cursor(g) { if :: cursor_stored[g] -> cursor[g] = cursor_store[g]; cursor_stored[g] = 0; cursor_store[g] = 0 :: else fi }
inline drain_member(g) { drain_cursor(g); if :: bit_stored[g] -> parked = parked | (1 << g); bit_stored[g] = 0 :: else fi }
#if THREADS == 2
#define TAKE_GIL atomic { !gil[g] -> gil[g] = 1 }
#define DROP_GIL atomic { drain_member(g); gil[g] = 0 }
#else
#define TAKE_GIL skip
#define DROP_GIL skip
#endif

/* futex wake 1: any one sleeper on the word */
inline wake_one(w) {
  if
  :: asleep[0] && WORD(0) == w -> asleep[0] = 0
  :: asleep[1] && WORD(1) == w -> asleep[1] = 0
#if THREADS == 2
  :: asleep[2] && WORD(0) == w -> asleep[2] = 0
#endif
  :: !(asleep[0] && WORD(0) == w) && !(asleep[1] && WORD(1) == w) && !(asleep[2] && WORD(0) == w)
  fi
}

inline bump(w) {
#ifndef NO_SEQUENCE
  seq[w] = (seq[w] + 1) % 8
#else
  skip
#endif
}

/* What a store buffer does on its own. */
active proctype memory() {
end:
  do
  :: atomic { stored -> tail = store; stored = 0 }
  :: atomic { cursor_stored[0] -> drain_cursor(0) }
#if GROUPS == 2
  :: atomic { cursor_stored[1] -> drain_cursor(1) }
#endif
#ifndef CURSOR_AFTER_BIT
  :: atomic { bit_stored[0] && !cursor_stored[0] -> drain_member(0) }
  :: atomic { bit_stored[1] && !cursor_stored[1] -> drain_member(1) }
#else
  :: atomic { bit_stored[0] -> parked = parked | 1; bit_stored[0] = 0 }
  :: atomic { bit_stored[1] -> parked = parked | 2; bit_stored[1] = 0 }
#endif
  od
}

#define MAYDIE(unrung) if :: skip :: atomic { crashes < CRASHES -> crashes++; slices = slices | unrung; goto dead } fi

#if defined(WAS_EQUAL)            /* the first version's rule: nobody took the first record meanwhile */
#define CONCERNS(g) (cursor[g] == at)
#elif defined(RULE_NEW_TAIL)
#define CONCERNS(g) (cursor[g] == at + n)
#elif defined(RULE_AFTER_FIRST)
#define CONCERNS(g) (cursor[g] > at && cursor[g] < at + n)
#else                             /* what was published covers the group's cursor */
#define CONCERNS(g) (cursor[g] >= at && cursor[g] < at + n)
#endif
#define LOOK_AT(g) atomic { if :: (bits & (1 << g)) && CONCERNS(g) -> due = due | (1 << g) :: else fi }

/* [N5] */
inline RING(g) {
  if
  :: due & (1 << g) ->
     MAYDIE(1);
#ifdef NOTIFIER_CLEARS
     atomic { drain_producer(); parked = parked & ~(1 << g) };
#endif
#ifndef WAKE_FIRST
     atomic { drain_producer(); bump(WORD(g)) };
     MAYDIE(1);
     atomic { wake_one(WORD(g)) }
#else
     atomic { wake_one(WORD(g)) };
     atomic { drain_producer(); bump(WORD(g)) }
#endif
  :: else
  fi
}

proctype producer() {
  byte at, n, bits, due;
again:
  atomic {
    at = tail;
    if :: registered = 1 :: registered = 0 fi
  };
  do
  :: at < MSG ->
     atomic { if :: n = 1 :: at + 2 <= MSG -> n = 2 fi };
     MAYDIE(0);
     atomic { drain_producer(); store = at + n; stored = 1 };                  /* [N1] */
     MAYDIE(1);
     if                                                                        /* [N2] */
#ifndef NO_MUST_FENCE
     :: !armed && registered -> goto published
     :: armed || !registered -> skip
#else
     :: !armed -> goto published
     :: armed -> skip
#endif
     fi;
     MAYDIE(1);
#ifndef NO_N3
     atomic { drain_producer() };                                              /* [N3] */
#endif
     atomic { bits = parked; if :: bits == 0 -> goto published :: else fi };   /* [N4] */
     LOOK_AT(0);
#if GROUPS == 2
     LOOK_AT(1);
#endif
     bits = 0;
     RING(0);
#if GROUPS == 2
     RING(1);
#endif
published:
     atomic { at = at + n; n = 0; due = 0 }
  :: break
  od;
  goto out;
dead:
  atomic {
    drain_producer(); n = 0; bits = 0; due = 0;
    if :: goto again :: skip fi                            /* a successor, or none */
  };
out:
  finished = 1
}

#define MEMBERDIES if :: skip :: atomic { g == 1 && crashes < CRASHES -> crashes++; asleep[1] = 0; goto dead } fi

proctype member(byte g; byte me) {
  byte s; bit is_ready, timed_out;
again:
  TAKE_GIL;
  do
  :: atomic { mine[g] != tail -> drain_cursor(g); mine[g]++; cursor_store[g] = mine[g]; cursor_stored[g] = 1 };  /* a record is taken */
     MEMBERDIES
  :: break                                                 /* no more calls from this thread */
#ifndef DISARM_WHILE_PARKED
  :: atomic { is_armed[g] && n_parked[g] == 0 ->           /* calm_down [calm] */
#else
  :: atomic { is_armed[g] ->
#endif
       drain_member(g);
#ifndef NO_REARM
       is_armed[g] = 0;
#endif
       armed = armed & ~(1 << g) }
  :: mine[g] == tail && !down ->
     do                                                    /* wait_for: one time slice after the other */
     :: if
        :: is_armed[g]
        :: else ->
           is_armed[g] = 1;
#ifdef MEMBARRIER_FIRST
           atomic { if :: registered -> drain_producer() :: else fi };
#endif
           atomic { drain_member(g); armed = armed | (1 << g) };               /* [W1] */
           MEMBERDIES;
#if !defined(NO_MEMBARRIER) && !defined(MEMBARRIER_FIRST)
           atomic { if :: registered -> drain_producer() :: else fi }
#endif
        fi;
        atomic { n_parked[g]++; if :: parked & (1 << g) :: else -> bit_stored[g] = 1 fi };                       /* [W2] */
#if defined(CURSOR_UNFENCED)
        atomic { parked = parked | (1 << g); bit_stored[g] = 0 };
#elif !defined(NO_W2_FENCE)
        atomic { drain_member(g) };
#endif
        MEMBERDIES;
#ifndef LOOK_FIRST
        s = seq[WORD(g)];                                                      /* [W3] */
#ifndef NO_SECOND_LOOK
        is_ready = READY(g);                                                   /* [W4] */
#endif
#else
        is_ready = READY(g);
        s = seq[WORD(g)];
#endif
        if
        :: is_ready
        :: else ->
           DROP_GIL;
           atomic { if :: seq[WORD(g)] == s -> asleep[me] = 1 :: else fi; s = 0 };                               /* [W5] */
           if
           :: !asleep[me]
           :: atomic { slices && asleep[me] -> asleep[me] = 0 }
           :: atomic { me == 2 && asleep[me] -> asleep[me] = 0; timed_out = 1 }          /* thread 2 has a deadline */
           :: atomic { g == 1 && crashes < CRASHES -> crashes++; asleep[me] = 0; goto dead }
           :: atomic { finished && !stored && mine[g] == tail && !down -> asleep[me] = 0; goto out }      /* nothing will ever come */
           fi;
           TAKE_GIL
        fi;
        atomic {                                                               /* [W6] */
          n_parked[g]--; s = 0;
#ifndef UNPARK_SHARED
          if
          :: n_parked[g] == 0 ->
#else
          if
          :: true ->
#endif
             drain_member(g); parked = parked & ~(1 << g)
          :: else
          fi
        };
        MEMBERDIES;
        atomic { is_ready = 0; if :: READY(g) || timed_out -> break :: else fi }
     od;
#ifndef NO_HANDOFF
     if                                                    /* the wake may have been meant for another thread of ours */
#ifdef WAS_WAIT_ANY
     :: n_parked[g] && me != 2 ->                          /* thread 2 waits in shmring.wait, which did not pass the wake on */
#else
     :: n_parked[g] ->
#endif
        atomic { drain_member(g); bump(WORD(g)) };
        atomic { wake_one(WORD(g)) }
     :: else
     fi;
#endif
     if :: timed_out -> break :: else fi
  :: down && mine[g] == tail -> break
  od;
  DROP_GIL;
  goto out;
dead:                                                      /* its stores become visible; repair clears its bits, and only its */
  atomic {
    drain_member(g); s = 0; is_ready = 0; is_armed[g] = 0; n_parked[g] = 0;
    if :: goto out :: skip fi
  };
#ifndef REPAIR_CLEARS_ALL
  armed = armed & ~(1 << g);                               /* [clear bits] */
  parked = parked & ~(1 << g);
#else
  armed = 0;
  parked = 0;
#endif
  atomic {                                                 /* the successor may get a record again */
    if :: mine[g] > 0 -> mine[g]-- :: skip fi;
    cursor_store[g] = mine[g]; cursor_stored[g] = 1;
    goto again
  };
out:
  skip
}

#ifdef SHUTDOWN
/* Ring.shutdown, doorbell_ring_all: no look at any bit. */
proctype closer() {
  if
  :: skip
  :: down = 1;                                             /* [shutdown], with the fence */
     atomic { bump(WORD(0)) };
     atomic { asleep[0] = 0; asleep[2] = 0 };
#if GROUPS == 2
     atomic { bump(WORD(1)) };
     atomic { asleep[1] = 0 }
#endif
  fi
}
#endif

init {
  atomic {
    run producer(); run member(0, 0);
#if GROUPS == 2
    run member(1, 1);
#endif
#if THREADS == 2
    run member(0, 2);
#endif
#ifdef SHUTDOWN
    run closer();
#endif
  }
}
