"""One copy of each frame in one ring: three encoders share the frames, a recorder gets all, a preview looks when it likes."""

import multiprocessing
import os
import time
import zlib

import shmring

FRAMES, SIZE = 90, 100_000


def encode(ring, report, number):
    with ring.consumer("encode") as rx, report.producer() as tx:  # a group of three: each frame to one of them
        packed = [len(zlib.compress(frame, 1)) for frame in rx]
        tx.send(f"encoder {number}: {len(packed)} frames".encode())


def record(ring, report):
    with ring.consumer("disk") as rx, report.producer() as tx:  # a group of one: every frame
        numbers = [int.from_bytes(frame[:4], "little") for frame in rx]
        tx.send(f"recorder: {len(numbers)} frames, in order: {numbers == list(range(FRAMES))}".encode())


def preview(ring, report):
    shown = 0
    with ring.consumer(lossy=True) as rx, report.producer() as tx:  # no group: it holds nobody back
        try:
            while True:
                rx.latest()
                shown += 1
                time.sleep(0.02)
        except shmring.ShutDown:
            tx.send(f"preview: {shown} of {FRAMES} frames, the newest at the time".encode())


def main():
    context = multiprocessing.get_context("spawn")
    with shmring.anonymous("2 MiB") as ring, shmring.anonymous("64 KiB") as report:
        for group in ("encode", "disk"):
            ring.consumer(group).close()  # a group stays, and keeps frames for its members from now on
        ring.remove_group("default")  # nobody reads it: it would hold the camera back
        jobs = [(encode, (ring, report, number)) for number in range(3)] + [(record, (ring, report)), (preview, (ring, report))]
        processes = [context.Process(target=target, args=arguments) for target, arguments in jobs]
        for process in processes:
            process.start()
        while len(ring.stats().participants) < len(processes):
            time.sleep(0.01)
        with ring.producer() as camera:
            for number in range(FRAMES):
                camera.send(number.to_bytes(4, "little") + os.urandom(SIZE))
        ring.shutdown()
        with report.consumer() as rx:
            print("\n".join(sorted(rx.recv(timeout=30).decode() for _ in processes)))
        for process in processes:
            process.join()


if __name__ == "__main__":
    main()
