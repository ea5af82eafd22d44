/* The data doorbell where several sleep on one group's word, and several producers complete their records out of order:
   doorbell_ring_data (N1..N5) and the waits of doorbell.pml, with claim_pass_on and claim_skip of claim.pxd. Names as there; here
   also [claim] [skip] [pass on].

   Two producers own every other record (or, BATCH, the first two and the rest) and stamp theirs in order. Whoever shows the record
   at the group's head wakes one; whoever claims wakes the next one if there is more. Sleepers are members of the group, or (ONE)
   threads of its only member. A record may be given up (ABORT).

   Memory: each producer's stamp goes into a store buffer of one entry until N3, or any time before. A moved head is what the next
   exchange compares with at once, but loads may see the old one until the mover's fence. N2 and W1 are left out: everybody is
   armed (doorbell.pml has them).

   Property (deadlock): nobody sleeps for ever while a record that was shown stands at the head. Everybody may stop calling at any
   time. A time slice ends by itself only after a notifier was killed between N1 and N5, or somebody who was awake for a record.

   Sizes: MSG, SLEEPERS, ABORT, BATCH, ONE, CRASHES. */
#ifndef MSG
#define MSG 3
#endif
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#define ALL ((1 << SLEEPERS) - 1)
byte shown, given_up;             /* by position: stamps that everybody sees; which are ABORTED */
bit stored[2]; byte store[2];     /* the producers' store buffers */
byte head, head_seen;             /* as an exchange finds it; as others load it */
byte moved = ALL;                 /* who would see that the sequence moved since its W3: it never wraps */
byte parked;                      /* ONE: a count, as its threads share a bit */
bit asleep[SLEEPERS];
byte crashes, n_done; bit slices;

#define IS_SHOWN(p) (shown & (1 << (p)))
#define IS_ABORTED(p) (given_up & (1 << (p)))
#ifdef BATCH
#define OWNER(p) ((p) >= 2)
#else
#define OWNER(p) ((p) % 2)
#endif
#if SLEEPERS == 3
#define NOBODY (!asleep[0] && !asleep[1] && !asleep[2])
#else
#define NOBODY (!asleep[0] && !asleep[1])
#endif

inline drain(i) { if :: stored[i] -> shown = shown | (1 << store[i]); stored[i] = 0; store[i] = 0 :: else fi }
inline ring_one() {                                        /* [N5] */
  atomic { moved = ALL };
  atomic {
    if
    :: asleep[0] -> asleep[0] = 0
    :: asleep[1] -> asleep[1] = 0
#if SLEEPERS == 3
    :: asleep[2] -> asleep[2] = 0
#endif
    :: NOBODY
    fi
  }
}

active proctype memory() {
end_idle:
  do
  :: atomic { stored[0] -> drain(0) }
  :: atomic { stored[1] -> drain(1) }
  :: atomic { head_seen != head -> head_seen = head }
  od
}

#define DIES(unrung) if :: skip :: atomic { crashes < CRASHES -> crashes++; slices = slices | unrung; goto died } fi

proctype producer(byte me) {
  byte at, begin, h; bit untold;
  do
  :: atomic { at < MSG && OWNER(at) != me -> at++; begin = at }
  :: atomic { at < MSG && OWNER(at) == me ->
       drain(me); store[me] = at; stored[me] = 1;                              /* [N1]: record_stamp */
#ifdef ABORT
       if :: skip :: given_up = given_up | (1 << at) fi;
#endif
       at++ };
     DIES(1);
#ifdef BATCH
     if :: at < MSG && OWNER(at) == me && at < begin + 2 -> goto next :: else fi;
#endif
#ifdef WAS_FORGOTTEN
     if                                                    /* the next reservation makes it forget what it has not told of */
     :: atomic { at + 1 < MSG -> begin = at; untold = 1; goto next }
     :: untold = 0
     fi;
#endif
     atomic { drain(me) };                                                     /* [N3] */
     if
     :: parked ->                                                              /* [N4] */
        h = head_seen;
        if
#if defined(RULE_BEGIN)
        :: h == begin ->
#elif defined(RULE_LAST)
        :: h + 1 == at ->
#else
        :: begin <= h && h < at ->
#endif
           DIES(1);
           ring_one()
        :: else
        fi
     :: else
     fi;
     atomic { begin = at; h = 0 };
next:
     skip
  :: at == begin && !untold -> break                                  /* everything is published */
  od;
died:
  atomic { drain(me); at = 0; begin = 0; h = 0; n_done++ }
}

