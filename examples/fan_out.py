"""Broadcast without loss: a group per reader, each gets every message, and the slowest of them sets the pace."""

import multiprocessing
import time

import shmring

READERS = {"ledger": 0.0, "audit": 0.001, "alerts": 0.0}  # name: seconds per message
ORDERS = 500


def read(ring, group, pause):
    with ring.consumer(group) as rx:
        total = count = 0
        for message in rx:  # ends after shutdown, when this group has everything
            total += int(message)
            count += 1
            time.sleep(pause)
        print(f"{group}: {count} orders, together {total}\n", end="", flush=True)


def main():
    with shmring.anonymous("4 KiB") as ring:  # far less than all orders take
        for group in READERS:
            ring.consumer(group).close()  # a group stays, and keeps messages for its reader from now on
        ring.remove_group("default")  # the one that every ring begins with; nobody reads it here
        context = multiprocessing.get_context("spawn")
        readers = [context.Process(target=read, args=(ring, *reader)) for reader in READERS.items()]
        with ring.producer() as tx:
            sent = 0
            while tx.try_send(b"%d" % sent):
                sent += 1
            try:
                tx.send(b"%d" % sent, timeout=0)
            except TimeoutError as error:
                print(error)  # names each group that is in the way
            for reader in readers:
                reader.start()
            for number in range(sent, ORDERS):
                tx.send(b"%d" % number)
        ring.shutdown()
        for reader in readers:
            reader.join()


if __name__ == "__main__":
    main()
