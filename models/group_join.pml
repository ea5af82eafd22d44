/* A group joins while the producer works with a gate that it read before: group_begin in shmring/_core/repair.pxd against
   produce_scan_gate and produce_reserve in produce.pxd. An older group (or none: OLD=0) goes on releasing meanwhile.

   The table has three entries. Where the old group stands, before or behind the new one, matters to the order in which a scan
   meets them; the model tries both. The first joiner may be killed at any step; the next holder of the registry lock removes what
   it left (_end_half_made_groups) and joins itself. With REUSE the old entry may be removed and used again.

   Memory: one-entry store buffers for the producer's tail and the old member's head. The joiner's stores up to JOINING stay in a
   buffer until its fence, or become visible in order before it; so do those of group_settle.

   Properties: (1) when a group settles, and as long as it has not passed a record, nothing overwrites that record; (2) a scan
   never reports damage; (3) at the end no entry is JOINING, and the producer was never stuck (deadlock).

   Sizes: CAP, END records of one unit each, OLD (0 or 1), LATEST (the group starts at tail), REUSE, CRASHES. */
#ifndef CAP
#define CAP 2
#endif
#ifndef END
#define END 5
#endif
#ifndef OLD
#define OLD 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define NG 3
#define FREE 0
#define JOINING 1
#define ACTIVE 2
#define NONE 255
#define ROOM(n) (state[n] == FREE || position + 1 <= head[n] + CAP)
#define LESS(a, b) (a < b -> a : b)

byte tail; bit stored; byte store;            /* and the producer's store buffer */
byte state[NG]; byte head[NG];
byte older = NONE; bit old_stored; byte old_store;      /* the old group's entry; its member's store buffer */
byte joined_entry, joined_head, joined_state;      /* the joiner's store buffer: a head, then a state */
byte written;                     /* everything before it was written, published or not */
byte named = NONE;                /* the entry that bears the new group's name */
byte needs = NONE;                /* ghost: the settled group's first record that it has not passed */
bit lock; byte crashes, joins, ended; bit finished, old_gone;

inline drain_producer() { if :: stored -> tail = store; stored = 0; store = 0 :: else fi }
inline drain_old() { if :: old_stored -> head[older] = old_store; old_stored = 0; old_store = 0 :: else fi }
inline drain_joiner() {
  if
  :: joined_state != 0 ->
     if :: joined_head != NONE -> head[joined_entry] = joined_head :: else fi;
     state[joined_entry] = joined_state;
     if
     :: joined_state == ACTIVE -> needs = head[joined_entry]; assert(written <= needs + CAP)     /* settled */
     :: else
     fi;
     joined_entry = 0; joined_head = 0; joined_state = 0
  :: else
  fi
}

active proctype memory() {
end:
  do
  :: atomic { stored -> drain_producer() }
  :: atomic { old_stored -> drain_old() }
  :: atomic { joined_state != 0 && joined_head != NONE -> head[joined_entry] = joined_head; joined_head = NONE }
  :: atomic { joined_state != 0 && joined_head == NONE -> drain_joiner() }
  od
}

/* produce_scan_gate: one pass over the table, into `gate` if lower */
inline scan_pass(gate) {
  n = 0;
  do
  :: n < NG ->
     st = state[n];                                        /* [scan] */
     if
     :: st != FREE ->
        h = head[n];
        if
        :: h > position || position - h > CAP ->           /* used > capacity */
           atomic {
             assert(!(st == ACTIVE && head[n] == h && state[n] == st));
             h = (position > CAP -> position - CAP : 0)
           }
        :: else
        fi;
        atomic { gate = LESS(gate, h); h = 0; st = 0 }
     :: else
     fi;
     n++
  :: else -> atomic { n = 0; break }
  od
}

proctype producer() {
  byte position, published, gate, found, counted, n, st, h;
  do
  :: position < END && position + 1 - gate <= CAP ->       /* room by the cached gate: write */
     atomic { assert(needs == NONE || position < needs + CAP); position++; written = position };
     if
#ifndef NO_BATCH
     :: skip                                               /* a batch: published later */
#endif
     :: atomic { drain_producer(); stored = 1; store = position; published = position }
     fi
  :: position < END && position + 1 - gate > CAP ->
scan:
#ifdef WAS_GATE_POSITION
     found = position;                                     /* no group: everything before the producer's own position is free */
#else
     found = published;
#endif
#ifndef NO_SCAN_FENCE
     atomic { drain_producer() };                          /* [scan fence] */
#endif
     atomic { counted = joins };                           /* [counted] */
     scan_pass(found);
#ifndef WAS_ONE_PASS
     if                                                    /* a group was made meanwhile: look again */
     :: joins != counted -> goto scan
     :: else -> counted = 0
     fi;
#endif
     atomic { gate = found; found = 0 };
     if
     :: position + 1 - gate <= CAP
     :: else ->                                            /* FULL: publish, then wait until there is room (room.pml has how) */
        atomic { if :: published != position -> drain_producer(); stored = 1; store = position; published = position :: else fi };
        ROOM(0) && ROOM(1) && ROOM(2)
     fi
  :: position == END -> break
  od;
  atomic { drain_producer(); if :: published != position -> tail = position :: else fi; finished = 1 }
}

