/* Many producers: reserve.pxd, record_stamp and the writing half of produce.pxd, and repair_close with repair_free of repair.pxd,
   step by step under the names used there: [intend: NONE] [intend] [reserve] [stamp] [give up] [evidence] [close] [free].

   The producers of SLOTS slots reserve one or two units by exchange, and make of two units: one record; a batch of two; a batch
   whose rest is given up; a record that was shortened; nothing. Each may leave or be killed between any two stores; its slot gets a
   new owner once it was freed. One group reads in order. Whoever repairs may be killed between any two stores, and its lock with
   it: the next one begins again.

   Memory: sequentially consistent. Nothing here stores and then looks; a delayed store is a slower producer. A header's fields and
   its stamp are written and read one after the other.

   Properties: (1) bytes are written only by who reserved them last, (2) a gap is closed only for a dead owner who won it, to the
   end that it won, (3) every committed message is delivered exactly once and whole, (4) nobody is stuck (deadlock).

   Sizes: CAP, END (units that are ever reserved), SLOTS, CRASHES, JOINS (new owners), JUMP (the group is removed, and another one
   begins at the tail: gate.pxd's heads may lie beyond a reservation that is not stamped), HELD (an open reservation gates, as in
   gate_look_at_intent; without it heads alone do, and repair_close has to expect that what it looks at is overwritten). */
#ifndef CAP
#define CAP 3
#endif
#ifndef END
#define END 5
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef JOINS
#define JOINS 1
#endif
#define NONE 255
#define ALIVE 0
#define GONE 1                    /* dead, or left [leave] */
#define FREE 2
#define COMMITTED 1
#define ABORTED 2
#define LESS(a, b) (a < b -> a : b)
#ifdef HELD
/* gate_look_at_intent: given up, or another one's record? */
#define CLOSED(n) (STAMPED(intent_start[n]) && (stamp[CELL(intent_start[n])] % 4 == ABORTED || owner[CELL(intent_start[n])] != n + 1))
#define GATES(n) (CLOSED(n) -> NONE : intent_start[n])
#else
#define GATES(n) NONE
#endif
#if SLOTS == 3
#define OPEN LESS(GATES(0), LESS(GATES(1), GATES(2)))
#else
#define OPEN LESS(GATES(0), GATES(1))
#endif

byte tail, tail_mark;             /* one word; a mark is a slot + 1 */
byte head;
byte stamp[CAP];                  /* position * 4 + state */
byte length[CAP], previous[CAP];  /* the header's other fields */
#ifdef HELD
byte owner[CAP];                  /* and its participant */
#endif
byte payload[CAP];                /* which record's bytes: its position + 1 */
byte intent_start[SLOTS] = NONE, intent_span[SLOTS], intent_mark[SLOTS];       /* the last two are one word */
byte state[SLOTS];
bit lock;
byte crashes, joins, n_done; bit read_out;
byte won_start[SLOTS] = NONE, won_end[SLOTS];              /* ghosts: what the slot's owner won last */
short committed, delivered; byte from;                    /* ghosts: bits by position; where the group begins */

#define CELL(p) ((p) % CAP)
#define STAMPED(p) (stamp[CELL(p)] / 4 == (p) && stamp[CELL(p)] % 4 != 0)
#define OWNED(p) (tail <= (p) + CAP)                       /* nobody has reserved these bytes again */
#define OR_DIE :: atomic { crashes < CRASHES -> crashes++; goto gone }
#define STEP(action) if :: action OR_DIE fi

/* What a record that is not the first of its reservation says of who reserved before: nothing. */
#ifdef WAS_PREVIOUS
#define INSIDE(mark) mark
#else
#define INSIDE(mark) 0
#endif

/* all of a record but its stamp; inside an atomic step */
inline fill(p, n, mark) {
  assert(OWNED(p));
  length[CELL(p)] = n; previous[CELL(p)] = mark; payload[CELL(p)] = p + 1;
  if :: n == 2 -> payload[CELL(p + 1)] = p + 1; stamp[CELL(p + 1)] = 0 :: else fi
}
inline complete(p, what) {
  assert(OWNED(p));
  stamp[CELL(p)] = (p) * 4 + what;
  if :: what == COMMITTED -> committed = committed | (1 << (p)) :: else fi
}

