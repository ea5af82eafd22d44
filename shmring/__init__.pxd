# The Cython interface: `from shmring cimport Producer, Consumer` in an extension of your own.
#
# shmring/nogil.pxd has sending and receiving without the GIL, with waiting and exceptions; begin there. Below it are the kernel's
# own steps, for loops that nogil.pxd does not fit:
#
# Add shmring.get_include() to its include_dirs. The handles are made by the Python interface (`ring.producer()`); an extension
# then works on their kernel state without the GIL:
#
#   cdef Producer tx = ring.producer()
#   tx.check_sending()                          # raises what is wrong with the handle; again after every error code
#   with nogil:
#       code = produce_reserve(&tx.writer, length, &payload)
#       ...                                     # OK: write `length` bytes at payload; FULL: no room now
#       produce_finish(&tx.writer, length)      # any number of reserve and finish, then
#       produce_publish(&tx.writer)
#
# A handle's state is changed by one thread at a time: Python threads are kept out by the GIL, so an extension that works without
# it keeps its handle to itself meanwhile. After a copy, `guard_copy_is_whole(tx.epoch, &process_epoch)` says whether the file was
# cut under it; publish only what is whole. What Python code raises for a kernel's code: tx.raise_code(code, length).
from shmring._core.claim cimport claim_count, claim_range, claim_release, claim_walk
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport ATTENTION, CORRUPT, EMPTY, FULL, OK, TOO_LARGE
from shmring._core.produce cimport (Writer, produce_finish, produce_has_room, produce_publish, produce_reserve)
from shmring._core.reader cimport Reader, reader_has_data
from shmring._core.record cimport record_payload, record_span
from shmring._core.sole cimport sole_claim, sole_is_all, sole_look, sole_pass
from shmring.consumer cimport Consumer
from shmring.mapping cimport Mapping, mapping_is_truncated
from shmring.participant cimport Participant
from shmring.observer cimport Observer
from shmring.producer cimport Claim, Producer
from shmring.ring cimport FOR_EVER, NO_WAIT, Ring, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.view cimport View
