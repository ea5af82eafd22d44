/* A group of several members: claim.pxd from claim_range to claim_drop, gate_scan of gate.pxd, repair_judge, repair_bury and the
   adoption of repair.pxd, participant_enter of membership.pxd, under the names used there: [note] [hold] [grant] [claim] [keep]
   [release] [drop] [judge] [enter] [count] [clear].

   One producer writes records of one and two units in turn, and scans the gate when its room is used up. The members of SLOTS slots
   claim one record, or two together (BATCH), and release them at once or keep them (KEEP). Each may be killed between any two
   stores, also while it adopts; who judges the dead as well. A free slot gets a new owner, an orphan's may be taken over as it is.

   Memory: sequentially consistent. The exchange of the head orders a member's stores before it; what it stores later, it only
   stores later. How one member becomes several is in group_share.pml.

   Properties: (1) what a member reads stays what it was until it releases it, (2) every record is delivered, (3) once, and once
   more for each death of a member that had claimed it and not released it, (4) nobody is stuck (deadlock).

   Sizes: CAP, END (units written), SLOTS, CRASHES, JOINS, BATCH, KEEP. */
#ifndef CAP
#define CAP 3
#endif
#ifndef END
#define END 4
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef JOINS
#define JOINS 0
#endif
#define CLAIMS 3
#define NONE 255
#define TENTATIVE 64              /* a bit of claims[0].end */
#define ACTIVE 0
#define ORPHAN 1
#define FREE 2
#define SPAN(p) ((p) % 3 == 1 -> 2 : 1)                    /* records begin at 0, 1, 3, 4, 6, 7, ... */
#define LESS(a, b) (a < b -> a : b)
#define CELL(p) ((p) % CAP)
#define IS_WHOLE(p) (bytes[CELL(p)] == (p) + 1 && bytes[CELL((p) + SPAN(p) - 1)] == (p) + 1)
#define AT(slot, entry) ((slot) * CLAIMS + (entry))

byte tail;
byte bytes[CAP];                  /* which record's: its position + 1 */
byte head, head_mark;             /* one word; a mark is a slot + 1 */
byte moves;
byte hold[SLOTS] = NONE, granted[SLOTS];
byte claim_start[SLOTS * CLAIMS] = NONE, claim_end[SLOTS * CLAIMS];
byte state[SLOTS]; bit dead[SLOTS];
byte lock; byte crashes, joins;   /* lock: its holder's slot + 1 */
byte got[END], allowed[END] = 1;  /* ghosts: deliveries by position, and how many may be */

#if SLOTS == 3
#define EACH(x) (x(0) && x(1) && x(2))
#else
#define EACH(x) (x(0) && x(1))
#endif
#define IS_BURIED(n) !(dead[n] && state[n] == ACTIVE)
#define IS_IDLE(n) (hold[n] == NONE && IS_BURIED(n) && state[n] != ORPHAN)
#define QUIET (tail == END && head == END && EACH(IS_IDLE))
#define OR_DIE :: atomic { crashes < CRASHES -> crashes++; goto died } 
#define STEP(action) if :: action OR_DIE fi

#if SLOTS == 3
#define LOWEST_HOLD LESS(hold[0], LESS(hold[1], hold[2]))
#else
#define LOWEST_HOLD LESS(hold[0], hold[1])
#endif

proctype producer() {
  byte gate, found, counted, n, h;
  do
  :: atomic { tail < END && tail + SPAN(tail) <= gate + CAP ->
       bytes[CELL(tail)] = tail + 1; bytes[CELL(tail + SPAN(tail) - 1)] = tail + 1; tail = tail + SPAN(tail) }
  :: tail < END && tail + SPAN(tail) > gate + CAP ->
scan:
     counted = moves;                                      /* [counted] */
#ifndef HOLDS_FIRST
     found = head;                                         /* [scan]: every head before any hold */
#else
     found = tail;
#endif
     do
     :: n < SLOTS ->
        atomic {
          h = hold[n];
          if :: h != NONE && tail - h <= CAP && h < found :: else -> h = NONE fi
        };
        atomic {
#ifdef READ_TWICE
          if :: h != NONE -> h = hold[n]; found = (h == NONE -> tail : h) :: else fi;
#else
          found = LESS(found, h);
#endif
          h = 0; n++
        }
     :: else -> n = 0; break
     od;
#ifdef HOLDS_FIRST
     found = LESS(found, head);
#endif
#ifndef NO_RESCAN
     if :: moves != counted -> goto scan :: else fi;
#endif
     atomic { gate = found; found = 0; counted = 0 };
     if
     :: tail + SPAN(tail) <= gate + CAP
     :: else -> (tail + SPAN(tail) <= LESS(head, LOWEST_HOLD) + CAP)           /* waits for room: room.pml */
     fi
  :: tail == END -> break
  od
}
/* inside an atomic step; records from p to q */
inline deliver(p, q) {
  x = p;
  do :: x != q -> assert(IS_WHOLE(x)); got[x]++; assert(got[x] <= allowed[x]); x = x + SPAN(x) :: else -> break od;
  x = 0
}
inline have(p, q) { x = p; do :: x != q -> mine = mine | (1 << x); x = x + SPAN(x) :: else -> break od; x = 0 }
inline let_go(p, q) { x = p; do :: x != q -> assert(IS_WHOLE(x)); mine = mine & ~(1 << x); x = x + SPAN(x) :: else -> break od; x = 0 }