proctype producer(byte me) {
  byte at, mark, span, gate, pos, end, before, n;
enter:
  atomic { at = tail; mark = tail_mark };                  /* produce_start [tail] */
  do
  :: atomic { at < END -> if :: span = 1 :: at + 2 <= END -> span = 2 fi };
     do                                                    /* produce_win, produce_strive */
     :: at + span <= gate + CAP ->
#if !defined(NO_NONE) && !defined(LATE_INTENT)
        STEP(intent_start[me] = NONE);                     /* [intend: NONE] */
#endif
#ifndef LATE_INTENT
        STEP(atomic { intent_span[me] = span; intent_mark[me] = mark });
        STEP(intent_start[me] = at);                       /* [intend] */
#endif
        if
        :: atomic {                                        /* [reserve] */
             if
             :: tail == at && tail_mark == mark ->
                tail = at + span; tail_mark = me + 1;
                won_start[me] = at; won_end[me] = at + span;
                pos = at; end = at + span; before = mark;
                at = tail; mark = tail_mark; span = 0;
                break
             :: else ->
                at = tail; mark = tail_mark;               /* somebody else made progress */
                if :: at + span > END -> goto gone :: else fi
             fi
           }
        OR_DIE
        fi
     :: else ->
#ifdef HELD
        STEP(intent_start[me] = NONE);                     /* [withdraw] */
#endif
        atomic {
          at = tail; mark = tail_mark;
          if :: at + span > END -> goto gone :: else fi
        };
        gate = LESS(at, head);                             /* gate_scan [scan]: heads first */
#ifdef HELD
        do
        :: n < SLOTS -> atomic { gate = LESS(gate, GATES(n)); n++ }
        :: else -> n = 0; break
        od;
#endif
        if                                                 /* FULL: waits (room.pml has how) */
        :: at + span <= gate + CAP
        :: else -> (tail + span <= LESS(head, OPEN) + CAP || tail + span > END)
        fi
     od;
#ifdef LATE_INTENT
     STEP(intent_start[me] = NONE);
     STEP(atomic { intent_span[me] = end - pos; intent_mark[me] = before; intent_start[me] = pos });
#endif
#ifdef CLEAR_FIRST
     STEP(intent_start[me] = NONE);
#endif
     do
     :: pos < end ->
        if
        :: atomic { n = end - pos; fill(pos, n, before) }                      /* a record that takes what is left, */
        :: atomic { end - pos == 2 -> n = 1; fill(pos, n, before) }            /* the first of a batch, */
        :: atomic { end - pos == 2 -> fill(pos + 1, 1, INSIDE(before)) };      /* a record that gets shorter: produce_shorten, */
           STEP(atomic { complete(pos + 1, ABORTED); n = 1; end = pos + 1 });  /* [give up] */
           STEP(atomic { fill(pos, n, before) })
        :: atomic { fill(pos, end - pos, before) };                            /* or none: produce_abort */
           STEP(atomic { complete(pos, ABORTED); pos = end; break })           /* [give up] */
        OR_DIE
        fi;
        STEP(atomic {                                                          /* [stamp] */
#ifdef HELD
          owner[CELL(pos)] = me + 1;
#endif
          complete(pos, COMMITTED); pos = pos + n; n = 0; before = INSIDE(before)
        })
     :: else -> break
     od;
     atomic { pos = 0; end = 0; before = 0 };
#ifdef HELD
     STEP(intent_start[me] = NONE)                         /* [withdraw] */
#endif
  :: break
  od;
gone:                                                      /* dead, or left [leave] */
  atomic {
    state[me] = GONE;
    at = 0; mark = 0; span = 0; gate = 0; pos = 0; end = 0; before = 0; n = 0
  };
  atomic {
    state[me] == FREE ->
    if
    :: joins < JOINS -> joins++; state[me] = ALIVE; goto enter
    :: n_done++
    fi
  }
}

#define OR_STOP :: atomic { crashes < CRASHES -> crashes++; lock = 0; goto again }
#define CHOOSE(n) atomic { !lock && state[n] == GONE -> lock = 1; number = n }

/* intent_read of a slot whose owner may live; `found` if it begins at `end` */
inline intents(n) {
  if
  :: atomic { !found && intent_start[n] == end };
     m = intent_mark[n];
#ifndef NO_RECHECK
     atomic { if :: intent_start[n] == end -> mark = m; found = 1 :: else fi; m = 0 }
#else
     atomic { mark = m; found = 1; m = 0 }
#endif
  :: atomic { found || intent_start[n] != end }
  fi
}
#define IN_TAIL atomic { if :: !found && tail == end -> mark = tail_mark; found = 1 :: else fi }
#if SLOTS == 3
#define IN_INTENTS intents(0); intents(1); intents(2)
#else
#define IN_INTENTS intents(0); intents(1)
#endif
#define IN_HEADER \
  if \
  :: atomic { !found && STAMPED(end) }; \
     atomic { mark = previous[CELL(end)]; found = 1 } \
  :: atomic { found || !STAMPED(end) } \
  fi

