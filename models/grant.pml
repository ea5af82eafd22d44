/* A grant that comes late: claim_grant of claim.pxd against a slot whose next owner is of another group, participant_join of
   membership.pxd and repair_judge of repair.pxd. Names as there: [note] [grant] [claim] [join] [judge].

   The owner of a slot wins a range in group 1 and leaves; two members of that group claim next, and may be stopped anywhere in
   claim_grant. Meanwhile the slot has a new owner in group 2, who wins a range there or not, is granted by who claims next, and dies.

   Memory: sequentially consistent (shared_group.pml says why). What the ranges hold is there, too.

   Property: the dead one's claim is judged as won if and only if it was. Positions of the groups: 0 to 3, chosen freely. */
#define NOBODY 0
#define OWNER 1                   /* the slot's mark */
#define OTHER 2

byte head[3], mark[3];            /* by group: one word each */
byte granted, tag;                /* one word */
bit dead, won; byte end;            /* of the claim in group 2 */

#ifdef NO_TAG
#define IS_OURS true
#else
#define IS_OURS (seen_tag == group)
#endif

/* claim_grant, then the exchange of the head */
proctype next(byte group) {
  byte at, whose, seen, seen_tag;
end_idle:
  atomic { mark[group] == OWNER -> at = head[group]; whose = mark[group] };    /* claim_refresh [refresh] */
#ifdef GRANT_ALL
  atomic { granted = at; tag = group; seen = 0 };
#else
  atomic { seen = granted; seen_tag = tag };                                   /* [grant] */
  do
  :: IS_OURS && at > seen ->
#ifdef STORED
     atomic { granted = at; tag = group };
     break
#else
     atomic {                                                                  /* [grant] */
       if
       :: granted == seen && tag == seen_tag -> granted = at; tag = group; break
       :: else -> seen = granted; seen_tag = tag
       fi
     }
#endif
  :: else -> break
  od;
#endif
  atomic { if :: head[group] == at && mark[group] == whose -> head[group] = at + 1; mark[group] = OTHER :: else fi }       /* [claim] */
}

proctype owner() {
  atomic {                                                 /* the first one, in group 1 [join] [claim] */
    granted = head[1]; tag = 1;
    if :: head[1] = head[1] + 1 :: head[1] = head[1] + 2 fi;
    mark[1] = OWNER
  };
  atomic { granted = head[2]; tag = 2 };                   /* nothing was held, the slot was free: participant_join [join] */
  end = head[2] + 1;                                                           /* [note] */
  if
  :: atomic { head[2]++; mark[2] = OWNER; won = 1 }                            /* [claim] */
  :: atomic { head[2]++; mark[2] = OTHER }                 /* another one was faster */
  :: skip
  fi;
  dead = 1
}

proctype repairer() {
  byte at, whose; bit judged;
  atomic { dead -> at = head[2]; whose = mark[2] };                            /* [judge] */
#ifdef JUDGE_UNTAGGED
  atomic { judged = (granted == end || whose == OWNER && at == end) };
#else
  atomic { judged = (granted == end && tag == 2 || whose == OWNER && at == end) };       /* [judge] */
#endif
  assert(judged == won)
}

init {
  atomic {
    if :: head[1] = 0 :: head[1] = 1 fi;
    if :: head[2] = 0 :: head[2] = 1 :: head[2] = 2 fi;
    run owner(); run next(1); run next(1); run next(2); run repairer()
  }
}