#define KEPT(i) (claim_start[AT(me, i)] != NONE)
#define N_KEPT (KEPT(1) + KEPT(2))
#define LOWEST_OF(c) LESS(claim_start[AT(c, 0)], LESS(claim_start[AT(c, 1)], claim_start[AT(c, 2)]))
#define LOWEST_KEPT LESS(claim_start[AT(me, 1)], claim_start[AT(me, 2)])
#if SLOTS == 3
#define ORPHANED(n) (n != me && state[n] == ORPHAN)
#else
#define ORPHANED(n) (n < 2 && n != me && state[n % 2] == ORPHAN)
#endif

/* claim_drop: entry `i` is needed from `to` on only, or (NONE) no more */
inline drop(i, to) {
  STEP(atomic {                                            /* [drop] */
    start = claim_start[AT(me, i)]; end = (to == NONE -> claim_end[AT(me, i)] : to);
    let_go(start, end);
    claim_start[AT(me, i)] = to; start = 0; end = 0
  });
  STEP(hold[me] = LOWEST_KEPT)                             /* [release] */
}

/* adopt_enter: [start, end) becomes pending in an entry of mine */
inline adopt_enter() {
  e = (KEPT(1) -> 2 : 1);
  STEP(claim_end[AT(me, e)] = end);                        /* [enter] */
  STEP(atomic { claim_start[AT(me, e)] = start; pending = pending | e; have(start, end) });
  if
  :: atomic { start < hold[me] }; STEP(hold[me] = start)   /* NONE is the highest */
  :: atomic { start >= hold[me] }
  fi
}

/* adopt_orphan [adopt], for one entry of slot c */
inline adopt_entry(i) {
  if
  :: atomic { claim_start[AT(c, i)] != NONE && N_KEPT < CLAIMS - 2 -> start = claim_start[AT(c, i)]; end = claim_end[AT(c, i)] };
#ifdef CLEAR_FIRST
     STEP(claim_start[AT(c, i)] = NONE);
     STEP(hold[c] = NONE);
#endif
#ifdef COUNT_FIRST
     STEP(moves++);
#endif
     adopt_enter();
#if !defined(NO_COUNT) && !defined(COUNT_FIRST)
     STEP(moves++);                                        /* [count] */
#endif
#ifndef CLEAR_FIRST
     STEP(claim_start[AT(c, i)] = NONE);                   /* [clear] */
#endif
     atomic { start = 0; end = 0; e = 0 }
  :: atomic { claim_start[AT(c, i)] == NONE || N_KEPT >= CLAIMS - 2 }
  fi
}

