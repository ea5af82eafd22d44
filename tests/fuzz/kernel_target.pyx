# cython: language_level=3
"""The kernel's fuzz target: an input is a small program of damage and of what participants do; `one` runs it.

An input begins with the ring's geometry and its stage of life; each further byte chooses a damage or an act, which take their
own arguments. The same bytes always do the same, so a crashing input can be replayed. `run` makes inputs from a seed and a
number; libFuzzer (libfuzzer.c) makes them from what they covered. `pester` damages the ring that another thread works on. In one
input of 256, one word changes before each access to it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shmring._core.doorbell cimport bell_arm
from shmring._core.layout cimport BOUNDARIES, CORRUPT, MOST_LOST, PRODUCERS_OFFSET, RingMap, Slot
from shmring._core.produce cimport Writer, produce_reserve
from shmring._core.reserve cimport intent_read

from acts cimport act_consume, act_join_watcher, act_observe, act_produce, act_send
from damage cimport damage_once
from tables cimport act_tables, table_join
from world cimport (STAGES, WORLDS, Input, Stage, World, pick, stage_put_back, stage_take, take, world_make,
                    world_view)

cdef extern from * nogil:
    """
    const volatile void *shmring_restless[2];
    uint64_t shmring_restless_step, shmring_restless_mask, shmring_restless_changes;
    int shmring_keeps_still;            /* no word is restless: libFuzzer would soon look for nothing but the longest loops */
    """
    const void* shmring_restless[2]
    uint64_t shmring_restless_step, shmring_restless_mask, shmring_restless_changes
    int shmring_keeps_still

cdef enum:
    MOST_BYTES = 256
    RESTLESS = 14           # words that `make_restless` knows
    MARK_BITS = 0xffff      # of a marked word: who
    MANY_CHANGES = 10000    # of the restless word in one act: a retry loop went to its bound

cdef uint64_t ALL_BITS = ~<uint64_t> 0

cdef World worlds[WORLDS]
cdef Stage stages[WORLDS][STAGES]
cdef volatile int current = -1      # the world that inputs run in
cdef bint is_ready = False

# What was done, for the report.
cdef uint64_t done_inputs = 0, done_damages = 0, done_acts = 0
cdef volatile int is_pestering = 0


# ---- inputs --------------------------------------------------------------------------------------------------------


cdef inline void step(World* world, Input* input) noexcept nogil:
    global done_damages, done_acts
    cdef uint32_t what = pick(input, 64)
    if what < 20:
        done_damages += 1
        damage_once(world, input)
        return
    done_acts += 1
    if what < 32:
        act_produce(world, input)
    elif what < 46:
        act_consume(world, input)
    elif what < 54:
        act_observe(world, input)
    else:
        act_tables(world, input)


cdef inline uint64_t next_random(uint64_t* state) noexcept nogil:
    """splitmix64"""
    cdef uint64_t z
    state[0] += <uint64_t> 0x9e3779b97f4a7c15
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t> 0xbf58476d1ce4e5b9
    z = (z ^ (z >> 27)) * <uint64_t> 0x94d049bb133111eb
    return z ^ (z >> 31)


cdef void prepare() noexcept nogil:
    """Every geometry, joined by everybody, in every stage: what valid acts of a fixed seed lead to."""
    global is_ready
    cdef uint8_t buffer[64]
    cdef RingMap view
    cdef Input input
    cdef uint64_t random = 7
    cdef int kind, stage, number, each
    for kind in range(WORLDS):
        world_make(&worlds[kind], kind)
        for number in range(6):
            if number != 1 or worlds[kind].map.is_multi:
                table_join(&worlds[kind], number, False)
        world_view(&worlds[kind], &view, False, False)
        act_join_watcher(&worlds[kind], 1, view, False)
        bell_arm(worlds[kind].map.data_bell, 2)
        bell_arm(worlds[kind].map.room_bell, 0)
        stage_take(&stages[kind][0], &worlds[kind])
        for stage in range(1, STAGES):
            for number in range(12 * stage * stage):
                for each in range(64):
                    buffer[each] = <uint8_t> (next_random(&random) >> 40)
                input.data, input.size, input.at = buffer, 64, 0
                if stage == 1 or buffer[63] % 5 < 2:
                    act_send(&worlds[kind], &worlds[kind].writers[0], buffer[0])
                elif buffer[63] % 5 == 2:
                    act_produce(&worlds[kind], &input)
                elif buffer[63] % 5 == 3:
                    act_consume(&worlds[kind], &input)
                else:
                    act_observe(&worlds[kind], &input)
            stage_take(&stages[kind][stage], &worlds[kind])
    is_ready = True


cdef inline void make_restless(World* world, uint32_t which, uint32_t number) noexcept nogil:
    """From here on a word changes before each access: see build.py. Above RESTLESS, none does."""
    global shmring_restless_step, shmring_restless_mask, shmring_restless_changes
    cdef Slot* slot = &world.map.participants[number % 6]
    cdef bint is_marked = False
    cdef char* word = NULL
    shmring_restless_step, shmring_restless_mask, shmring_restless_changes = 16, ALL_BITS, 0
    if which == 0:
        word, is_marked = <char*> &world.map.producers.tail, world.map.is_multi
    elif which == 1:
        word = <char*> &world.map.producers.reserve
    elif which == 2:
        word = <char*> &world.map.producers.moves
    elif which == 3 or which == 4:
        word, is_marked = <char*> &world.map.groups[number % 2].head, True
    elif which == 5:
        word, is_marked = <char*> &slot.granted, True
    elif which == 6:
        word = <char*> &slot.hold
    elif which == 7:
        word = <char*> &slot.intent_start
    elif which == 8:
        word = <char*> &slot.claims[0].start
    elif which == 9:
        word = <char*> &world.map.producers.boundaries[number % BOUNDARIES].position
    elif which == 10:
        word = <char*> &world.map.groups[number % 2].attention
    elif which == 11:
        word = <char*> &world.map.groups[number % 2].state
    elif which == 12:
        word = <char*> &slot.state
    elif which == 13:
        word = world.data + 16 * number
    if is_marked:       # the position moves on, only the mark changes, or anything
        shmring_restless_step = (16 << 12 if (number >> 3) % 3 == 0 else 1 if (number >> 3) % 3 == 1 else
                                 <uint64_t> 1 << ((number >> 4) * 4))
        if shmring_restless_step == 1:
            shmring_restless_mask = MARK_BITS
    elif which == 2 or which >= 10:
        shmring_restless_step = 1
    shmring_restless[0] = word
    shmring_restless[1] = NULL
    if word != NULL:
        shmring_restless[1] = (world.data_seen + (word - world.data) if which == 13 else
                               world.control_seen + (word - world.control))


cdef public void fuzz_one(const uint8_t* data, size_t size) noexcept nogil:
    """Run one input."""
    global done_inputs, current, shmring_restless_changes
    cdef Input input
    cdef World* world
    cdef uint32_t kind, which, number
    if not is_ready:
        prepare()
    input.data, input.size, input.at = data, size, 0
    kind = pick(&input, WORLDS)
    world = &worlds[kind]
    shmring_restless[0] = shmring_restless[1] = NULL
    stage_put_back(&stages[kind][pick(&input, STAGES)], world)
    which, number = 256 * RESTLESS - 1 - <uint32_t> take(&input, 2) % (256 * RESTLESS), pick(&input, 256)
    shmring_restless_changes = 0
    if not shmring_keeps_still:
        make_restless(world, which, number)
    current = kind
    # Going to a bound takes some 10 ms: once in an input is enough.
    while input.at < input.size and shmring_restless_changes < MANY_CHANGES:
        step(world, &input)
    done_inputs += 1


cdef public void fuzz_counts(uint64_t* counts) noexcept nogil:
    """Inputs, damages and acts so far."""
    counts[0], counts[1], counts[2] = done_inputs, done_damages, done_acts


# ---- for Python ----------------------------------------------------------------------------------------------------


cdef size_t make_input(uint64_t seed, uint64_t number, uint8_t* buffer) noexcept nogil:
    """Input `number` of a seed. Few damages in most, so that what they damage is used; all but the first bytes are random."""
    cdef uint64_t random = seed * <uint64_t> 0xd1342543de82ef95 ^ number
    cdef size_t size = 16 + next_random(&random) % (MOST_BYTES - 16)
    cdef size_t at
    cdef uint64_t word
    for at in range(0, size, 8):
        word = next_random(&random)
        (<uint64_t*> (buffer + at))[0] = word
    return size


def input_of(uint64_t seed, uint64_t number):
    """The bytes of an input, to be kept or sent to `one`."""
    cdef uint8_t buffer[MOST_BYTES + 8]
    return (<char*> buffer)[:make_input(seed, number, buffer)]


def run(uint64_t seed, uint64_t first, uint64_t count, uint64_t[::1] progress):
    """Run inputs first .. first + count - 1. `progress`, which the caller's parent can see, gets the number of the input that is
    running, and the damages and acts done."""
    cdef uint8_t buffer[MOST_BYTES + 8]
    cdef uint64_t number, damages = progress[1] - done_damages, acts = progress[2] - done_acts
    cdef volatile uint64_t* seen = &progress[0]
    with nogil:
        for number in range(first, first + count):
            seen[0] = number
            fuzz_one(buffer, make_input(seed, number, buffer))
            seen[1] = damages + done_damages
            seen[2] = acts + done_acts


def one(const uint8_t[::1] data):
    """Run one input; returns the damages that it made."""
    before = done_damages
    with nogil:
        fuzz_one(&data[0], data.shape[0])
    return done_damages - before


def lose_each_exchange(int kind, uint64_t length):
    """A producer wants room in a ring whose tail gets another mark before each of its exchanges, and stays where it is. Returns
    what is wrong with what happened, and how often the tail was changed."""
    cdef World* world = &worlds[kind]
    cdef Writer* writer = &world.writers[0]
    cdef uint64_t start = 0, span = 0, changes, position
    cdef uint32_t messages = 0, previous = 0
    cdef char* payload = NULL
    cdef int code
    if not is_ready:
        prepare()
    stage_put_back(&stages[kind][0], world)
    position = writer.tail.position
    make_restless(world, 0, 8)
    with nogil:
        code = produce_reserve(writer, length, &payload)
    changes = shmring_restless_changes
    shmring_restless[0] = shmring_restless[1] = NULL
    if code != CORRUPT or writer.fault.offset != PRODUCERS_OFFSET:
        return f"code {code}, fault at {writer.fault.offset}", changes
    if changes < 2 * MOST_LOST:
        return "it gave up early", changes
    if intent_read(writer.slot, &start, &span, &messages, &previous):
        return f"it still intends {span} bytes at {start}", changes
    if writer.tail.position != position:
        return "the tail moved", changes
    code = produce_reserve(writer, length, &payload)        # the word stands still again, and all is well
    return f"code {code} afterwards" if code else "", changes


def pester(uint64_t seed):
    """Damage the ring that `run` works on in another thread, until `leave_alone`. Returns how often."""
    global is_pestering
    cdef uint8_t buffer[64]
    cdef uint64_t random = seed, count = 0
    cdef Input input
    cdef int at
    is_pestering = 1
    with nogil:
        while is_pestering:
            if current < 0:
                continue
            for at in range(8):
                (<uint64_t*> buffer)[at] = next_random(&random)
            input.data, input.size, input.at = buffer, 64, 0
            damage_once(&worlds[current], &input)
            count += 1
    return count


def leave_alone():
    global is_pestering
    is_pestering = 0
