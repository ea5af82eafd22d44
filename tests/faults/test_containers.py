"""Participants in containers: other pid, time, mount and user namespaces, other users, mounts for reading only."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile

import pytest
from containers import ENTER, GUEST, Guest

import shmring

pytestmark = pytest.mark.timeout(300, method="signal")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become several users and to mount")

OWN_PIDS = GUEST + "\nenter(PIDS, proc={})\nserve(shmring.open(sys.argv[1]))\n"
OWN_TIME = GUEST + "\nenter(TIMES)\nserve(shmring.open(sys.argv[1]))\n"
NOBODY = OWN_PIDS.replace("\nenter(PIDS", "\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\nenter(PIDS")


@pytest.fixture
def ring(unique_name):
    with shmring.create(unique_name, 4096, max_participants=8) as made:
        os.chmod(f"/dev/shm/{unique_name}", 0o666)  # for guests that are somebody else
        yield made


def meet(ring, one: Guest, other: Guest):
    """Both are alive to each other and to us; then one dies, with an open claim, and the other goes on."""
    for each in (one, other):
        assert each.ask("repair") == "0 [True, True, True, True]"
    assert ring.repair() == 0 and all(each.alive for each in ring.stats().participants)
    assert one.ask("claim") == "claimed"
    assert other.ask("send") == "sent"
    other.started.say("recv")  # waits behind the claim, and looks who is in its way
    while not any(each.parks > 1 for each in ring.stats().participants):
        pass
    assert ring.repair() == 0
    os.kill(one.pid, signal.SIGKILL)
    assert other.started.hear() == "from the guest"
    assert ring.stats().repairs >= 1
    assert other.ask("repair").endswith("[True, True]")
    assert (ring.stats().repairs, ring.stats().aborted) == (2, 1)


@pytest.mark.parametrize("proc", [True, False], ids=["own proc", "the host's proc"])
@pytest.mark.parametrize("program", [pytest.param(OWN_PIDS, marks=needs_root), NOBODY], ids=["root", "nobody"])
def test_two_pid_namespaces_whose_pids_are_the_same(ring, peer, program, proc):
    """Both guests have pid 1. That the other's pid is here, or is not, says nothing: only its lock does."""
    if program is NOBODY and os.geteuid() != 0:
        program = OWN_PIDS
    guests = [Guest(peer(program.replace("{}", str(proc)), ring.name, group)) for group in "ab"]
    assert [each.inside for each in guests] == [1, 1] and guests[0].pid != guests[1].pid
    meet(ring, *guests)


@pytest.mark.parametrize("dies", ["inside", "outside"])
def test_who_lives_in_another_time_namespace_is_not_taken_for_dead(ring, peer, dies):
    """There /proc shifts all start times, so that a living process looked like another one with its pid, and was buried."""
    inside = Guest(peer(OWN_TIME, ring.name, "a"))
    outside = Guest(peer(GUEST + "\nserve(shmring.open(sys.argv[1]))\n", ring.name, "b"))
    meet(ring, *((inside, outside) if dies == "inside" else (outside, inside)))


@needs_root
def test_a_process_that_has_its_outer_pid_inside_too_does_not_trust_the_hosts_proc(ring, peer):
    """It believed that /proc was its own namespace's, and took the pids there for those of its neighbours."""
    same = (
        GUEST
        + """
import struct
must(libc.unshare(PIDS), "unshare")
first = fork_and_tell()
if first:
    os.waitpid(first, 0); os._exit(0)
libc.prctl(1, 9)
wanted = 30000                          # in both namespaces: clone3 can be told
while os.path.exists(f"/proc/{wanted}"): wanted += 1
pids = ctypes.create_string_buffer(struct.pack("ii", wanted, wanted))
words = ctypes.create_string_buffer(struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(pids), 2, 0))
child = libc.syscall(ctypes.c_long(435), words, ctypes.c_size_t(88))
if child < 0: must(1, "clone3")
if child: os.waitpid(child, 0); os._exit(0)
assert os.readlink("/proc/self") == str(os.getpid()) == str(wanted)
serve(shmring.open(sys.argv[1]))
"""
    )
    guest = Guest(peer(same, ring.name, "a"))
    assert guest.ask("namespace") == "0"
    guest.started.say("leave")


# ---- mounts ----------------------------------------------------------------------------------------------------------


WATCHER = (
    ENTER
    + """
folder = sys.argv[1]
enter(MOUNTS)
mount(folder, folder, None, 0x1000)                     # MS_BIND
mount("none", folder, None, 0x1000 | 0x20 | 1)          # MS_BIND | MS_REMOUNT | MS_RDONLY
say("mounted")
with shmring.open(folder + "/ring", readonly=True) as ring, ring.consumer(lossy=True) as rx:
    say("watching", rx.recv(0).decode())
    say(rx.recv().decode(), ring.stats().groups[0].lag, len(ring.stats().participants))
    for call in (lambda: shmring.open(folder + "/ring"), lambda: shmring.create(folder + "/other", 4096),
                 lambda: shmring.create(folder + "/ring", 4096, exist_ok=True), ring.producer, ring.consumer):
        try: call()
        except (shmring.Error, ValueError) as error:
            say(isinstance(error, PermissionError), "readonly=True" in str(error) or "reading only" in str(error))
    for _ in range(500): rx.recv()
    say("end", rx.lost)
"""
)


