# cython: language_level=3
"""The kernel's fuzz target: an input is a small program of damage and of what participants do; `one` runs it.

An input begins with the ring's geometry and its stage of life; each further byte chooses a damage or an act, which take their
own arguments. The same bytes always do the same, so a crashing input can be replayed. `run` makes inputs from a seed and a
number; libFuzzer (libfuzzer.c) makes them from what they covered. `pester` damages the ring that another thread works on.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shmring._core.doorbell cimport bell_arm
from shmring._core.layout cimport RingMap, Slot

from acts cimport act_consume, act_join_watcher, act_observe, act_produce, act_send
from damage cimport damage_near, damage_once
from tables cimport act_tables, table_join
from world cimport (STAGES, WORLDS, Input, Stage, World, pick, stage_put_back, stage_take, world_make, world_view)

cdef enum:
    MOST_BYTES = 256

cdef World worlds[WORLDS]
cdef Stage stages[WORLDS][STAGES]
cdef World* current = NULL
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


cdef public void fuzz_one(const uint8_t* data, size_t size) noexcept nogil:
    """Run one input."""
    global done_inputs, current
    cdef Input input
    cdef World* world
    cdef uint32_t kind
    if not is_ready:
        prepare()
    input.data, input.size, input.at = data, size, 0
    kind = pick(&input, WORLDS)
    world = &worlds[kind]
    stage_put_back(&stages[kind][pick(&input, STAGES)], world)
    current = world
    while input.at < input.size:
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
            if current == NULL:
                continue
            for at in range(8):
                (<uint64_t*> buffer)[at] = next_random(&random)
            input.data, input.size, input.at = buffer, 64, 0
            damage_once(current, &input)
            count += 1
    return count


RESTLESS = ("tail", "reserve", "moves", "head", "granted", "hold", "intent", "claim", "boundary", "header", "attention")


def unsettle(str name):
    """Change one word, ever again, until `leave_alone`: whoever waits for it to stand still waits for ever. Returns how often."""
    global is_pestering
    cdef int which = RESTLESS.index(name)
    cdef uint64_t count = 0
    cdef World* world
    is_pestering = 1
    with nogil:
        while is_pestering:
            world = current
            if world != NULL:
                count += 1
                unsettle_once(world, which, count)
    return count


cdef inline void unsettle_once(World* world, int which, uint64_t count) noexcept nogil:
    cdef Slot* slot = &world.map.participants[count % 6]
    cdef uint64_t step = 16 * (count & 7)
    cdef volatile uint64_t* word
    if which == 0:
        word = <uint64_t*> &world.map.producers.tail
    elif which == 1:
        word = <uint64_t*> &world.map.producers.reserve
    elif which == 2:
        (<volatile uint32_t*> &world.map.producers.moves)[0] += 1
        return
    elif which == 3:
        word = <uint64_t*> &world.map.groups[0].head
    elif which == 4:
        word = <uint64_t*> &slot.granted
    elif which == 5:
        word = <uint64_t*> &slot.hold
    elif which == 6:
        word = <uint64_t*> &slot.intent_start
    elif which == 7:
        word = <uint64_t*> &slot.claims[0].start
    elif which == 8:
        word = <uint64_t*> &world.map.producers.boundaries[count & 31].position
    elif which == 9:
        # A record at every place, for whoever looks there next: an aborted one.
        word = <uint64_t*> (world.data + 16 * (count & 255))
        word[0] = ((damage_near(world) & ~<uint64_t> 4095) + 16 * (count & 255) | 2) ^ world.map.cookie
        (<volatile uint32_t*> word)[2] = 0
        return
    else:
        (<volatile uint32_t*> &world.map.groups[0].attention)[0] = count & 7
        return
    word[0] = word[0] + (step << 12 if which in (0, 3, 4) and (which != 0 or world.map.is_multi) else step)


def leave_alone():
    global is_pestering
    is_pestering = 0
