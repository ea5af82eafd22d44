/* How a group of one member comes to have several: sole_claim and sole_pass of sole.pxd, which move the head by a plain store,
   against Registry.share_group with group_share and group_is_being_claimed of membership.pxd. Names as there: [note] [hold] [look]
   [claim] [release]; joiner: [share] [membarrier] [wait].

   Member 0 claims records of one unit, each to keep it or to let it go at once (PASS). Two others join one after the other, the first may be killed (or be interrupted) at any
   step; each claims by exchange once it is in. Member 0 may be killed, too; whoever waits for it judges what it claimed.

   Memory: member 0's plain stores go through a store buffer: [note] and [hold], then [claim], then PASS's [release], become visible
   in order, at any later time, at an exchange, or when a membarrier reaches it. The [release] of what was kept comes after them.
   Loads are made in program order. What PASS read counts (is taken) with its [claim].

   Property: no record is claimed twice, except what member 0 had claimed and not released when it died; none is lost; nobody is
   stuck (deadlock).

   Sizes: END records (all there from the beginning), CRASHES. */
#ifndef END
#define END 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define NONE 255
#define LESS(a, b) (a < b -> a : b)

byte head, head_mark = 1;         /* one word; a mark is a member + 1 */
byte hold = NONE, start = NONE, end;                       /* member 0's: hold and claims[0], tentative as long as granted does not say so */
byte granted;
bit shared, settled;              /* SHARED; somebody has waited for who had not seen it */
bit noted; byte note;             /* member 0's store buffer: [note] and [hold] of this record, */
bit moved; byte move;             /* then [claim] */
bit moving, will_move, is_past;   /* PASS: in memory; in the buffer, before [claim] and after it */
bit lock, dead, gone, judged; byte crashes, ended;
byte got[END], allowed[END] = 1;  /* ghosts */
byte again = NONE;                /* what member 0 left, for one of the others */

inline drain_note() { if :: noted -> start = note; end = note + 1; hold = note; noted = 0; note = 0 :: else fi }
inline drain_claim() { if :: moved -> head = move; head_mark = 1; moved = 0; move = 0 :: else fi }
inline drain_pass() { if :: will_move -> moving = 1; will_move = 0 :: else fi }
inline drain() { drain_note(); drain_pass(); drain_claim(); if :: is_past -> moving = 0; is_past = 0 :: else fi }
#define IS_EMPTY (!noted && !moved && !will_move && !is_past)
#define HEAD_OF_0 (moved -> move : head)                   /* as member 0 sees it: its own store first */
#define TAKE(p) got[p]++; assert(got[p] <= allowed[p])

active proctype memory() {
end_idle:
  do
  :: atomic { noted -> drain_note() }
  :: atomic { will_move -> drain_pass() }
  :: atomic { moved && !noted && !will_move -> drain_claim() }
  :: atomic { is_past && !moved && !will_move -> drain() }
  od
}

#define OR_DIE :: atomic { crashes < CRASHES -> crashes++; goto died }
#define STEP(action) if :: action OR_DIE fi

proctype first() {
  byte at; bit has;
  do
  :: atomic { !shared && HEAD_OF_0 < END && (moved || head_mark == 1) -> at = HEAD_OF_0 };
     if
     :: atomic { IS_EMPTY -> note = at; noted = 1 }                            /* [note] [hold] */
     :: atomic { IS_EMPTY -> will_move = 1 }; goto pass                        /* PASS [note] */
     OR_DIE
     fi;
#ifndef LOOK_BEFORE
     if
     :: shared -> goto by_exchange                         /* [look] */
     :: else
     fi;
#endif
     if :: atomic { move = at + 1; moved = 1; has = 1 } OR_DIE fi;             /* [claim] */
     STEP(atomic { TAKE(at) });
     if :: atomic { IS_EMPTY -> hold = NONE; has = 0; at = 0 } OR_DIE fi;      /* [release] */
     goto next;
pass:
#ifndef LOOK_BEFORE
     if
     :: shared -> is_past = 1; goto by_exchange            /* [look] */
     :: else
     fi;
#endif
     STEP(atomic { move = at + 1; moved = 1; TAKE(at) });                      /* [claim] */
     STEP(atomic { is_past = 1; at = 0 });                                     /* [release] */
next: skip
  :: atomic { (shared || (!moved && head_mark != 1)) && HEAD_OF_0 < END };
by_exchange:                                               /* claim_range: claim_forget, then as in shared_group.pml */
     STEP(atomic { drain(); hold = NONE; at = head });
     if
     :: atomic { at < END -> start = at; end = at + 1; hold = at };
        if
        :: atomic { if :: head == at -> head = at + 1; head_mark = 1; has = 1 :: else -> goto by_exchange fi }
        OR_DIE
        fi;
        STEP(atomic { TAKE(at) });
        STEP(atomic { hold = NONE; has = 0; at = 0 })
     :: atomic { at >= END }
     fi
  :: atomic { HEAD_OF_0 >= END -> drain(); break }
  od;
  goto out;
died:
  atomic { drain(); if :: has -> allowed[at]++ :: else fi; dead = 1; at = 0; has = 0 };
out:
  atomic { gone = 1; ended++; at = 0 }
}

/* repair_judge of member 0, with the lock held */
inline judge() {
  atomic {
    if
    :: hold != NONE && start != NONE && (granted == end || head_mark == 1 && head == end) -> again = start
    :: else
    fi;
    hold = NONE; judged = 1
  }
}

proctype joiner(byte me) {
  byte at, mark; bit was_shared;
  atomic { !lock -> lock = 1 };
  if :: dead && !judged -> judge() :: else fi;             /* Registry.repair */
  if
  :: judged -> skip                                        /* the others claim by exchange already, or there are none */
  :: else ->
#ifdef WAS_SHARED
     was_shared = shared;
#else
     was_shared = settled;
#endif
     STEP(shared = 1);                                     /* [share] */
#ifndef NO_MEMBARRIER
     STEP(atomic { drain() });                             /* [membarrier] */
#endif
#ifndef NO_WAIT
     if
     :: was_shared
     :: else ->                                            /* [wait] group_is_being_claimed */
        if
#ifdef NO_MOVING
        :: atomic { hold == NONE || start == NONE || head >= end }
#else
        :: atomic { !moving && (hold == NONE || start == NONE || head >= end) }
#endif
        :: atomic { dead && !judged }; judge()
        OR_DIE
        fi
     fi;
#endif
     STEP(settled = 1)                                     /* [settled] */
  fi;
  atomic { shared = 1; lock = 0 };
  do
  :: atomic { again != NONE -> TAKE(again); again = NONE }                     /* adopted */
  :: atomic { dead && !judged && !lock -> lock = 1 }; judge(); lock = 0
  :: atomic { head < END -> at = head; mark = head_mark };
     if :: atomic { mark == 1 }; atomic { granted = (granted < at -> at : granted) } :: atomic { mark != 1 } fi;
     atomic { if :: head == at && head_mark == mark -> head = at + 1; head_mark = me + 1; TAKE(at) :: else fi; at = 0; mark = 0 }
  :: atomic { head == END && IS_EMPTY && again == NONE && gone && (!dead || judged) } -> break
  od;
  goto out;
died:
  atomic { lock = 0 };
out:
  atomic { ended++; at = 0; mark = 0; was_shared = 0 }
}

init {
  byte n;
  atomic { run first(); run joiner(1); run joiner(2) };
  atomic {
    ended == 3 && again == NONE ->
    do :: n < END -> assert(got[n] > 0); n++ :: else -> break od
  }
}
