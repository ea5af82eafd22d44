/* The room doorbell where several members of a group hold room, and several producers wait for it: gate_opened of gate.pxd with the
   claims of claim.pxd, and produce_aim with the waits of room.pml. Names as there; here also [hold] [claim] [release] [forget].

   A hold gates as soon as it is up, also that of an attempt which then fails; whoever takes one away looks whether that opened the
   gate for a sleeper whose target lies behind it: at the next claim that is won, or when it lets go (reader.low). With KEEP a member
   may keep what it has claimed for good.

   Memory: sequentially consistent, by the full fences of W2 and N3 (room.pml has store buffers, N2 and W1). The gate is read as
   gate_scan does: the head, then one hold after the other.

   Property (deadlock): no producer sleeps for ever while a record fits. Everybody may stop calling at any time, nobody dies.

   Sizes: CAP, END (records of one unit), PRODUCERS, MEMBERS, KEEP. */
#ifndef CAP
#define CAP 2
#endif
#ifndef END
#define END 4
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef MEMBERS
#define MEMBERS 2
#endif
#define NONE 255
#define LESS(a, b) (a < b -> a : b)

byte tail, head;
byte hold[MEMBERS] = NONE;
byte target[PRODUCERS];           /* slot.awaited */
bit parked[PRODUCERS], asleep[PRODUCERS];
byte seq, n_done;

#if MEMBERS == 3
#define LOWEST LESS(hold[0], LESS(hold[1], hold[2]))
#elif MEMBERS == 2
#define LOWEST LESS(hold[0], hold[1])
#else
#define LOWEST hold[0]
#endif
#define FITS (tail < END && tail + 1 <= LESS(head, LOWEST) + CAP)

/* gate_scan */
inline scan(gate) {
  gate = head;
  gate = LESS(gate, hold[0])
#if MEMBERS >= 2
  ; gate = LESS(gate, hold[1])
#endif
#if MEMBERS == 3
  ; gate = LESS(gate, hold[2])
#endif
}

/* gate_opened, after the release: N3 to N5 */
inline look_at(p) {
  if
#ifdef RULE_NEXT
  :: atomic { parked[p] && target[p] == old + 1 };         /* mutant: only who waits for this very record */
#else
  :: atomic { parked[p] && old < target[p] };              /* [N4] */
#endif
     aim = target[p];
     scan(gate);
     if
     :: gate >= aim -> due = 1
     :: else
     fi;
     aim = 0
  :: else
  fi
}
inline gate_opened(from) {
  old = from;
  look_at(0);
#if PRODUCERS == 2
  look_at(1);
#endif
  if
  :: due ->
     atomic { seq = (seq + 1) % 16; due = 0 };                                 /* [N5]: wakes all */
#if PRODUCERS == 2
     atomic { asleep[0] = 0; asleep[1] = 0 }
#else
     asleep[0] = 0
#endif
  :: else
  fi;
  atomic { old = 0; gate = 0 }
}

proctype member(byte me) {
  byte at, before, low, old, gate, aim; bit due;
  before = NONE; low = NONE;
  do
  :: atomic { head < tail -> at = head };
     do
     :: atomic {                                                               /* [hold] */
          at < tail -> before = hold[me]; hold[me] = at;
#ifndef WAS_FAILED_SILENT
          low = LESS(low, before);                         /* an attempt failed, and its hold is gone: claim_lower */
#endif
          before = NONE
        };
        atomic { if :: head == at -> head = at + 1; break :: else -> at = head fi }      /* [claim] */
     :: atomic { at >= tail -> low = LESS(low, hold[me]); hold[me] = NONE };   /* [forget] */
#ifndef WAS_FAILED_SILENT
        gate_opened(low);
#endif
        low = NONE;
        goto next
     od;
#ifndef WAS_TOLD_LATE
     if
     :: atomic { low != NONE }; gate_opened(low); low = NONE
     :: atomic { low == NONE }
     fi;
#endif
#ifdef KEEP
     if
     :: goto kept
     :: skip
     fi;
#endif
#ifndef RING_FIRST
     hold[me] = NONE;                                      /* [release] [N1] */
     at = LESS(at, low); low = NONE;
     gate_opened(at);
#else
     gate_opened(at);
     hold[me] = NONE;
#endif
next:
     at = 0
  :: break
  od;
#ifdef KEEP
kept:
#endif
  n_done++
}

proctype producer(byte me) {
  byte s, gate, seen; bit is_ready;
  do
  :: atomic { FITS -> tail++ }
  :: break
  :: atomic { tail < END && !FITS };
     do                                                    /* wait_for */
     :: s = seq;                                                               /* [W3] */
        target[me] = tail + 1 - CAP;                                           /* produce_aim [aim] */
        parked[me] = 1;                                                        /* [W2] */
        atomic { seen = tail };                                                /* [W4]: produce_has_room */
        scan(gate);
#ifndef WAS_PASSED
        atomic { is_ready = (seen + 1 <= gate + CAP || target[me] <= gate); gate = 0; seen = 0 };      /* not on a target that was passed */
#else
        atomic { is_ready = (seen + 1 <= gate + CAP); gate = 0; seen = 0 };
#endif
        if
        :: is_ready
        :: else ->
           atomic { if :: seq == s -> asleep[me] = 1 :: else fi; s = 0 };      /* [W5] */
           if
           :: !asleep[me]
           :: atomic { n_done == MEMBERS && !FITS && asleep[me] -> asleep[me] = 0; goto out }      /* no room will ever come */
           fi
        fi;
        atomic { parked[me] = 0; s = 0; is_ready = 0; target[me] = 0 };        /* [W6] */
        if
        :: FITS -> break
        :: tail == END -> break
        :: !FITS && tail < END
        fi
     od
  od;
out:
  skip
}

init {
  atomic {
    run member(0);
#if MEMBERS >= 2
    run member(1);
#endif
#if MEMBERS == 3
    run member(2);
#endif
    run producer(0);
#if PRODUCERS == 2
    run producer(1)
#endif
  }
}