def test_a_mount_for_reading_only_is_enough_for_observers_and_explains_itself_to_others(tmp_path, peer):
    with shmring.create(tmp_path / "ring", 1 << 16) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"first")
        watcher = peer(WATCHER, tmp_path)
        heard = watcher.hear()
        if heard.startswith("refused"):
            pytest.skip(f"this machine or user does not permit it: {heard}")
        watcher.expect("watching first")
        tx.send(b"second")
        watcher.expect("second 2 2")
        for line in 3 * ["True True"] + 2 * ["False True"]:
            watcher.expect(line)
        for each in range(500):
            tx.send(b"%d" % each)
        watcher.expect("end 0")
        watcher.finish()
        assert len(rx.recv_many(999)) == 502
    assert os.listdir(tmp_path) == ["ring"]


PRIVATE = (
    ENTER
    + """
name = sys.argv[1]
enter(MOUNTS)
os.makedirs(sys.argv[2] + "/shm")
mount("/dev/shm", sys.argv[2] + "/shm", None, 0x1000)   # as docker run --ipc=host or -v /dev/shm:... would
mount("none", "/dev/shm", "tmpfs", 0)
say("mounted")
try: shmring.open(name)
except shmring.RingNotFound: say("not here")
with shmring.create(name, 4096) as own, shmring.open(sys.argv[2] + "/shm/" + name) as theirs:
    say(own.uuid != theirs.uuid)
    with theirs.consumer() as rx: say(rx.recv(0).decode())
shmring.unlink(name)
"""
)


def test_a_name_means_another_ring_where_dev_shm_is_another(ring, tmp_path, peer):
    with ring.producer() as tx:
        tx.send(b"across")
    other = peer(PRIVATE, ring.name, tmp_path)
    heard = other.hear()
    if heard.startswith("refused"):
        pytest.skip(f"this machine or user does not permit it: {heard}")
    for line in ("not here", "True", "across"):
        other.expect(line)
    other.finish()
    assert ring.stats().participants == []
    shutil.rmtree(tmp_path / "shm")


# ---- users -----------------------------------------------------------------------------------------------------------

USER = (
    ENTER
    + """
uid, own, shared = map(int, sys.argv[1:4])
name, make = sys.argv[4], sys.argv[5] == "make"
os.setgroups([shared] if shared else [])
os.setgid(own); os.setuid(uid); os.umask(0o007)
try:
    ring = shmring.create(name, 4096, mode=0o660) if make else shmring.open(name, trust=40001)
    tx, rx = ring.producer(), ring.consumer()
except PermissionError as error:
    say("refused", isinstance(error, shmring.Error), "owner and mode" in str(error))
    os._exit(0)
say("attached")
for command in iter(hear, "leave"):
    if command == "send": tx.send(b"from %d" % uid); say("sent")
    elif command == "recv": say(rx.recv().decode())
    elif command == "claim": claim = tx.reserve(10); say("claimed")
    elif command == "repair": say(ring.repair())
"""
)


@needs_root
@pytest.mark.parametrize("place", ["folder with setgid", "dev shm"])
def test_different_users_share_a_ring_by_its_group(unique_name, peer, place):
    """In a folder with setgid a ring has the folder's group; in /dev/shm its creator's."""
    group, folder = 54321, tempfile.mkdtemp()
    try:
        os.chown(folder, 0, group)
        os.chmod(folder, 0o2770)
        name = f"{folder}/ring" if place == "folder with setgid" else unique_name
        maker = peer(USER, 40001, 40001 if "/" in name else group, group, name, "make")
        maker.expect("attached")
        status = os.stat(name if "/" in name else f"/dev/shm/{name}")
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (40001, group, 0o660)
        member = peer(USER, 40002, 40002, group, name, "open")
        member.expect("attached")
        stranger = peer(USER, 40003, 40003, 0, name, "open")
        stranger.expect("refused True True")

        def ask(who, command, answer):
            who.say(command)
            who.expect(answer)

        ask(maker, "send", "sent")
        ask(member, "recv", "from 40001")
        ask(member, "repair", "0")
        ask(maker, "claim", "claimed")
        ask(member, "send", "sent")
        maker.kill()
        ask(member, "recv", "from 40002")  # another user's gap is closed as anybody's
        ask(member, "repair", "0")
        with shmring.open(name, trust=40001) as ring:
            assert (ring.stats().repairs, ring.stats().aborted) == (2, 1)
    finally:
        shutil.rmtree(folder)
