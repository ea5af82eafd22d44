# Who has caught up with a stream waits a little longer, so that messages gather.
#
# A consumer as fast as its producer takes each message the moment that it is shown. Then the lines of the tail, the header and the
# payload go from core to core for every single one, and both sides wait for them: small messages cost two to four times as much
# as when the consumer stays some hundred behind. Nothing brings it back there, as the producer is slowed down more than it is.
#
# So, after a wait that found a message while it was still spinning: let LOOK_PAUSES pauses pass. Did eight or more like the first
# one come meanwhile, this is a stream, and another round is worth it, up to ROUNDS of them. If not (a request and its reply, a
# message now and then) this was in vain, and twice as many waits as before go by until the next try: a reply is late by one look
# in a thousand waits.
#
# It reads shared words only, and what it reads decides nothing but how long it goes on. A bound on the delay: ROUNDS looks.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport load_relaxed_u32, pause
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport RingMap
from shmring._core.record cimport record_at, record_span

cdef enum:
    LOOK_PAUSES = 100               # 2 to 5 us
    ROUNDS = 4
    A_STREAM = 8                    # messages in one look
    MOST_SKIPPED = 1023             # waits

# How it went before; private to a handle.
cdef struct Patience:
    uint32_t skip                   # waits that go by without a try
    uint32_t next_skip              # after a try in vain


# Is another try due, at the end of a wait that spun? Threads of one handle take turns here (the GIL).
cdef inline bint linger_is_due(Patience* patience) noexcept nogil:
    if patience.skip:
        patience.skip -= 1
        return False
    return True


# There is a message at `position`, where the reader stands.
cdef inline void linger(Patience* patience, const RingMap* ring, uint64_t position) noexcept nogil:
    cdef uint64_t tail, seen, enough
    cdef int round, look
    # Relaxed: a guess; whoever reads the record looks again.
    enough = A_STREAM * record_span(load_relaxed_u32(&record_at(ring, position).length), ring.align)
    seen = gate_tail(ring, position)
    for round in range(ROUNDS):
        for look in range(LOOK_PAUSES):
            pause()
        tail = gate_tail(ring, position)
        if tail - seen < enough:
            if round == 0:
                patience.skip = patience.next_skip
                patience.next_skip = min(2 * patience.next_skip + 1, <uint32_t> MOST_SKIPPED)
                return
            break
        seen = tail
    patience.next_skip = 0