proctype member(byte me) {
  byte at, mark, start, end, c, e, x, pending; short mine;
next:
  do
  :: QUIET -> break
  :: atomic { head < tail && N_KEPT < CLAIMS - 1 && !pending -> at = head; mark = head_mark };         /* claim_refresh [refresh] */
     do
     :: atomic {
          at < tail ->
          start = at; end = at + SPAN(at);
#ifdef BATCH
          if :: skip :: end < tail -> end = end + SPAN(end) fi
#endif
        };
        STEP(claim_end[AT(me, 0)] = end + TENTATIVE);      /* [note] */
        STEP(claim_start[AT(me, 0)] = start);
#ifndef HOLD_LATE
        if
        :: atomic { N_KEPT == 0 }; STEP(hold[me] = start)  /* [hold] */
        :: atomic { N_KEPT != 0 }
        fi;
#endif
#if !defined(NO_GRANT) && !defined(GRANT_LATE)
        if
        :: atomic { mark != me + 1 && mark != 0 };
           STEP(atomic { if :: granted[mark - 1] < at -> granted[mark - 1] = at :: else fi })          /* [grant] */
        :: atomic { mark == me + 1 || mark == 0 }
        fi;
#endif
        if
        :: atomic {                                        /* [claim] */
             if
             :: head == at && head_mark == mark ->
                head = end; head_mark = me + 1;
                have(start, end);
#ifndef GRANT_LATE
                at = 0; mark = 0;
#endif
                break
             :: else -> at = head; mark = head_mark; start = 0; end = 0
             fi
           }
        OR_DIE
        fi
     :: atomic { at >= tail -> at = 0; mark = 0 };         /* nothing is left: claim_forget */
        STEP(claim_start[AT(me, 0)] = NONE);
        if
        :: atomic { N_KEPT == 0 }; STEP(hold[me] = NONE)
        :: atomic { N_KEPT != 0 }
        fi;
        goto next
     od;
#ifdef GRANT_LATE
     STEP(atomic { if :: mark != me + 1 && mark != 0 && granted[mark - 1] < at -> granted[mark - 1] = at :: else fi });
     atomic { at = 0; mark = 0 };
#endif
#ifdef HOLD_LATE
     STEP(hold[me] = start);
#endif
     if
     :: atomic { N_KEPT == 0 };
        STEP(atomic { deliver(start, end) });
        STEP(atomic { let_go(start, end); hold[me] = NONE })                   /* claim_release [release] */
     :: atomic { N_KEPT != 0 };
        STEP(atomic { deliver(start, end) });
        STEP(atomic { let_go(start, end); claim_start[AT(me, 0)] = NONE })
#ifdef KEEP
     :: atomic { e = (KEPT(1) -> 2 : 1) };                                     /* claim_keep [keep] */
#ifdef KEEP_CLEARS
        STEP(claim_start[AT(me, 0)] = NONE);
#endif
        if
        :: atomic { KEPT(1) && !(pending & 1) && claim_end[AT(me, 1)] == start };        /* goes on where one ends */
           STEP(claim_end[AT(me, 1)] = end)
        :: STEP(claim_end[AT(me, e)] = end);
           STEP(claim_start[AT(me, e)] = start)
        fi;
        STEP(claim_start[AT(me, 0)] = NONE);
        STEP(atomic { e = 0; deliver(start, end) })
#endif
     fi;
     atomic { start = 0; end = 0 }
  :: atomic { pending -> e = (pending & 1 -> 1 : 2); start = claim_start[AT(me, e)] };   /* claim_take_pending, settle */
     STEP(atomic {
       c = start + SPAN(start);
       deliver(start, c);
       if :: c == claim_end[AT(me, e)] -> c = NONE; pending = pending & ~e :: else fi;
       start = 0
     });
     drop(e, c);
     atomic { c = 0; e = 0 }
#ifdef KEEP
  :: atomic { KEPT(1) && !(pending & 1) }; drop(1, NONE)
  :: atomic { KEPT(2) && !(pending & 2) }; drop(2, NONE)
#endif
  :: atomic {                                              /* Registry.adopt [orphans] */
       !lock && N_KEPT < CLAIMS - 2 && (ORPHANED(0) || ORPHANED(1) || ORPHANED(2)) ->
       lock = me + 1;
       if :: ORPHANED(0) -> c = 0 :: ORPHANED(1) -> c = 1 :: ORPHANED(2) -> c = 2 fi
     };
#ifndef WAS_STALE
     STEP(claim_start[AT(me, 0)] = NONE);                  /* else what was released last would come back with the hold */
#endif
     adopt_entry(0);
     adopt_entry(1);
     adopt_entry(2);
     if
     :: atomic { claim_start[AT(c, 0)] == NONE && claim_start[AT(c, 1)] == NONE && claim_start[AT(c, 2)] == NONE };
        STEP(hold[c] = NONE);                              /* repair_free [free] */
        STEP(atomic { state[c] = FREE; c = 0; lock = 0 })
     :: else ->
        STEP(atomic { hold[c] = LOWEST_OF(c); c = 0; lock = 0 })
     fi
  od;
  goto out;
died:
  atomic {
    dead[me] = 1;
    if :: lock == me + 1 -> lock = 0 :: else fi;
    x = 0;
    do :: x < END -> if :: mine & (1 << x) -> allowed[x]++ :: else fi; x++ :: else -> break od;
    at = 0; mark = 0; start = 0; end = 0; c = 0; e = 0; x = 0; pending = 0; mine = 0
  };
#if JOINS > 0
  if
  :: QUIET
  :: atomic { joins < JOINS && !lock && EACH(IS_BURIED) -> joins++; lock = me + 1; c = state[me] };
     STEP(granted[me] = head);                             /* participant_enter [join] */
     if
     :: atomic { c == FREE };
        STEP(atomic { claim_start[AT(me, 0)] = NONE; claim_start[AT(me, 1)] = NONE; claim_start[AT(me, 2)] = NONE });
        STEP(atomic { state[me] = ACTIVE; dead[me] = 0 })
     :: atomic { c == ORPHAN };                            /* takes it over as it is: adopt_own [own] */
        STEP(atomic {
          state[me] = ACTIVE; dead[me] = 0;
          do
          :: e < CLAIMS ->
             start = claim_start[AT(me, e)]; end = claim_end[AT(me, e)];
             if :: start != NONE -> pending = pending | e; have(start, end) :: else fi;
             e++
          :: else -> break
          od;
          start = claim_start[AT(me, 0)]; end = claim_end[AT(me, 0)]; e = 0
        });
        if
        :: atomic { start != NONE };
           adopt_enter();
           STEP(claim_start[AT(me, 0)] = NONE)
        :: atomic { start == NONE }
        fi;
#ifndef WAS_OWN_HOLD
        STEP(hold[me] = LOWEST_KEPT)                       /* its adopter may have died with everything moved, and the hold still up */
#endif
     fi;
     atomic { lock = 0; c = 0; e = 0; start = 0; end = 0; goto next }
  fi;
#endif
out:
  skip
}