/* claim_pass_on, after the head moved */
inline pass_on() {
#ifndef NO_PASS_FENCE
  atomic { head_seen = head };
#endif
  if
  :: atomic { parked && IS_SHOWN(head) }; ring_one()
  :: atomic { !parked || !IS_SHOWN(head) }
  fi
}

proctype sleeper(byte me) {
  byte at, to; bit is_ready, woken;
  do
  :: atomic { IS_SHOWN(head) -> at = head; to = head; woken = 0 };                        /* reader_find */
     do
     :: atomic { IS_SHOWN(to) && IS_ABORTED(to) -> to++ }
     :: atomic { IS_SHOWN(to) && !IS_ABORTED(to) ->
          if :: head == at -> head = to + 1; is_ready = 1; break :: else -> break fi }      /* [claim] */
     :: atomic { !IS_SHOWN(to) }; break
     od;
     if
     :: atomic { is_ready -> is_ready = 0 };
        DIES(1);
#if defined(ONE) && defined(WAS_THREAD_SILENT)
        skip
#elif !defined(NO_PASS_ON)
        pass_on()                                                              /* [pass on] */
#else
        skip
#endif
     :: atomic { !is_ready && at != to };
        atomic { if :: head == at -> head = to; is_ready = 1 :: else fi };     /* [skip] */
        DIES(1);
        if
        :: atomic { is_ready -> is_ready = 0 };
#ifndef WAS_SKIP_SILENT
        pass_on()
#else
        skip
#endif
        :: atomic { !is_ready }
        fi
     :: atomic { !is_ready && at == to }
     fi;
     atomic { at = 0; to = 0 }
  :: atomic { !woken -> break }                            /* no more calls */
  :: atomic { !IS_SHOWN(head) -> woken = 0 };              /* wait_for */
     do
     :: moved = moved & ~(1 << me);                                            /* [W3] */
#ifdef ONE
        atomic { parked++ };                                                   /* [W2] */
#else
        atomic { parked = parked | (1 << me) };
#endif
        DIES(0);
        is_ready = (IS_SHOWN(head_seen) != 0);                                 /* [W4] */
        if
        :: is_ready
        :: else ->
           atomic { if :: !(moved & (1 << me)) -> asleep[me] = 1 :: else fi };      /* [W5] */
           if
           :: !asleep[me]
           :: atomic { slices && asleep[me] -> asleep[me] = 0 }
           :: atomic { asleep[me] && crashes < CRASHES -> crashes++; asleep[me] = 0; goto died }
           :: atomic { n_done == 2 && !IS_SHOWN(head) && asleep[me] -> asleep[me] = 0; goto out }      /* nothing will ever come */
           fi;
           DIES(1)
        fi;
#ifdef ONE
        atomic { parked--; moved = moved | (1 << me); is_ready = (IS_SHOWN(head_seen) != 0) };     /* [W6] */
#else
        atomic { parked = parked & ~(1 << me); moved = moved | (1 << me); is_ready = (IS_SHOWN(head_seen) != 0) };
#endif
        if
        :: atomic { is_ready -> is_ready = 0; woken = 1; break }      /* and will look */
        :: atomic { !is_ready }; break                                         /* its time is up */
        :: atomic { !is_ready }
        fi
     od;
#ifdef ONE
     if                                                    /* end_wait: another thread of ours sleeps on the same word */
     :: atomic { parked };
        atomic { moved = ALL };
        atomic { asleep[0] = 0; asleep[1] = 0 }
     :: atomic { !parked }
     fi
#endif
  od;
  goto out;
died:                                                      /* repair clears its bit, and only its */
  atomic { at = 0; to = 0; moved = moved | (1 << me); is_ready = 0; woken = 0 };
  parked = parked & ~(1 << me);
out:
#ifdef ONE
  skip
#else
  atomic { parked = parked & ~(1 << me) }
#endif
}

init {
  atomic {
    run producer(0); run producer(1); run sleeper(0); run sleeper(1);
#if SLEEPERS == 3
    run sleeper(2)
#endif
  }
}