proctype repairer() {
  byte number, start, end, pos, mark, s, m, before; bit found;
again:
  atomic { number = 0; start = 0; end = 0; pos = 0; mark = 0; s = 0; m = 0; before = 0; found = 0 };
end_idle:
  do
  :: CHOOSE(0); break
  :: CHOOSE(1); break
#if SLOTS == 3
  :: CHOOSE(2); break
#endif
#ifdef LOOK_EARLY                 /* is it stamped? looked at while its owner may live */
  :: atomic { !lock && state[0] == ALIVE && won_start[0] != NONE && !STAMPED(won_start[0]) -> s = won_start[0] + 1 };
     atomic { state[0] == GONE -> lock = 1; number = 0 };
     break
#endif
  od;
#ifdef FREE_FIRST
  if :: state[number] = FREE OR_STOP fi;
#endif
  atomic {                                                 /* the dead one's own intent changes no more */
    start = intent_start[number]; before = intent_mark[number];
    if
    :: start == NONE -> goto closed
    :: else -> end = start + intent_span[number]
    fi;
#ifdef FOREIGN_END
    if
    :: intent_start[1 - number] == start -> end = start + intent_span[1 - number]
    :: else
    fi;
#endif
    skip
  };
#ifdef HELD
#ifndef NO_FIRST_LOOK
  s = stamp[CELL(start)];                                  /* given up as a whole: it gates no more [look] */
  atomic { if :: s == start * 4 + ABORTED -> goto closed :: else -> s = 0 fi };
#endif
  atomic { if :: tail > start + CAP -> goto closed :: else fi };
#endif
#if defined(NO_EVIDENCE)
  atomic { mark = number + 1; found = (tail >= end) };
#elif defined(HEADER_FIRST)
  IN_TAIL; IN_HEADER; IN_INTENTS;
#elif defined(TAIL_LAST)
  IN_INTENTS; IN_HEADER; IN_TAIL;
#else
  IN_TAIL; IN_INTENTS; IN_HEADER;                          /* repair_previous_of [evidence] */
#endif
  atomic { if :: !found || mark != number + 1 -> goto closed :: else found = 0; mark = 0 fi };     /* never won, or all of it is long past */
#ifdef LOOK_EARLY
  if :: s != 0 -> pos = s - 1; goto gap :: else fi;
#endif
walk:
  atomic {
    pos = start;
    if
#ifndef HELD
    :: tail > start + CAP -> found = 1                     /* its first records may be overwritten: everybody has read them */
#endif
    :: else
    fi
  };
  if
  :: atomic { found -> pos = head; found = 0; if :: pos >= end -> goto closed :: else fi }
  :: atomic { !found }
  fi;
  do
  :: pos < end ->
     s = stamp[CELL(pos)];                                 /* record_look_stamped [look] */
     m = length[CELL(pos)];
     atomic {
#if !defined(WAS_LAPPED) && !defined(HELD)
       if :: tail > pos + CAP -> s = 0; m = 0; goto walk :: else fi;   /* overwritten while we looked: everybody has read it */
#endif
       if
       :: s / 4 == pos && s % 4 != 0 -> s = 0; if :: m > end - pos -> m = 0; goto closed :: else pos = pos + m; m = 0 fi
       :: else -> s = 0; m = 0; break
       fi
     }
  :: else -> goto closed
  od;
gap:
  atomic {                                                 /* [close] */
    assert(won_end[number] == end && won_start[number] <= pos && pos < end);
    assert(state[number] != ALIVE && !STAMPED(pos));
    if :: pos != start -> before = INSIDE(before) :: else fi;
    fill(pos, end - pos, before)
  };
  if :: atomic { complete(pos, ABORTED) } OR_STOP fi;
closed:
#ifndef KEEP_INTENT
  if :: intent_start[number] = NONE OR_STOP fi;            /* repair_free [free] */
#endif
  if
  :: atomic { if :: state[number] == GONE -> state[number] = FREE; won_start[number] = NONE :: else fi; lock = 0; goto again }
  OR_STOP
  fi
}

proctype consumer() {
  byte n;
  do
  :: atomic { STAMPED(head) && stamp[CELL(head)] % 4 == COMMITTED -> n = length[CELL(head)]; assert(payload[CELL(head)] == head + 1) };
     atomic {
       assert(STAMPED(head) && length[CELL(head)] == n && payload[CELL(head)] == head + 1 && payload[CELL(head + n - 1)] == head + 1);
       delivered = delivered | (1 << head);
       head = head + n; n = 0
     }
  :: atomic { STAMPED(head) && stamp[CELL(head)] % 4 == ABORTED -> head = head + length[CELL(head)] }
#ifdef JUMP
  :: atomic { !lock && from == 0 && tail > head -> head = tail; from = tail }
#endif
  :: n_done == SLOTS && head == tail -> break
  od;
  read_out = 1
}

init {
  atomic {
    run producer(0); run producer(1);
#if SLOTS == 3
    run producer(2);
#endif
    run repairer(); run consumer()
  };
  atomic { read_out -> assert(((committed & ~((1 << from) - 1)) | delivered) == delivered) }
}
