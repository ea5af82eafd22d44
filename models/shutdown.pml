/* The end of a ring of many producers: reader_is_drained and observe_is_drained with reserve_nothing_comes of reserve.pxd, against
   sends and users' claims: produce_ponder of produce.pxd, and the looks for a shutdown of sender.pyx and producer.pyx. Names as
   there: [reserve] [ponder] [shutdown] [stamp] [give up] [withdraw] [drained].

   The producers of two slots reserve records of one unit, and look for a shutdown after that. What is sent is stamped then; a claim
   is its user's first, who commits, aborts, or holds it for good. Somebody shuts the ring down at any time. One member reads until
   the ring is drained, another one may take records as well. A producer may be killed between any two stores; its gap is closed in
   one step (many_producers.pml has those), and its slot gets a new owner.

   Memory: each producer has a store buffer of one entry for its stamps, its intent's end and `pondering`, drained by the fence of
   produce_ponder and by exchanges. Loads are made in program order, but for a mutant.

   Properties: (1) who ends has everything: nothing that its group has not taken is committed, or will be, (2) it ends (deadlock),
   unless a message that was committed lies behind a claim that a user holds: that one comes when the user is done.

   Who waits looks again in slices, as the ring is not drained (is_blocked); doorbell.pml has the sleepers that a shutdown finds.

   Sizes: END (units reserved), CRASHES, JOINS (new owners), OTHER (the second member). */
#ifndef END
#define END 3
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef JOINS
#define JOINS 0
#endif
#define NONE 255
#define COMMITTED 1
#define ABORTED 2

byte tail, head;                  /* the group's head */
byte stamp[END + 1];              /* by position; the last one stays empty */
byte intent[2] = NONE; bit pondering[2];
bit down;                         /* producers.shutdown */
byte store[2]; byte place[2];     /* the store buffers: what, and of which record */
bit dead[2], held[2];             /* held: a user is never done with this claim */
byte crashes, joins; bit ended;
byte committed, delivered;        /* ghosts: bits by position, */
byte owner[END];                  /* and who won it: slot + 1 */

#define PONDER_OFF 1              /* what a store buffer may have */
#define PONDER_ON 2
#define STAMP 3                   /* and the state */
#define WITHDRAW 6

inline drain(n) {
  if
  :: store[n] == 0
  :: store[n] == PONDER_OFF -> pondering[n] = 0
  :: store[n] == PONDER_ON -> pondering[n] = 1
  :: store[n] == STAMP + COMMITTED -> stamp[place[n]] = COMMITTED
  :: store[n] == STAMP + ABORTED -> stamp[place[n]] = ABORTED
  :: store[n] == WITHDRAW -> intent[n] = NONE
  fi;
  store[n] = 0; place[n] = 0
}
inline put(n, what, p) { drain(n); store[n] = what; place[n] = p }

active proctype memory() {
end:
  do
  :: atomic { store[0] != 0 -> drain(0) }
  :: atomic { store[1] != 0 -> drain(1) }
  od
}

#define OR_DIE :: atomic { crashes < CRASHES -> crashes++; goto died }
#define STEP(action) if :: action OR_DIE fi

inline ponder(what) {                                      /* produce_ponder [ponder] */
  STEP(atomic { put(me, what, 0) });
#ifdef NO_COMMITTER_FENCE
  skip
#else
  STEP(atomic { drain(me) })
#endif
}
inline give_up() {                                         /* produce_abort */
  STEP(atomic { put(me, STAMP + ABORTED, at) });           /* [give up] */
  STEP(atomic { put(me, WITHDRAW, 0) })                    /* [withdraw] */
}

proctype producer(byte me) {
  byte at; bit seen;
enter:
  do
  :: atomic { tail < END -> at = tail };                   /* [tail] */
#ifdef LOOK_BEFORE
     STEP(seen = down);
#endif
     do
     :: STEP(atomic { drain(me); intent[me] = at });       /* [intend] */
        if
        :: atomic {                                        /* [reserve] */
             if
             :: tail == at -> tail++; owner[at] = me + 1; break
             :: else -> at = tail; if :: at == END -> goto gone :: else fi
             fi
           }
        OR_DIE
        fi
     od;
#ifdef PONDER_FIRST
     ponder(PONDER_ON);
#endif
#ifndef LOOK_BEFORE
     STEP(seen = down);                                    /* after reserving [shutdown] */
#endif
     if
     :: seen -> give_up()
     :: !seen;                                             /* sent */
#ifdef PONDER_FIRST
        ponder(PONDER_OFF);
#endif
        goto commit
     :: !seen;                                             /* Producer.reserve */
#ifndef PONDER_FIRST
        ponder(PONDER_ON);
#endif
        if
        :: STEP(skip)                                      /* Claim.finish */
        :: give_up(); ponder(PONDER_OFF); goto next        /* Claim.abort */
        :: atomic { held[me] = 1; goto out }
        fi;
#ifndef COMMIT_FIRST
        ponder(PONDER_OFF);
#endif
#ifndef NO_LOOK
        STEP(seen = down);                                 /* [shutdown] */
#endif
        if
        :: seen -> give_up(); ponder(PONDER_OFF); goto next
        :: else
        fi;
commit:
        STEP(atomic { assert(!ended); committed = committed | (1 << at); put(me, STAMP + COMMITTED, at) });    /* [stamp] */
        STEP(atomic { put(me, WITHDRAW, 0) })              /* [withdraw] */
#ifdef COMMIT_FIRST
        ; ponder(PONDER_OFF)
#endif
     fi;
next:
     atomic { at = 0; seen = 0 }
  :: break
  od;
  goto gone;
died:
  atomic { drain(me); dead[me] = 1; at = 0; seen = 0 };
  atomic {                                                 /* repair_close, repair_free, participant_enter */
    if
    :: intent[me] != NONE -> if :: owner[intent[me]] == me + 1 && stamp[intent[me]] == 0 -> stamp[intent[me]] = ABORTED :: else fi
    :: else
    fi;
    intent[me] = NONE; dead[me] = 0;
    if
    :: joins < JOINS -> joins++;
#ifndef STALE_PONDERING
       pondering[me] = 0;
#endif
       goto enter
    :: skip
    fi
  };
gone:
  atomic { drain(me); intent[me] = NONE; at = 0; seen = 0 };
out:
  skip
}

