"""A camera process sends frames with what is known of them; another one looks at them where they lie, and keeps the best.

Objects go through the ring's codec (here pickle, protocol 5): the arrays inside of them are copied once, from their own memory
into the ring, and the consumer sees them there without another copy. What it wants to keep it copies.
"""

import multiprocessing
import os

import numpy as np

import shmring

FRAMES, SHAPE = 50, (480, 640)


def camera(name):
    picture = np.empty(SHAPE, np.float32)
    with shmring.open(name) as ring, ring.producer() as tx:
        for number in range(FRAMES):
            picture[:] = (number * 37) % FRAMES  # how bright this one is
            tx.send_obj({"number": number, "exposure_ms": 8.5, "picture": picture})
        ring.shutdown()


def main():
    name = f"example-objects-{os.getpid()}"
    with shmring.create(name, "16 MiB", content="codec pickle") as ring, ring.consumer() as rx:
        process = multiprocessing.get_context("spawn").Process(target=camera, args=(name,))
        process.start()
        best, seen, brightness = None, 0, -1.0
        while True:
            try:
                view = rx.peek_obj(timeout=30)
            except shmring.ShutDown:
                break
            with view:
                frame = view.obj
                seen += 1
                if frame["picture"].mean() > brightness:
                    brightness = float(frame["picture"].mean())
                    best = {**frame, "picture": frame["picture"].copy()}  # the ring's memory is only lent
            del frame
        process.join()
        print(f"{seen} frames, {seen * best['picture'].nbytes >> 20} MiB; the brightest is number {best['number']}")
        print(f"records still held back: {len(rx.stats.pins)}")
    shmring.unlink(name)


if __name__ == "__main__":
    main()
