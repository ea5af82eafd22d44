# The end of sending: one word, written once, for good.
# Steps in brackets are those of doorbell.pml, shutdown.pml in models/.
from shmring._core.atomic cimport load_acquire_u32, load_relaxed_u32, store_release_u32
from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.layout cimport RingMap


# From here on producers refuse, and consumers end when they have everything. May be repeated. [shutdown]
cdef inline void shutdown_begin(RingMap* ring) noexcept nogil:
    # sync: shutdown (release). What was published before is visible to who sees the flag; pairs with (acquire) in
    # shutdown_has_begun.
    store_release_u32(&ring.producers.shutdown, 1)
    doorbell_ring_all(ring)


# For who acts on it. [shutdown]
cdef inline bint shutdown_has_begun(const RingMap* ring) noexcept nogil:
    # sync: shutdown (acquire). Whoever sees the flag sees what was published before; pairs with (release) in shutdown_begin.
    # Without it a consumer could end before the last messages.
    return load_acquire_u32(&ring.producers.shutdown) != 0


# For fast paths and waiting threads. Relaxed: whoever acts on it asks shutdown_has_begun. [shutdown]
cdef inline bint shutdown_is_seen(const RingMap* ring) noexcept nogil:
    return load_relaxed_u32(&ring.producers.shutdown) != 0
