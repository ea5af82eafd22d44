"""For children at a limit: does a call that fails leave a descriptor, a mapping or a name behind?"""

from __future__ import annotations

import textwrap

# Every such program has these. `fails_clean` tries a call with ever more of what is scarce: each time but the last it must
# raise the error, and leave nothing.
SWEEP = """
import ctypes, errno, fcntl, mmap, posix_ipc, resource, traceback       # what is imported when needed, too
from shmring import errors
import shmring.backing, shmring.evidence, shmring.hugepages, shmring.observer, shmring.consumer, shmring.producer, shmring.stats
shmring.evidence.own_identity()
PAGE = os.sysconf("SC_PAGESIZE")

def descriptors():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try: found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError: pass      # the listing's own
    return found

def mapped():
    with open("/proc/self/maps") as lines:
        return sorted(line for line in lines if "ring" in line.rpartition("/")[2])

def names(folder):
    mine = os.path.basename(sys.argv[1])        # others use /dev/shm, too
    return sorted(name for name in os.listdir(folder)
                  if name.startswith(mine) or (name.startswith(".shmring-") and folder != "/dev/shm"))

def left(folder):
    return descriptors(), mapped(), names(folder)

def fails_clean(label, folder, call, undo, kind, scarce, most):
    before, failures = left(folder), 0
    for amount in range(most):
        with scarce(amount):
            try:
                made = call()
            except kind as error:
                made, text = None, str(error)
                error.__traceback__ = None
        if made is not None:
            undo(made)
            assert left(folder) == before, (label, amount, before, left(folder))
            say(label, failures)
            return
        failures += 1
        assert left(folder) == before, (label, amount, text, before, left(folder))
    say(label, "never worked")

def everything(name, folder, kind, scarce, most):
    \"\"\"All that makes descriptors, mappings or names, one after the other.\"\"\"
    def forget(made): made.close()
    def unmake(made): made.close(); shmring.unlink(name)
    fails_clean("create", folder, lambda: shmring.create(name, 4096, max_participants=8), unmake, kind, scarce, most)
    fails_clean("anonymous", folder, lambda: shmring.anonymous(4096), forget, kind, scarce, most)
    ring = shmring.create(name, 4096, max_participants=8)
    for label, call in (("open", lambda: shmring.open(name)), ("readonly", lambda: shmring.open(name, readonly=True)),
                        ("exist_ok", lambda: shmring.create(name, 4096, max_participants=8, exist_ok=True))):
        fails_clean(label, folder, call, forget, kind, scarce, most)
    for label in ("producer", "consumer", "group", "observer"):
        fails_clean(label, folder, lambda: Attached(name, label), forget, kind, scarce, most)
        assert ring.stats().participants == [] and [each.name for each in ring.stats().groups] == ["default"]
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"works")
        assert rx.recv(0) == b"works"
    unmake(ring)
    say("done")

class Attached:
    \"\"\"A handle with a ring of its own: a ring keeps the mapping that an attempt has made for the next one.\"\"\"
    def __init__(self, name, label):
        self.ring = ring = shmring.open(name)
        try:
            self.handle = {"producer": ring.producer, "consumer": ring.consumer, "observer": lambda: ring.consumer(lossy=True),
                           "group": lambda: ring.consumer("new", ephemeral=True)}[label]()
        except BaseException:
            ring.close()
            raise
    def close(self):
        self.handle.close(); self.ring.close()
"""


def sweeping(program: str) -> str:
    """The source of a program that has all of the above."""
    return SWEEP + textwrap.dedent(program)


def told(peer) -> dict[str, str]:
    """What `everything` said: how often each call failed before it worked."""
    return dict(line.split(" ", 1) for line in iter(peer.hear, "done"))
