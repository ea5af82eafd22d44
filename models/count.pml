/* A bound on messages in flight: count.pxd, with the tail of reserve.pxd and the claims of claim.pxd. Names as there: [tail]
   [reserve] [stamp] [give up] [claim] [look], and [passed] [told] [note].

   Two producers reserve one message at a time by exchange of the tail and its number, and stamp it or give it up. The members of
   one group claim what is stamped, pass what was given up, and note what they claimed; each may be killed between the two. In a ring
   of CAP records the bytes that count_told looks at may be written anew: then anything may stand where a number was.

   Memory: sequentially consistent. That who sleeps is rung after a note is as in doorbell.pml: here who is refused tries again as
   long as there is room for it.

   Properties: (1) no producer wins while as many messages as are allowed are in flight: reserved, from the first on that is neither
   claimed nor given up, (2) nobody is refused when less are in flight and nobody else does anything.

   Sizes: MOST (messages in flight), END (messages), CAP, CRASHES, MEMBERS. */
#ifndef MOST
#define MOST 2
#endif
#ifndef END
#define END 4
#endif
#ifndef CAP
#define CAP 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MEMBERS
#define MEMBERS 2
#endif
#define COMMITTED 1
#define ABORTED 2
#define CELL(p) ((p) % CAP)

byte tail;                        /* with `number` of the same value beside it: a record, a message; numbers begin at 1 */
byte head, passed;
byte stamp[CAP], state[CAP], text[CAP];       /* which record stands there: its position + 1; what it is; its number */
byte crashes, busy;               /* busy: how many are in the middle of a call */
byte alone;                       /* who began when nobody else was, and nobody has since: slot + 1 */
byte given_up;                    /* ghost: bits by position */

#define IS_STAMPED(p) (stamp[CELL(p)] == (p) + 1)
#define COUNTS(p) (p >= head && !(given_up & (1 << (p))))
#define FIRST (COUNTS(0) -> 0 : (COUNTS(1) -> 1 : (COUNTS(2) -> 2 : (COUNTS(3) -> 3 : (COUNTS(4) -> 4 : (COUNTS(5) -> 5 : 6))))))
#define IS_BELOW (tail < FIRST + MOST)
#define MAY_WIN (tail < END && tail + 1 <= head + CAP && IS_BELOW)

proctype producer(byte me) {
  byte at, known, head_then, pos, x;
  do
  :: atomic { tail < END -> busy++; alone = (busy == 1 -> me + 1 : 0); at = tail };      /* reserve_look [tail] */
again:
     if
     :: atomic { at + 1 <= known + MOST }                  /* count_allows */
     :: atomic { at + 1 > known + MOST };
        at = tail;                                         /* [tail] */
        /* count_passed */
        head_then = head;                                  /* [passed] */
#ifndef ASK_ALWAYS
        if
        :: atomic { head_then == at && tail == at -> known = at; goto looked }
        :: atomic { head_then != at || tail != at }
        fi;
#endif
        known = passed;                                    /* [passed] */
#ifndef NO_TOLD
        pos = head_then;                                   /* count_told */
        do
        :: pos < at ->
           if
           :: atomic { IS_STAMPED(pos) && state[CELL(pos)] == ABORTED -> pos++ }         /* [look] */
           :: atomic { IS_STAMPED(pos) && state[CELL(pos)] == COMMITTED };               /* [look] */
              x = text[CELL(pos)];                         /* [told] */
              break
           :: atomic { !IS_STAMPED(pos) -> x = 0; goto looked }
           fi
        :: pos >= at -> x = at + 1; break
        od;
        if
#ifdef NO_SECOND_LOOK
        :: atomic { x - 1 > known && x <= at + 1 -> known = x - 1 }
        :: atomic { x - 1 <= known || x > at + 1 }
#else
        :: atomic { head == head_then && x - 1 > known && x <= at + 1 -> known = x - 1 }           /* [told] */
        :: atomic { head != head_then || x - 1 <= known || x > at + 1 }
#endif
        fi;
#endif
looked:
        atomic {
          pos = 0; x = 0; head_then = 0;
          if
          :: at + 1 > known + MOST ->
             assert(alone != me + 1 || !MAY_WIN);
             busy--; at = 0;
             goto refused
          :: else
          fi
        }
     fi;
     if
     :: atomic {                                           /* [reserve] */
          tail == at && tail + 1 <= head + CAP && tail < END ->
          assert(IS_BELOW);
          tail++; text[CELL(at)] = 0
        }
     :: atomic { tail == at && (tail + 1 > head + CAP || tail == END) -> busy--; at = 0; goto refused }
     :: atomic { tail != at -> at = tail; goto again }
     fi;
#if CAP < END
     if                                                    /* half of a message's bytes */
     :: skip
     :: atomic { text[CELL(at)] = at + 1 }
     :: atomic { text[CELL(at)] = at }
     fi;
#endif
     if
     :: atomic { text[CELL(at)] = at + 1; stamp[CELL(at)] = at + 1; state[CELL(at)] = COMMITTED; busy-- }       /* [stamp] */
     :: atomic { text[CELL(at)] = 0; stamp[CELL(at)] = at + 1; state[CELL(at)] = ABORTED; given_up = given_up | (1 << at); busy-- }    /* [give up] */
     fi;
     at = 0
  :: break
  od;
  goto out;
refused:
  if
  :: atomic { MAY_WIN -> busy++; alone = (busy == 1 -> me + 1 : 0); at = tail; goto again }
  :: atomic { busy == 0 && !MAY_WIN }
  fi;
out:
  atomic { known = 0; at = 0 }
}

proctype member() {
  byte at;
  do
  :: atomic { IS_STAMPED(head) && state[CELL(head)] == ABORTED -> head++; alone = 0 }     /* [claim] of claim_skip */
#ifdef NOTE_FIRST
  :: atomic { IS_STAMPED(head) && state[CELL(head)] == COMMITTED -> at = head; busy++; alone = 0 };
     atomic { if :: passed < at + 1 -> passed = at + 1 :: else fi };
     atomic { if :: head == at -> head++ :: else fi; busy--; at = 0 }
#else
  :: atomic { IS_STAMPED(head) && state[CELL(head)] == COMMITTED -> at = text[CELL(head)]; head++; busy++; alone = 0 };     /* [claim] */
     if
#ifdef NOTE_OLD
     :: atomic { passed = at; busy--; at = 0 }
#else
     :: atomic { if :: passed < at -> passed = at :: else fi; busy--; at = 0 }         /* [note] */
#endif
     :: atomic { crashes < CRASHES -> crashes++; busy--; at = 0; goto out }
     fi
#endif
  :: break
  od;
out:
  at = 0
}

init {
  atomic {
    run producer(0); run producer(1); run member();
#if MEMBERS == 2
    run member()
#endif
  }
}
