"""Damaged bytes and cut files: an exception that names offset and value, never a crash, and never a wrong
message."""

from __future__ import annotations

import layout_bytes as at
import pytest

import shmring

# Uses a ring in every way there is and says how each went; whatever the bytes, it ends with exit code 0.
USER = """
    path, wanted = sys.argv[1], sys.argv[2:]
    wait = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=1)
    def attempt(label, call):
        try:
            result = call()
            say(label, "ok", repr(result)[:60])
            return result
        except Exception as error:
            say(label, type(error).__name__, str(error).replace("\\n", " "))
    ring = attempt("open", lambda: shmring.open(path))
    if ring is not None:
        attempt("stats", ring.stats)
        tx = attempt("producer", lambda: ring.producer(wait=wait))
        rx = attempt("consumer", lambda: ring.consumer(wait=wait))
        other = attempt("other", lambda: ring.consumer("other", wait=wait))
        for role in (rx, other):
            if role is not None:
                attempt("recv", lambda: role.recv(0.01))
                attempt("peek", lambda: bytes(role.peek(0).data))
                attempt("many", lambda: role.recv_many(9, 0))
                attempt("lag", lambda: role.lag)
        if tx is not None:
            for _ in range(3):
                attempt("send", lambda: tx.send(bytes(1500), 0.01))
        attempt("stats", ring.stats)
        attempt("remove", lambda: ring.remove_group("other"))
        attempt("repair", ring.repair)
        for role in (tx, rx, other):
            if role is not None: attempt("close", role.close)
        attempt("remove", lambda: ring.remove_group("default"))
        attempt("shutdown", ring.shutdown)
        attempt("close", ring.close)
    say("alive")
"""


@pytest.fixture
def victim(tmp_path):
    """A file-backed ring with three messages and two groups, which nobody uses."""
    with shmring.create(tmp_path / "ring", 4096, producers="single", max_participants=1, max_groups=2) as ring:
        ring.consumer("other").close()
        with ring.producer() as tx:
            tx.send_many([b"first", b"second", b"third"])
    # One slot is not enough for the program, so tables get larger where a test does not need them small.
    return tmp_path / "ring"


def make_roomy(path, producers):
    with shmring.create(path, 4096, producers=producers, max_participants=4, max_groups=2) as ring:
        ring.consumer("other").close()
        with ring.producer() as tx:
            tx.send_many([b"first", b"second", b"third"])
    return path


@pytest.fixture
def roomy(tmp_path):
    """For a single producer."""
    return make_roomy(tmp_path / "ring", "single")


@pytest.fixture
def crowded(tmp_path):
    """For many."""
    return make_roomy(tmp_path / "ring", "multi")


@pytest.fixture
def use(peer):
    def run(path):
        lines = peer(USER, path).finish().splitlines()
        assert lines[-1] == "alive"
        return lines

    return run


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_an_undamaged_ring_gives_no_complaint(tmp_path, use, producers):
    lines = use(make_roomy(tmp_path / "ring", producers))
    assert [line for line in lines if "Corrupt" in line or "Mismatch" in line] == []
    assert "recv ok b'first'" in lines


@pytest.mark.parametrize("field", ["version", "signature"])
def test_another_layout_is_a_mismatch_that_names_both(victim, field):
    ours = at.identity(victim, field)
    at.write(victim, at.IDENTITY[field][0], 0xABCD, "I")
    with pytest.raises(shmring.LayoutMismatch, match=rf"{field}.*0xabcd.*{ours:#x}") as caught:
        shmring.open(victim)
    assert isinstance(caught.value, ValueError)


def test_another_file_is_a_mismatch(victim):
    at.write(victim, 0, int.from_bytes(b"SQLite f", "little"))
    with pytest.raises(shmring.LayoutMismatch, match="no ring"):
        shmring.open(victim)


