/* The room doorbell where open reservations of many producers gate: produce_win, produce_publish and produce_abort with gate_scan,
   gate_look_at_intent and gate_opened of gate.pxd, and the waits of room.pml. Names as there and in many_producers.pml:
   [intend: NONE] [intend] [reserve] [stamp] [give up] [withdraw] [scan] [aim].

   An intent gates as soon as it is up, also that of an attempt which then fails, unless another one's record stands in its place, or
   one that was given up.
   Whoever takes one away looks whether that opened the gate for a sleeper whose target lies behind it: after its stamps, after it
   gave up, and after an attempt that failed. The member of the only group moves the head past what is stamped; or (ALONE) there is
   no group, and nothing but reservations gates.

   Memory: sequentially consistent, by the full fences of W2 and N3 (room.pml has store buffers, N2 and W1).

   Properties: (1) no producer sleeps for ever while its record fits (deadlock), (2) nobody wins what another one has won and not
   stamped. Everybody may stop calling at any time, between two calls; nobody dies.

   Sizes: CAP, END (units reserved), PRODUCERS, ALONE, BATCH (reservations of two units as well). */
#ifndef CAP
#define CAP 1
#endif
#ifndef END
#define END 3
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#define NONE 255
#define LESS(a, b) (a < b -> a : b)
#define CELL(p) ((p) % CAP)
#define ALL ((1 << PRODUCERS) - 1)

byte tail, head;
byte stamp[CAP], who[CAP];        /* which record stands there, its position + 1; of whom: slot + 1, or 0: ABORTED */
byte intent[PRODUCERS] = NONE;
byte target[PRODUCERS];           /* slot.awaited */
bit parked[PRODUCERS], asleep[PRODUCERS], done[PRODUCERS];        /* done: calls no more */
byte moved = ALL;                 /* who would see that the sequence moved since its W3: it never wraps */
bit consumer_done;
bit open[CAP];                    /* ghost: won, and not stamped */

#define IS_STAMPED(p) (stamp[CELL(p)] == (p) + 1)
/* gate_look_at_intent, at once */
#define GATES(n) (intent[n] <= tail && intent[n] + CAP >= tail && !(IS_STAMPED(intent[n]) && who[CELL(intent[n])] != n + 1))
#define START(n) (GATES(n) -> intent[n] : tail)
#ifdef ALONE
#define HEAD tail
#else
#define HEAD head
#endif
#define IS_QUIET(n) (asleep[n] || done[n])
#if PRODUCERS == 3
#define GATE LESS(HEAD, LESS(START(0), LESS(START(1), START(2))))
#define QUIET (IS_QUIET(0) && IS_QUIET(1) && IS_QUIET(2) && consumer_done)
#define PARKED (parked[0] | parked[1] << 1 | parked[2] << 2)
#else
#define GATE LESS(HEAD, LESS(START(0), START(1)))
#define QUIET (IS_QUIET(0) && IS_QUIET(1) && consumer_done)
#define PARKED (parked[0] | parked[1] << 1)
#endif
#define FITS(span) (tail + span <= END && tail + span <= GATE + CAP)

inline look_at_intent(n) {
  x = intent[n];
  if
  :: atomic { x < gate && x + CAP >= near };
     atomic { if :: stamp[CELL(x)] == x + 1 && who[CELL(x)] != n + 1 :: else -> gate = x fi; x = 0 }
  :: atomic { x >= gate || x + CAP < near -> x = 0 }
  fi
}
/* gate_scan [scan] for who writes at `near` */
inline scan() {
#ifdef ALONE
  gate = near;
#else
  atomic { gate = LESS(head, near) };
#endif
  look_at_intent(0);
  look_at_intent(1);
#if PRODUCERS == 3
  look_at_intent(2);
#endif
  skip
}

inline consider(p) {
  if
#ifdef WAS_NEAR
  :: atomic { bits & (1 << p) && old < target[p] && target[p] <= old + CAP -> aim = target[p] };
#else
  :: atomic { bits & (1 << p) && old < target[p] -> aim = target[p] };
#endif
     if
     :: atomic { gate == NONE -> near = tail }; scan()
     :: atomic { gate != NONE }
     fi;
     atomic { if :: gate >= aim -> due = 1 :: else fi; aim = 0 }
  :: else
  fi
}
/* gate_opened, after the release: N3 to N5 */
inline gate_opened(from) {
  atomic { old = from; bits = PARKED; gate = NONE };                           /* [N4] */
  consider(0);
  consider(1);
#if PRODUCERS == 3
  consider(2);
#endif
  if
  :: due ->                                                                    /* [N5]: wakes all */
     atomic { moved = ALL; due = 0 };
     atomic {
       asleep[0] = 0; asleep[1] = 0;
#if PRODUCERS == 3
       asleep[2] = 0;
#endif
       skip
     }
  :: else
  fi;
  atomic { old = 0; gate = 0; near = 0; bits = 0 }
}

proctype consumer() {
  byte at, old, gate, near, x, aim, bits; bit due;
#ifndef ALONE
  do
  :: atomic { IS_STAMPED(head) -> at = head; head++ };     /* [claim] [release]: one member */
     gate_opened(at);
     at = 0
  :: break
  od;
#endif
  consumer_done = 1
}

