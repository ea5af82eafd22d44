/* The room doorbell: producers that wait for room, and consumers that release. Steps as in shmring/_core/doorbell.pxd; here the
   notifiers are the members of two groups (N1 is the store of a head) and the waiters are threads of the single producer.

   A sleeping producer says in room_target which position every head must reach. A release from old_head to new_head rings if
   old_head < room_target <= new_head; with two groups the last one to pass it finds the room.

   Memory: each consumer has a store buffer of one entry for its head, as in doorbell.pml; the producer's room_target stays in its
   buffer until W2's fence (or a read-modify-write). The bits themselves are read-modify-writes.

   Property (deadlock): no thread of the producer sleeps for ever while what it wants to write fits. Consumers may stop after any
   release and threads after any record; a time slice ends by itself only after a consumer died between N1 and N5.

   Sizes: CAP, END (the last position), CONSUMERS, THREADS of the producer, CRASHES, JOINER (a group joins meanwhile, and may be removed). */
#ifndef CAP
#define CAP 2
#endif
#ifndef END
#define END 5
#endif
#ifndef THREADS
#define THREADS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifdef JOINER
#define OTHERS (CONSUMERS + 1)
#else
#define OTHERS CONSUMERS
#endif
#if defined(WAS_ANNOUNCE) || defined(WAS_AIM) || defined(AIM_AND_LOOK)
#define LATE_SEQUENCE             /* [W3] after W2, as in doorbell.pxd's list */
#endif
#define FREE 0
#define JOINING 1
#define ACTIVE 2

byte position;                    /* Writer.position = tail: what the producer published is seen at once (doorbell.pml has that) */
byte head[3];                     /* as everybody sees them; 2 belongs to the joiner */
byte state = FREE;                /* of the joiner's entry */
bit stored[2]; byte store[2];     /* the consumers' store buffers */
bit registered[2];
bit armed, parked;
byte room_target, target_store; bit target_stored;
byte seq;
bit asleep[3];
bit is_armed; byte n_parked; bit gil; byte target_seq;      /* private to the producer's process */
byte crashes, n_done; bit slices;

#define LESS(a, b) (a < b -> a : b)
#if CONSUMERS == 2
#define LOWEST LESS(head[0], head[1])
#else
#define LOWEST head[0]
#endif
#ifdef JOINER
#define GATE LESS(LOWEST, (state != FREE -> head[2] : 255))
#else
#define GATE LOWEST
#endif
#define LATEST_TARGET (target_stored -> target_store : room_target)
#define FITS(span) (position + span <= GATE + CAP)

inline drain(c) { if :: stored[c] -> head[c] = store[c]; stored[c] = 0; store[c] = 0 :: else fi }
inline drain_target() { if :: target_stored -> room_target = target_store; target_stored = 0; target_store = 0 :: else fi }
inline wake_all() { asleep[0] = 0; asleep[1] = 0; asleep[2] = 0 }
inline wake_one() {
  if
  :: asleep[0] -> asleep[0] = 0
  :: asleep[1] -> asleep[1] = 0
  :: asleep[2] -> asleep[2] = 0
  :: !asleep[0] && !asleep[1] && !asleep[2]
  fi
}
inline bump() {
#ifndef NO_SEQUENCE
  seq = (seq + 1) % 16
#else
  skip
#endif
}
#if THREADS >= 2
#define TAKE_GIL atomic { !gil -> gil = 1 }
#define DROP_GIL atomic { drain_target(); gil = 0 }
#else
#define TAKE_GIL skip
#define DROP_GIL skip
#endif

active proctype memory() {
end:
  do
  :: atomic { stored[0] -> drain(0) }
#if CONSUMERS == 2
  :: atomic { stored[1] -> drain(1) }
#endif
  :: atomic { target_stored -> drain_target() }
  od
}

#define MAYDIE(unrung) if :: skip :: atomic { crashes < CRASHES -> crashes++; slices = slices | unrung; goto dead } fi

proctype consumer(byte c) {
  byte old, new;
  atomic { if :: registered[c] = 1 :: registered[c] = 0 fi };      /* a process that cannot register must fence */
  do
  :: old < position ->
     atomic { if :: new = old + 1 :: old + 2 <= position -> new = old + 2 fi };
     MAYDIE(0);
     atomic { drain(c); store[c] = new; stored[c] = 1 };                       /* [N1] */
     MAYDIE(1);
     if                                                                        /* [N2] */
#ifndef NO_MUST_FENCE
     :: !armed && registered[c] -> goto released
     :: armed || !registered[c]
#else
     :: !armed -> goto released
     :: armed
#endif
     fi;
#ifndef NO_N3
     atomic { drain(c) };                                                      /* [N3] */
#endif
     MAYDIE(1);
     if                                                                        /* [N4] */
     :: !parked -> goto released
     :: parked
     fi;
     atomic {
       if
#if defined(RULE_EQUAL)
       :: room_target == new
#elif defined(RULE_BEFORE)
       :: old <= room_target && room_target < new
#elif defined(RULE_OPEN)
       :: old < room_target && room_target < new
#else
       :: old < room_target && room_target <= new
#endif
       :: else -> goto released
       fi
     };
     MAYDIE(1);
     atomic { drain(c); bump() };                                              /* [N5] */
     MAYDIE(1);
#ifndef WAKE_ONE
     atomic { wake_all() };
#else
     atomic { wake_one() };
#endif
released:
     atomic { old = new; new = 0 }
  :: break
  od;
dead:
  atomic { drain(c); n_done++ }
}

