"""Children of multiprocessing that end with handles open in their globals, as the workers of a pool have them.

Run as: exit_children.py METHOD WHAT NAME. The parent prints exit codes and how many participants were left.
"""

import concurrent.futures
import multiprocessing
import sys
import threading
import time

import shmring


def parked(ring):
    while not any(each.parks for each in ring.stats().participants):
        time.sleep(0.0005)


def begin(name, what):
    global ring, tx, rx
    ring = shmring.open(name)
    tx, rx = ring.producer(), ring.consumer("a", start="latest", wait="park")
    if what == "a daemon thread":
        threading.Thread(target=rx.recv, daemon=True).start()
        parked(ring)
    elif what == "a thread":
        threading.Thread(target=lambda: tx.send(rx.recv())).start()  # the parent sends to it when this one has returned
        parked(ring)


def work(number):
    tx.send(b"%d" % number)


def main():
    method, what, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with shmring.open(name) as ring:
        if what == "a pool":
            with concurrent.futures.ProcessPoolExecutor(2, context, begin, (name, what)) as pool:
                list(pool.map(work, range(10)))
            codes = [0]
        else:
            child = context.Process(target=begin, args=(name, what))
            child.start()
            if what == "a thread":
                parked(ring)
                with ring.producer() as tx:
                    tx.send(b"work")
            child.join()
            codes = [child.exitcode]
        print(codes, len(ring.stats().participants), ring.repair(), flush=True)


if __name__ == "__main__":
    main()
