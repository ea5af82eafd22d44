"""Creators that race or die, and files that outlive everybody."""

from __future__ import annotations

import os
import signal

import shmring

# Every call of these functions is a point at which the creator kills itself, once before and once after the
# call.
DIE_AT = """
    import shmring.backing, shmring.ring, shmring.creation, fcntl
    from multiprocessing import *
    name, point = sys.argv[1], int(sys.argv[2])
    passed = 0
    def watched(module, label):
        real = getattr(module, label)
        def call(*args, **options):
            tick(); result = real(*args, **options); tick()
            return result
        setattr(module, label, call)
    def tick():
        global passed
        if passed == point: os.kill(os.getpid(), signal.SIGKILL)
        passed += 1
    for label in ("open close link dup ftruncate posix_fallocate fstat fstatvfs stat urandom unlink").split():
        watched(os, label)
    watched(os.path, "lexists")
    watched(shmring.creation, "format_segment")
    ring = shmring.create(name, 4096)
    tx = ring.producer()
    tx.send(b"whole")
    say("survived", passed)
"""


def test_a_creator_killed_at_any_call_blocks_nobody(named, peer):
    point, survived = 0, False
    while not survived:
        creator = peer(DIE_AT, named.name, point)
        creator.process.wait()
        survived = creator.process.returncode == 0
        assert survived or creator.process.returncode == -signal.SIGKILL
        was_there = os.path.lexists(named.path())
        with named.create(4096, exist_ok=True) as ring, ring.producer() as tx, ring.consumer() as rx:
            tx.send(b"mine")
            assert rx.recv_many(9)[-1] == b"mine"
            assert len(ring.stats().participants) == 2
        assert was_there or point < 1000
        shmring.unlink(named.name)
        point += 1 if point < 12 else 3
        assert point < 400
    assert point > 20, "the points are not reached: the list of functions is out of date"
    left = os.listdir("/dev/shm") + os.listdir(os.path.dirname(named.path()))
    assert not [each for each in left if each.startswith(f".shmring-{os.path.basename(named.path())}")]


def test_a_creator_killed_at_random_moments_blocks_nobody(unique_name, peer):
    creator_program = """
        say("ready")
        while True:
            ring = shmring.create(sys.argv[1], 4096, exist_ok=True)
            with ring.producer() as tx:
                tx.send(b"x") if ring.stats().fill < 0.5 else shmring.unlink(sys.argv[1])
            ring.close()
    """
    import random

    moments = random.Random(5)
    for _ in range(12):
        creator = peer(creator_program, unique_name)
        creator.expect("ready")
        for _ in range(moments.randrange(20_000)):
            pass
        creator.kill()
        with (
            shmring.create(unique_name, 4096, exist_ok=True) as ring,
            ring.producer() as tx,
            ring.consumer() as rx,
        ):
            while rx.try_recv() is not None:
                pass
            tx.send(b"mine")
            assert rx.recv_many(999)[-1] == b"mine"


def test_fifty_creators_at_once_share_one_ring(named, peer):
    rounds = 20
    creators = peer(
        """
        name, rounds = sys.argv[1], int(sys.argv[2])
        shmring.create(name + "warm", 4096).close()         # everything is imported before the forks
        shmring.unlink(name + "warm")
        gates = [os.pipe() for _ in range(rounds)]
        answers, answer = os.pipe()
        children = []
        for _ in range(50):
            child = os.fork()
            if child == 0:
                for number, (gate, opener) in enumerate(gates):
                    os.close(opener)
                    os.read(gate, 1)                        # until the parent closes its end, for all at once
                    ring = shmring.create(name + str(number), 4096, exist_ok=True)
                    os.write(answer, ring.uuid.hex().encode() + b"\\n")
                os._exit(0)
            children.append(child)
        lines = open(answers)
        for gate, opener in gates:
            os.close(opener)
            say(*[lines.readline().strip() for _ in children])
        for child in children: os.waitpid(child, 0)
    """,
        named.name,
        rounds,
    )
    for number in range(rounds):
        heard = creators.hear().split()
        with shmring.open(f"{named.name}{number}") as ring:
            assert heard == [ring.uuid.hex()] * 50
        shmring.unlink(f"{named.name}{number}")
    creators.finish()


def test_of_many_creators_without_exist_ok_one_wins(unique_name, peer):
    creators = [
        peer(
            """
        say("ready"); hear()
        try:
            ring = shmring.create(sys.argv[1], 4096)
            say("made")
        except shmring.RingExists:
            say("taken")
    """,
            unique_name,
        )
        for _ in range(8)
    ]
    for creator in creators:
        creator.expect("ready")
    for creator in creators:
        creator.say()
    assert sorted(creator.hear() for creator in creators) == ["made"] + ["taken"] * 7


def test_a_file_read_on_after_everybody_died_continues_at_the_right_record(tmp_path, peer):
    path = tmp_path / "ring"
    user = """
        ring = shmring.create(sys.argv[1], 4096, exist_ok=True)
        tx, rx = ring.producer(), ring.consumer()
        first, count = int(sys.argv[2]), int(sys.argv[3])
        for i in range(first, first + count): tx.send(b"%d" % i)
        got = [rx.recv().decode() for _ in range(count - 1)]
        if sys.argv[4] == "look": view = rx.peek()
        say(*got)
        if sys.argv[4] == "close": ring.close(); raise SystemExit
        hear()
    """
    expected = 0
    sent = 0
    for how in ("close", "kill", "look", "kill", "close", "look"):
        user_process = peer(user, path, sent, 30, how)
        got = list(map(int, user_process.hear().split()))
        assert got == list(range(expected, expected + 29))
        expected += 29
        sent += 30
        user_process.finish() if how == "close" else user_process.kill()
    with shmring.open(path) as ring, ring.consumer() as rx:
        assert [int(message) for message in rx.recv_many(99)] == list(range(expected, sent))
