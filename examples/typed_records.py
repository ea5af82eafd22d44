"""Fixed-size records: a feed writes arrays of quotes, a strategy reads them, a screen looks at the newest one."""

import multiprocessing
import os

import numpy as np

import shmring

NAME = f"quotes-{os.getpid()}"
QUOTE = np.dtype([("time", "<i8"), ("price", "<f8"), ("size", "<u4"), ("symbol", "S12")])  # 32 bytes
BLOCKS, EACH = 200, 1000


def feed(name):
    with shmring.open(name) as ring, ring.producer() as tx:  # the ring knows its records
        for number in range(BLOCKS):
            block = np.zeros(EACH, ring.dtype)
            block["time"] = np.arange(number * EACH, (number + 1) * EACH)
            block["price"] = 100 + number
            block["symbol"] = b"ACME"
            tx.write(block)  # a thousand records, one copy, one publish
        ring.shutdown()


def main():
    with shmring.create(NAME, "1 MiB", dtype=QUOTE) as ring:
        screen = ring.consumer(lossy=True)  # never in the way
        process = multiprocessing.get_context("spawn").Process(target=feed, args=(NAME,))
        process.start()
        count, value = 0, 0.0
        with ring.consumer() as strategy:
            try:
                while True:
                    with strategy.borrow(10_000) as view:  # where they lie; one block at most
                        quotes = view.array
                        assert quotes["time"][0] == count
                        count += len(quotes)
                        value += quotes["price"].sum()
                        del quotes
            except shmring.ShutDown:
                pass
        newest = screen.latest()[-1]
        process.join()
    shmring.unlink(NAME)
    print(f"{count} quotes, mean {value / count:.1f}; the newest: {newest['symbol'].decode()} {newest['price']:.1f}")


if __name__ == "__main__":
    main()