@pytest.mark.parametrize("content", [b"", b"short", bytes(4096), bytes(100_000)], ids=len)
def test_a_file_that_never_was_a_ring_is_a_mismatch(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(shmring.LayoutMismatch, match="no ring"):
        shmring.open(tmp_path / "file")


def test_an_unfinished_ring_is_a_mismatch(victim):
    at.write(victim, at.IDENTITY["ready"][0], 0)
    with pytest.raises(shmring.LayoutMismatch, match="never finished"):
        shmring.open(victim)


@pytest.mark.parametrize(
    "field, value",
    [
        ("capacity", 0),
        ("capacity", 8192),
        ("capacity", 4095),
        ("capacity", 1 << 63),
        ("capacity", 2048),
        ("cookie", 1),
        ("align", 0),
        ("align", 32),
        ("align", 1 << 31),
        ("max_participants", 0),
        ("max_participants", 40),
        ("max_participants", 0xFFFFFFFF),
        ("max_groups", 0),
        ("max_groups", 3),
        ("max_groups", 65),
        ("max_groups", 0xFFFFFFFF),
        ("participants_offset", 0),
        ("participants_offset", 1 << 62),
        ("data_offset", 0),
        ("data_offset", 1 << 62),
        ("data_offset", 4096),
        ("segment_bytes", 0),
        ("segment_bytes", 1 << 62),
        ("page_bytes", 0),
        ("page_bytes", 1 << 31),
        ("page_bytes", 4097),
    ],
)
def test_an_impossible_identity_is_corrupt_and_named(victim, field, value):
    offset, form = at.IDENTITY[field]
    at.write(victim, offset, value, form)
    with pytest.raises(shmring.CorruptRing, match=r"value 0x[0-9a-f]+ at offset 0x[0-9a-f]+") as caught:
        shmring.open(victim)
    assert isinstance(caught.value, ValueError)


def test_a_ring_whose_file_was_cut_before_is_corrupt(victim):
    size = victim.stat().st_size
    for left in (size - 1, size - 4096, 4096):
        with open(victim, "r+b") as file:
            file.truncate(left)
        with pytest.raises(shmring.CorruptRing, match=f"{size:#x}"):
            shmring.open(victim)


@pytest.mark.parametrize("damage", [1, 8, 4096, -4096, 1 << 20, 1 << 63, -16], ids=str)
def test_an_impossible_tail_is_corrupt(roomy, use, damage):
    tail = at.read(roomy, at.TAIL)
    at.write(roomy, at.TAIL, tail + damage)
    corrupt = [line for line in use(roomy) if "CorruptRing" in line]
    assert corrupt
    if damage != -16:  # then the tail may be right, and it is the last record that is cut short
        assert f"{(tail + damage) % (1 << 64):#x}" in corrupt[0]


@pytest.mark.parametrize("damage", [1, 8, 4112, -96, 1 << 20, 1 << 63], ids=str)
@pytest.mark.parametrize("looks_at", [0, 1])
def test_a_tail_that_goes_wrong_under_a_live_consumer_is_corrupt(roomy, damage, looks_at):
    with shmring.open(roomy) as ring, ring.consumer() as rx:
        views = [rx.peek(0) for _ in range(looks_at)]
        [rx.recv(0) for _ in range(3 - looks_at)]
        tail = at.read(roomy, at.TAIL)
        bad = (tail + damage) % (1 << 64)
        at.write(roomy, at.TAIL, bad)
        for call in (rx.try_recv, lambda: rx.recv(0), lambda: rx.peek(0), lambda: rx.recv_many(5, 0)):
            with pytest.raises(shmring.CorruptRing, match=rf"{bad:#x} at offset {at.TAIL:#x}"):
                call()
        at.write(roomy, at.TAIL, tail)
        for view in views:
            view.release()


@pytest.mark.parametrize("damage", [8192 << 12, -(8192 << 12), 1 << 63], ids=str)
def test_a_head_that_goes_wrong_under_a_live_producer_is_corrupt(roomy, damage):
    with shmring.open(roomy) as ring, ring.producer() as tx:
        tx.send(bytes(2000))
        head = at.GROUPS + at.GROUP_HEAD
        bad = (at.read(roomy, head) + damage) % (1 << 64)
        at.write(roomy, head, bad)
        for call in (tx.try_send, lambda message: tx.send(message, 0), lambda message: tx.send_many([message], 0)):
            with pytest.raises(shmring.CorruptRing, match=rf"at offset {head:#x}"):
                call(bytes(2500))


def marked(position, mark=0):
    return (position // 16 % 2**48) << 16 | mark


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("position", [1 << 51, 8192, -8192])
def test_an_impossible_head_is_corrupt(tmp_path, use, producers, position):
    path = make_roomy(tmp_path / "ring", producers)
    at.write(path, at.GROUPS + at.GROUP_HEAD, marked(position))
    head = at.GROUPS + at.GROUP_HEAD
    assert any("CorruptRing" in line and f"offset {head:#x}" in line for line in use(path))


@pytest.mark.parametrize("damage", [1 << 51, 4112, -4096], ids=str)
def test_an_impossible_tail_of_many_producers_is_corrupt(crowded, use, damage):
    at.write(crowded, at.TAIL, marked(96 + damage, 1))
    assert any("CorruptRing" in line for line in use(crowded))


def test_room_that_nobody_reserved_is_corrupt_and_not_waited_for(crowded):
    """The tail says that something was reserved, and nobody says that it was he."""
    with shmring.open(crowded) as ring, ring.consumer() as rx:
        assert len(rx.recv_many(9)) == 3
        at.write(crowded, at.TAIL, marked(96 + 64, 1))
        with pytest.raises(shmring.CorruptRing, match=f"offset {at.identity(crowded, 'data_offset') + 96:#x}"):
            rx.recv()


@pytest.mark.parametrize(
    "offset, value, form", [(0, 0, "Q"), (0, 17, "Q"), (8, 0xFFFFFFFF, "I"), (8, 4096, "I"), (8, 200, "I")]
)
def test_an_impossible_header_is_corrupt_and_named(roomy, use, offset, value, form):
    header = at.identity(roomy, "data_offset")
    at.write(roomy, header + offset, value, form)
    corrupt = [line for line in use(roomy) if line.startswith("recv CorruptRing")]
    assert corrupt and f"{header + offset:#x}" in corrupt[0]
    if offset:
        assert f"{value:#x}" in corrupt[0]


def test_a_message_that_looks_like_a_header_is_none(roomy):
    """A damaged length that leads into a payload: the cookie keeps the payload from passing for a record."""
    import struct

    with shmring.open(roomy) as ring, ring.producer() as tx, ring.consumer() as rx:
        rx.recv_many(9)
        tail = at.read(roomy, at.TAIL)
        forged = struct.pack("<QIHH", (tail + 32) | 1, 16, 0, 0) + bytes(16)
        tx.send(bytes(16) + forged)
        tx.send(b"real")
        at.write(roomy, at.identity(roomy, "data_offset") + tail % 4096 + 8, 16, "I")
        rx.recv(0)
        with pytest.raises(shmring.CorruptRing):
            rx.recv(0)


@pytest.mark.parametrize("bell", [at.DATA_BELL, at.ROOM_BELL], ids=["data", "room"])
def test_wait_bits_of_participants_that_cannot_exist_do_no_harm(tmp_path, peer, bell):
    """Every bit is set, the table has four slots at the end of the control pages, and what follows them is no
    memory."""
    path = tmp_path / "ring"
    shmring.create(path, 4096, max_participants=4, max_groups=2).close()
    for word in (at.ARMED, at.PARKED):
        for each in range(16):
            at.write(path, bell + word + 8 * each, -1)
    peer(
        """
        import ctypes
        mmap = ctypes.CDLL(None).mmap
        mmap.restype = ctypes.c_void_p
        mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
        def has_fence(ring):
            lines = [line.split() for line in open("/proc/self/maps")]
            for line, after in zip(lines, lines[1:]):
                first, last = (int(part, 16) for part in line[0].split("-"))
                if line[-1] == sys.argv[1] and last - first == ring.stats().control_bytes:
                    return after[1].startswith("---") and int(after[0].split("-")[0], 16) == last
        rings = []
        while True:
            mmap(None, 1 << 16, 0, 0x22, -1, 0)     # inaccessible; the next mapping lands right before it
            ring = shmring.open(sys.argv[1])
            if has_fence(ring): break
            rings.append(ring)
            if len(rings) == 100: os._exit(0)               # never seen; then there is nothing to show
        tx, rx = ring.producer(), ring.consumer()
        tx.send(b"x")
        rx.recv(0)
    """,
        path,
    ).finish()


@pytest.mark.parametrize("value", [5, 1000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_producer_that_cannot_exist_does_no_harm(roomy, use, value):
    at.write(roomy, at.SOLE, value, "I")
    assert any(line.startswith("recv ok") for line in use(roomy))


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("mark", [5, 1000, 0xFFFF])
def test_a_member_that_cannot_exist_does_no_harm(tmp_path, use, producers, mark):
    """The head says that it claimed last."""
    path = make_roomy(tmp_path / "ring", producers)
    for number in range(2):
        at.write(path, at.GROUPS + number * at.GROUP_BYTES + at.GROUP_HEAD, marked(0, mark))
    assert any(line.startswith("recv ok") for line in use(path))


@pytest.mark.parametrize("start, end", [(0, 1 << 40), (64, 32), (8, 40), (1 << 51, 32), (0, 0)])
def test_claims_that_cannot_be_are_not_adopted(crowded, use, start, end):
    """An orphan's slot says that it holds them."""
    slot = at.participant(crowded, 0)
    for offset, value in (
        (at.SLOT_CLAIMS, start),
        (at.SLOT_CLAIMS + 8, end),
        (at.SLOT_HOLD, 0),
    ):
        at.write(crowded, slot + offset, value)
    for offset, value in ((at.SLOT_GROUP, 0), (at.SLOT_ROLE, 2), (at.SLOT_STATE, 3)):
        at.write(crowded, slot + offset, value, "I")
    at.write(crowded, at.GROUPS + at.GROUP_ATTENTION, 2, "I")
    assert any(line.startswith("recv ok b'first'") for line in use(crowded))


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("seed", range(12))
def test_random_damage_of_the_control_pages_never_crashes(tmp_path, use, seed, producers):
    import random

    roomy = make_roomy(tmp_path / "ring", producers)
    chance = random.Random(seed)
    end = at.identity(roomy, "data_offset")
    for _ in range(chance.choice([1, 10, 200])):
        value = chance.choice([0, 1, 2, 0xFFFFFFFFFFFFFFFF, chance.getrandbits(64)])
        at.write(roomy, chance.randrange(4096, end - 8, 4), value)
    use(roomy)


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("seed", range(6))
def test_random_damage_of_the_data_never_crashes(tmp_path, use, seed, producers):
    import random

    roomy = make_roomy(tmp_path / "ring", producers)
    chance = random.Random(seed)
    start = at.identity(roomy, "data_offset")
    for _ in range(chance.choice([1, 10, 200])):
        at.write(roomy, start + chance.randrange(0, 128), chance.getrandbits(8), "B")
    use(roomy)


# ---- files cut under a live user ---------------------------------------------------------------------------


def cut(path, left):
    with open(path, "r+b") as file:
        file.truncate(left)


@pytest.mark.parametrize("left", ["nothing", "control", "half the data"])
@pytest.mark.parametrize("role", ["producer", "consumer", "parked consumer", "parked producer", "view", "claim"])
def test_a_cut_file_is_an_exception_and_the_process_lives(tmp_path, peer, role, left):
    path = tmp_path / "ring"
    ring = shmring.create(path, 16384)
    user = peer(
        """
        ring = shmring.open(sys.argv[1])
        role = sys.argv[2]
        wait = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=5) if "parked" in role else "adaptive"
        tx, rx = ring.producer(wait=wait), ring.consumer(wait=wait)
        if role in ("consumer", "view"): tx.send_many([bytes(1000)] * 16, timeout=0)
        if role == "parked producer": tx.send(bytes(16368))
        if role == "view": view = rx.peek()
        if role == "claim": claim = tx.reserve(16000)
        say("ready")
        if "parked" not in role: hear()
        try:
            if role == "producer":
                while True: tx.send(bytes(1000)); rx.recv()
            elif role in ("consumer", "parked consumer"):
                while True: rx.recv()
            elif role == "parked producer":
                tx.send(b"x")
            elif role == "view":
                bytes(view.data); view.release()
                while True: rx.recv()
            else:
                claim.view[:] = bytes(16000)
                claim.commit()
                while True: rx.recv()
        except shmring.RingTruncated as error:
            say("RingTruncated", isinstance(error, OSError))
        for handle in (tx, rx, ring):
            try: handle.close()
            except shmring.RingTruncated: pass
            assert handle.closed
        say("alive")
    """,
        path,
        role,
    )
    user.expect("ready")
    control = ring.stats().control_bytes
    if "parked" in role:
        while not any(each.parks for each in ring.stats().participants):
            pass
    ring.close()
    cut(path, {"nothing": 0, "control": control, "half the data": control + 4096}[left])
    if "parked" in role and left != "nothing":
        user.end()  # the words that it looks at are still there: nothing to notice
        return
    user.say()
    user.expect("RingTruncated True")
    user.expect("alive")
    user.finish()