proctype old_member() {
  byte mine;
  do
  :: atomic { mine < tail -> drain_old(); mine++; old_store = mine; old_stored = 1 }
#ifdef REUSE
  :: atomic { !lock && crashes == CRASHES -> lock = 1 };    /* remove_group */
     atomic { drain_old(); state[older] = FREE; lock = 0; break }              /* [end] */
#endif
  :: finished && mine == tail -> break
  od;
  old_gone = 1
}

/* group_lowest_head [lowest], into `found`; it reads the settled groups one by one, and tail if there are none */
inline lowest_head(found) {
  atomic { found = NONE; n = 0 };
  do
  :: n < NG ->
     atomic { if :: n != entry && state[n] == ACTIVE -> found = LESS(found, head[n]) :: else fi; n++ }
  :: else -> n = 0; break
  od;
  if :: found == NONE -> found = tail :: else fi           /* [tail] */
}

#define MAYDIE if :: skip :: atomic { crashes < CRASHES -> crashes++; goto dead } fi

proctype joiner() {
  byte entry, found, n, tail_before;
  atomic { !lock -> lock = 1 };
  atomic {                                                 /* _end_half_made_groups */
    n = 0;
    do
    :: n < NG ->
#ifndef KEEP_HALF_MADE
       if :: state[n] == JOINING -> state[n] = FREE :: else fi;
#endif
       n++
    :: else -> break
    od;
    n = 0
  };
  MAYDIE;
  atomic {
    if
    :: named != NONE && state[named] == ACTIVE ->          /* _find_group: made by the one who died */
       entry = named; goto attached
    :: else
    fi;
    entry = 0; do :: state[entry] != FREE -> entry++ :: else -> break od; assert(entry < NG);
    named = entry
  };
#ifdef TAIL_BEFORE
  tail_before = tail;
#endif
  lowest_head(found);
  MAYDIE;
#ifdef COUNT_FIRST
  joins++;
#endif
  atomic { joined_entry = entry; joined_head = found; joined_state = JOINING };        /* [begin] */
  MAYDIE;
#if !defined(NO_JOIN_COUNT) && !defined(COUNT_FIRST) && !defined(COUNT_LAST)
#ifndef NO_JOIN_FENCE
  atomic { drain_joiner(); joins++ };                      /* [count]: a read-modify-write, then the fence */
#else
  joins++;
#endif
#elif !defined(NO_JOIN_FENCE)
  atomic { drain_joiner() };
#endif
  MAYDIE;
#if defined(TAIL_BEFORE)
  found = tail_before;
#elif defined(FIRST_READING)
  skip;
#elif defined(LATEST)
  found = tail;
#else
  lowest_head(found);
#endif
  MAYDIE;
#ifdef COUNT_LAST
  joins++;
#endif
  atomic { drain_joiner(); joined_entry = entry; joined_head = found; joined_state = ACTIVE };         /* [settle] */
  MAYDIE;
attached:
  atomic { drain_joiner(); found = 0; tail_before = 0; lock = 0; ended++ };
  do                                                       /* its member reads on */
  :: atomic { needs < tail -> assert(written <= needs + CAP); needs++; head[entry] = needs }
  :: finished && needs == tail -> break
  od;
  goto out;
dead:                                                      /* what it stored becomes visible, and the kernel drops the lock */
  atomic { drain_joiner(); found = 0; entry = 0; n = 0; tail_before = 0; lock = 0; ended++ };
out:
  skip
}

init {
  byte n;
  atomic {
#if OLD == 1
    if :: older = 0 :: older = 1 fi;
    state[older] = ACTIVE;
    run old_member();
#else
    old_gone = 1;
#endif
    run producer();
    run joiner();
  };
#if CRASHES > 0
  atomic { ended > 0 && crashes > 0 -> run joiner() }      /* or nobody died */
  unless { ended > 0 && crashes == 0 };
#endif
  atomic {
    finished && old_gone && !lock && ended == 1 + crashes && !joined_state ->
    do :: n < NG -> assert(state[n] != JOINING); n++ :: else -> break od
  }
}