#define OR_STOP :: atomic { crashes < CRASHES -> crashes++; lock = 0; goto again }
#define STORE(action) if :: action OR_STOP fi
#define CHOOSE(n) atomic { !lock && dead[n] && state[n] == ACTIVE -> lock = NONE; c = n }

/* Registry.repair for one member: repair_bury with repair_judge [judge] */
proctype repairer() {
  byte c, at, mark, grant, end;
again:
  atomic { c = 0; at = 0; mark = 0; grant = 0; end = 0 };
end_idle:
  if
  :: CHOOSE(0)
  :: CHOOSE(1)
#if SLOTS == 3
  :: CHOOSE(2)
#endif
  fi;
  if :: atomic { hold[c] == NONE }; goto free :: atomic { hold[c] != NONE } fi;
#ifdef GRANTED_FIRST
  grant = granted[c];
#endif
  atomic { at = head; mark = head_mark };
#ifndef GRANTED_FIRST
  grant = granted[c];
#endif
  atomic { end = claim_end[AT(c, 0)] };
  if
  :: atomic { end >= TENTATIVE -> end = end - TENTATIVE };
     if
#if defined(TRUST_ALL)
     :: STORE(claim_end[AT(c, 0)] = end)
#elif defined(TRUST_NONE)
     :: STORE(claim_start[AT(c, 0)] = NONE)
#else
     :: atomic { grant == end || (mark == c + 1 && at == end) }; STORE(claim_end[AT(c, 0)] = end)
     :: atomic { !(grant == end || (mark == c + 1 && at == end)) }; STORE(claim_start[AT(c, 0)] = NONE)
#endif
     fi
  :: else
  fi;
#ifdef KEEP
  if
  :: atomic { claim_start[AT(c, 0)] != NONE && (claim_start[AT(c, 1)] != NONE && claim_end[AT(c, 1)] == end
                                                || claim_start[AT(c, 2)] != NONE && claim_end[AT(c, 2)] == end) };
     STORE(claim_start[AT(c, 0)] = NONE)                   /* it was on its way to another entry */
  :: else
  fi;
#endif
  STORE(hold[c] = LOWEST_OF(c));
  if
  :: atomic { hold[c] != NONE };
#ifndef WAS_UNCOUNTED
     STORE(moves++);                                       /* [count]: it may have died while it adopted: then somebody else has the same range, */
#endif                                                     /* and lets it go without counting */
     STORE(atomic { state[c] = ORPHAN; lock = 0; goto again })                 /* [bury] */
  :: atomic { hold[c] == NONE };
free:
     STORE(hold[c] = NONE);
     STORE(atomic { state[c] = FREE; lock = 0; goto again })
  fi
}

init {
  byte n;
  atomic {
    run producer(); run member(0); run member(1);
#if SLOTS == 3
    run member(2);
#endif
    run repairer()
  };
  atomic {
    QUIET ->
    do :: n < END -> assert(got[n] > 0); n = n + SPAN(n) :: else -> break od
  }
}
