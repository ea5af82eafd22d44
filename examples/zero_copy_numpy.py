"""NumPy arrays without a copy: the producer computes into the ring, the consumer reads what lies there."""

import multiprocessing

import numpy as np

import shmring

SHAPE, FRAMES = (480, 640), 20


def camera(ring):
    with ring.producer() as tx:
        for number in range(FRAMES):
            with tx.reserve(SHAPE[0] * SHAPE[1] * 4) as claim:
                frame = np.frombuffer(claim.view, np.float32).reshape(SHAPE)
                frame[:] = number  # written where the consumer will read it
        ring.shutdown()


def main():
    # align=64: every frame begins on a cache line, as vector instructions like it.
    with shmring.anonymous("8 MiB", align=64) as ring:
        process = multiprocessing.get_context("spawn").Process(target=camera, args=(ring,))
        process.start()
        with ring.consumer() as rx:
            try:
                while True:
                    with rx.peek() as view:
                        frame = np.frombuffer(view.data, np.float32).reshape(SHAPE)
                        print("mean", frame.mean(), "at position", view.sequence)
                        del frame  # the view's memory is the producer's again when the block ends
            except shmring.ShutDown:
                pass
        process.join()


if __name__ == "__main__":
    main()