proctype thread(byte me) {
  byte span, s, target, gate; bit is_ready, timed_out;
  TAKE_GIL;
  do
  :: position < END ->
     atomic { if :: span = 1 :: position + 2 <= END -> span = 2 fi };
     do
     :: FITS(span) -> position = position + span; break
     :: else ->
        do                                                 /* wait_for */
        :: if
           :: is_armed
           :: else ->
              is_armed = 1;
              atomic { drain_target(); armed = 1 };                            /* [W1] */
#ifndef NO_MEMBARRIER
              atomic { if :: registered[0] -> drain(0) :: else fi; if :: registered[1] -> drain(1) :: else fi }
#endif
           fi;
#ifndef LATE_SEQUENCE
           s = seq;                                                            /* [W3], before the target is chosen */
#endif
           target = position + span - CAP;                                     /* announce, produce_aim */
#if defined(WAS_ANNOUNCE)                                  /* the lowest of all that sleep */
           if :: n_parked && LATEST_TARGET <= target -> target = LATEST_TARGET :: else fi;
#elif defined(WAS_AIM) || defined(AIM_AND_LOOK)            /* if others sleep: the next movement of the gate */
           if :: n_parked -> target = GATE + 1 :: else fi;
#elif !defined(ANNOUNCE_OWN)                               /* the lowest, unless the word says that it was rung for */
           if :: n_parked && s == target_seq && LATEST_TARGET <= target -> target = LATEST_TARGET :: else fi;
#endif
           atomic { drain_target(); target_store = target; target_stored = 1; target_seq = s; n_parked++ };
           parked = 1;                                                         /* [W2] */
#ifndef NO_W2_FENCE
           atomic { drain_target() };
#endif
#if defined(LATE_SEQUENCE) || defined(SEQUENCE_TWICE)
           s = seq;                                                            /* [W3] */
#endif
#ifndef NO_SECOND_LOOK
           gate = head[0];                                                     /* [W4]: one head after the other */
#if CONSUMERS == 2
           gate = LESS(gate, head[1]);
#endif
#ifdef JOINER
           atomic { if :: state != FREE -> gate = LESS(gate, head[2]) :: else fi };
#endif
#ifndef AIM_AND_LOOK
           atomic { is_ready = (position + span <= gate + CAP); gate = 0 };
#else                                                      /* does not sleep on a target that was passed already */
           atomic { is_ready = (position + span <= gate + CAP || target <= gate); gate = 0 };
#endif
#endif
           if
           :: is_ready
           :: else ->
              DROP_GIL;
              atomic { if :: seq == s -> asleep[me] = 1 :: else fi; s = 0 };                                     /* [W5] */
              if
              :: !asleep[me]
              :: atomic { slices && asleep[me] -> asleep[me] = 0 }
              :: atomic { me == 1 && asleep[me] -> asleep[me] = 0; timed_out = 1 }       /* thread 1 has a deadline */
              :: atomic { n_done == OTHERS && !FITS(span) && asleep[me] -> asleep[me] = 0; goto out }    /* no room will ever come */
              fi;
              TAKE_GIL
           fi;
           atomic {                                                            /* [W6] */
             drain_target(); n_parked--; s = 0; target = 0;
             if :: n_parked == 0 -> parked = 0 :: else fi
           };
           atomic { is_ready = 0; if :: FITS(span) || timed_out -> break :: else fi }
        od;
#ifndef NO_HANDOFF
        if                                                 /* another thread of ours sleeps on the same word */
        :: n_parked ->
           atomic { drain_target(); bump() };
#ifdef HANDOFF_ONE
           atomic { wake_one() }
#else
           atomic { wake_all() }
#endif
        :: else
        fi;
#endif
        if :: timed_out -> goto leave :: else fi
     od;
     if :: is_armed && n_parked == 0 -> atomic { is_armed = 0; drain_target(); armed = 0 } :: skip fi    /* calm_down */
  :: break
  od;
leave:
  DROP_GIL;
out:
  skip
}

#ifdef JOINER
/* Ring._make_group and Ring.remove_group, as far as producers wait for them. */
proctype joiner() {
  byte lowest;
  if
  :: skip
  :: lowest = LOWEST;
     atomic { head[2] = lowest; state = JOINING };
     lowest = LOWEST;
     atomic { head[2] = lowest; state = ACTIVE };
#ifndef WAS_SETTLE_SILENT
     atomic { bump() };
     atomic { wake_all() };
#endif
     if
     :: skip
     :: state = FREE;
#ifndef REMOVE_SILENT
        atomic { bump() };
        atomic { wake_all() }
#endif
     fi
  fi;
  n_done++
}
#endif

init {
  atomic {
    run consumer(0); run thread(0);
#if CONSUMERS == 2
    run consumer(1);
#endif
#if THREADS >= 2
    run thread(1);
#endif
#if THREADS == 3
    run thread(2);
#endif
#ifdef JOINER
    run joiner();
#endif
  }
}