inline publish_untold() { if :: atomic { untold != NONE }; gate_opened(untold); untold = NONE :: atomic { untold == NONE } fi }

proctype producer(byte me) {
  byte at, span, lost, begin, untold, old, gate, near, x, aim, bits, cached; bit due, is_ready;
  atomic { lost = NONE; untold = NONE };
next:
  do
  :: atomic { tail < END -> at = tail; span = 1 };               /* [tail] */
#ifdef BATCH
     if :: skip :: atomic { tail + 2 <= END -> span = 2 } fi;
#endif
again:
     do                                                    /* produce_win, produce_strive */
     :: atomic { at + span > END -> at = 0; span = 0 };    /* the model's end */
        intent[me] = NONE;
        if :: atomic { lost != NONE }; gate_opened(lost); lost = NONE :: atomic { lost == NONE } fi;
#ifdef WAS_FORGOTTEN
        publish_untold();
#endif
        goto next
     :: atomic { at + span <= END && at + span > cached + CAP };
        intent[me] = NONE;                                                     /* [withdraw] */
#ifndef FAILED_SILENT
        if :: atomic { lost != NONE }; gate_opened(lost) :: atomic { lost == NONE } fi;
#endif
        at = tail;
        near = at;
        scan();
        atomic { cached = gate; gate = 0; near = 0 };
        if
        :: atomic { at + span > cached + CAP -> lost = NONE; at = 0 }; goto await
        :: atomic { at + span <= cached + CAP }
        fi
     :: atomic { at + span <= END && at + span <= cached + CAP };
        intent[me] = NONE;                                                     /* [intend: NONE] */
        intent[me] = at;                                                       /* [intend] */
        atomic {                                                               /* [reserve] */
          if
          :: tail == at ->
             tail = at + span;
             assert(!open[CELL(at)] && !open[CELL(at + span - 1)]);
             open[CELL(at)] = 1; open[CELL(at + span - 1)] = 1;
             break
          :: else -> if :: lost == NONE -> lost = at :: else fi; at = tail
          fi
        }
     od;
#ifndef FAILED_SILENT
     if :: atomic { lost != NONE }; gate_opened(lost) :: atomic { lost == NONE } fi;
#endif
     atomic { lost = NONE; untold = NONE; begin = at };
#ifdef TELL_FIRST
     gate_opened(begin);
#endif
     if
     :: atomic { stamp[CELL(at)] = at + 1; who[CELL(at)] = me + 1; open[CELL(at)] = 0; at++; span-- };         /* [stamp] */
        if
        :: atomic { span == 1 -> stamp[CELL(at)] = at + 1; who[CELL(at)] = me + 1; open[CELL(at)] = 0; span = 0 }
        :: atomic { span == 0 }
        fi;
        intent[me] = NONE;                                                     /* [withdraw] */
#ifdef WAS_FORGOTTEN
        if :: atomic { tail < END -> untold = begin; begin = 0; at = 0; goto next } :: skip fi;        /* published with the next one, which forgets it */
#endif
#if !defined(TELL_FIRST) && !defined(STAMP_SILENT)
        gate_opened(begin);                                                    /* produce_publish */
#endif
        skip
     :: atomic { span == 1 -> stamp[CELL(at)] = at + 1; who[CELL(at)] = 0; open[CELL(at)] = 0; span = 0 };     /* [give up] */
        intent[me] = NONE;                                                     /* [withdraw] */
#if !defined(TELL_FIRST) && !defined(GIVE_UP_SILENT)
        gate_opened(begin);
#endif
        skip
     fi;
     atomic { at = 0; begin = 0 }
#ifdef WAS_FORGOTTEN
  :: atomic { untold != NONE }; publish_untold()
#endif
  :: atomic { untold == NONE }; break
  od;
  goto out;
await:                                                     /* wait_for_room */
#ifdef WAS_FORGOTTEN
  publish_untold();
#endif
  do
  :: moved = moved & ~(1 << me);                                               /* [W3] */
     target[me] = tail + span - CAP;                                           /* produce_aim [aim] */
     parked[me] = 1;                                                           /* [W2] */
     near = tail;                                                              /* [W4] */
     scan();
     atomic { is_ready = (near + span <= gate + CAP || target[me] <= gate); gate = 0; near = 0 };
     if
     :: is_ready
     :: else ->
        atomic { if :: !(moved & (1 << me)) -> asleep[me] = 1 :: else fi };    /* [W5] */
        if
        :: !asleep[me]
        :: atomic { asleep[me] && QUIET && !FITS(span) -> asleep[me] = 0; goto out }           /* no room will ever come */
        fi
     fi;
     atomic {                                                                  /* [W6] */
       parked[me] = 0; moved = moved | (1 << me); is_ready = 0; target[me] = 0;
       if :: FITS(span) || tail + span > END -> at = tail; break :: else fi
     }
  od;
  goto again;
out:
  atomic { done[me] = 1; parked[me] = 0; at = 0; span = 0; begin = 0; lost = 0; cached = 0 }
}

init {
  atomic {
    run consumer(); run producer(0); run producer(1);
#if PRODUCERS == 3
    run producer(2)
#endif
  }
}
