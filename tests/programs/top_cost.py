"""What `shmring top` costs: python tests/programs/top_cost.py [SECONDS]

Eight participants (four producers, four consumers of three groups) keep a ring busy while top draws on a pty of 80x24 at its
default refresh. Prints its CPU seconds per wall second from the third second on, so without the start of Python.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import struct
import sys
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
NAME = f"shmring-top-cost-{os.getpid()}"
GROUPS = ("default", "encode", "encode", "disk")
START_S = 3


def produce():
    import shmring

    with shmring.open(NAME) as ring, ring.producer() as tx:
        while True:
            for _ in range(200):
                tx.send(b"x" * 64)
            time.sleep(0.01)


def consume(group):
    import shmring

    with shmring.open(NAME) as ring, ring.consumer(group) as rx:
        while True:
            rx.recv_many(100)


def cpu_seconds(pid):
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_all(master):
    while True:
        try:
            os.read(master, 65536)
        except OSError:
            return


def main(seconds):
    import shmring

    context = multiprocessing.get_context("fork")
    with shmring.create(NAME, "16 MiB") as ring:
        users = [context.Process(target=consume, args=(group,)) for group in GROUPS]
        users += [context.Process(target=produce) for _ in range(4)]
        try:
            for user in users:
                user.start()
            child, master = pty.fork()
            if child == 0:
                os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT))
                os.execv(sys.executable, [sys.executable, "-m", "shmring", "top", NAME])
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            threading.Thread(target=read_all, args=(master,), daemon=True).start()
            time.sleep(START_S)
            began, before, sent = time.monotonic(), cpu_seconds(child), ring.stats(exact=False).tail
            time.sleep(seconds)
            passed, used = time.monotonic() - began, cpu_seconds(child) - before
            rate = (ring.stats(exact=False).tail - sent) / 80 / passed
            os.write(master, b"q")
            os.waitpid(child, 0)
        finally:
            for user in users:
                user.kill()
            for user in users:
                user.join()
            shmring.unlink(NAME)
    print(f"top: {used:.2f} CPU seconds in {passed:.0f} s, {used / passed:.2%} of a core")
    print(f"beside {rate:,.0f} messages/s by 8 participants")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
