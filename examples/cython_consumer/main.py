"""Two processes, each in a Cython loop without the GIL. Build first: python setup.py build_ext --inplace"""

import multiprocessing

import loops

import shmring

COUNT = 1_000_000


def send(ring):
    with ring.producer() as tx:
        loops.send_numbers(tx, COUNT)
    ring.shutdown()


def main():
    with shmring.anonymous("1 MiB") as ring:
        process = multiprocessing.get_context("spawn").Process(target=send, args=(ring,))
        process.start()
        with ring.consumer() as rx:
            total, count = loops.sum_numbers(rx)
        process.join()
    print(count, "numbers, together", total)


if __name__ == "__main__":
    main()