/* Ring.shutdown; doorbell.pml has whom it wakes */
active proctype closer() { down = 1 }                      /* [shutdown] */

inline take() {
  if :: stamp[head] == COMMITTED -> delivered = delivered | (1 << head) :: else fi;
  head++
}

/* is record `at` a claim that is its user's? */
inline look(n) {
  if
#ifdef NO_DRAINER_FENCE
  :: atomic { was & (1 << n) };
#else
  :: atomic { pondering[n] };                              /* [drained] */
#endif
     if
     :: atomic { intent[n] == at -> at++; goto walk }      /* [evidence] */
     :: atomic { intent[n] != at }
     fi
#ifdef NO_DRAINER_FENCE
  :: atomic { !(was & (1 << n)) }
#else
  :: atomic { !pondering[n] }
#endif
  fi
}

/* Is nothing of record p to be waited for? One look of a slice, for who waits. */
#ifdef NO_PONDERING
#define IS_USERS(p) 0
#else
#define IS_USERS(p) (pondering[0] && intent[0] == p || pondering[1] && intent[1] == p)
#endif
#ifdef WAS_BEHIND
#define PASSES(p) (p >= tail || IS_USERS(p))
#else
#define PASSES(p) (p >= tail || IS_USERS(p) || stamp[p] == ABORTED)
#endif
#define AT_MOST(p) (p < END -> p : END)
#define COULD_END (PASSES(head) && PASSES(AT_MOST(head + 1)) && PASSES(AT_MOST(head + 2)) && PASSES(AT_MOST(head + 3)))
#define WAITS_FOR_USER ((committed & ~delivered) && (held[0] && intent[0] == head || held[1] && intent[1] == head))

proctype drainer() {
  byte at, end, was; bit seen;
  do
  :: atomic { stamp[head] != 0 -> take() }
  :: atomic { stamp[head] == 0 || down };
#ifdef NO_DRAINER_FENCE
     atomic { was = pondering[0] | pondering[1] << 1 };    /* mutant: read before the shutdown was */
#endif
     seen = down;                                          /* [shutdown] */
     if
     :: !seen -> goto wait
     :: else
     fi;
     if                                                    /* reader_has_data [W4] */
     :: atomic { stamp[head] != 0 -> take(); seen = 0; was = 0; goto next }
     :: atomic { stamp[head] == 0 }
     fi;
     at = head;                                            /* reader_is_drained [drained] */
     end = tail;                                           /* reserve_nothing_comes [drained] */
walk:
     if
     :: at == end -> break
     :: else
     fi;
#ifndef WAS_BEHIND
     if                                                    /* reserve_is_vain: what was given up, [look] */
     :: atomic { stamp[at] == ABORTED -> at++; goto walk }
     :: atomic { stamp[at] == COMMITTED -> goto wait }
     :: atomic { stamp[at] == 0 }
     fi;
#endif
#ifndef NO_PONDERING
     look(0);                                              /* or a user's */
     look(1);
#endif
wait:
     atomic { at = 0; end = 0; was = 0 };
     if                                                    /* one slice after the other */
     :: atomic { stamp[head] != 0 }
     :: atomic { down && (!seen || COULD_END) }
     :: atomic { WAITS_FOR_USER -> goto out }
     fi;
next:
     seen = 0
  od;
  atomic { assert((committed & ~delivered) == 0); ended = 1 };
out:
  skip
}

#ifdef OTHER
proctype other() { do :: atomic { stamp[head] != 0 -> take() } :: break od }
#endif

init {
  atomic {
    run producer(0); run producer(1); run drainer();
#ifdef OTHER
    run other()
#endif
  }
}
