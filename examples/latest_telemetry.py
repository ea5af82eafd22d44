"""The newest value, whenever somebody looks: a fast sensor, and a slow display that cannot hold it back or damage anything."""

import os
import struct
import subprocess
import sys
import time

import shmring

NAME = f"telemetry-{os.getpid()}"
READINGS = 4000


def display(name):
    """Ten times a second or so, show what is newest. Read-only: every page of the ring is mapped without the right to write."""
    with shmring.open(name, readonly=True) as ring, ring.consumer(lossy=True) as rx:
        before = 0
        try:
            while True:
                number, value = struct.unpack("<Qd", rx.latest(timeout=30))
                print(f"reading {number}: {value:.3f}, {number - before - 1} skipped", flush=True)
                before = number
                time.sleep(0.1)
        except shmring.ShutDown:
            print("the sensor was switched off after reading", before)


def main():
    with shmring.create(NAME, "64 KiB") as ring:
        ring.remove_group("default")  # without a group the ring never fills: the oldest readings go
        reader = subprocess.Popen([sys.executable, __file__, NAME])
        with ring.producer() as tx:
            for number in range(1, READINGS + 1):
                tx.send(struct.pack("<Qd", number, number / READINGS))
                time.sleep(0.0002)
        ring.shutdown()
        status = reader.wait()
    shmring.unlink(NAME)
    return status


if __name__ == "__main__":
    sys.exit(display(sys.argv[1]) if len(sys.argv) > 1 else main())
