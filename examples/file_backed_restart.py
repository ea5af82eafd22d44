"""A ring in a file outlives everybody: a consumer is killed, and another one goes on with the record it had not released."""

import os
import signal
import subprocess
import sys
import tempfile

import shmring


def consume(path):
    """Print each job, and be killed in the middle of "job 3"."""
    with shmring.open(path) as ring, ring.consumer() as rx:
        while True:
            with rx.peek(timeout=5) as view:
                job = bytes(view.data).decode()
                print(job, "again" if view.redelivered else "", flush=True)
                if job == "job 3" and not view.redelivered:
                    os.kill(os.getpid(), signal.SIGKILL)
            if job == "job 5":
                return


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "jobs.ring")
        with shmring.create(path, "64 KiB") as ring, ring.producer() as tx:
            tx.send_many([b"job %d" % number for number in range(1, 6)])
        # Nobody has the ring open now; it is just a file.
        for _ in range(2):
            status = subprocess.run([sys.executable, __file__, path], check=False).returncode
            print("consumer ended with", status, flush=True)


if __name__ == "__main__":
    consume(sys.argv[1]) if len(sys.argv) > 1 else main()
