"""Two unrelated processes, one ring: this program starts itself a second time as the receiver."""

import os
import subprocess
import sys

import shmring

NAME = f"hello-{os.getpid()}"


def receive(name):
    with shmring.open(name) as ring, ring.consumer() as rx:
        for message in rx:  # ends after shutdown, when everything was received
            print("received", message.decode())


def main():
    with shmring.create(NAME, "64 KiB") as ring:
        receiver = subprocess.Popen([sys.executable, __file__, NAME])
        with ring.producer() as tx:
            for word in ("hello", "from", f"process {os.getpid()}"):
                tx.send(word.encode())
        ring.shutdown()
        status = receiver.wait()
    shmring.unlink(NAME)
    return status


if __name__ == "__main__":
    sys.exit(receive(sys.argv[1]) if len(sys.argv) > 1 else main())
