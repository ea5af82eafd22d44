"""Send a ring to a child of multiprocessing; it echoes 1000 messages. Arguments: start method, name or
nothing."""

import multiprocessing
import sys

import shmring


def echo(there, back):
    with there.consumer() as rx, back.producer() as tx:
        for message in rx:
            tx.send(message)
    back.shutdown()


if __name__ == "__main__":
    method, name = sys.argv[1], sys.argv[2]
    context = multiprocessing.get_context(method)
    there, back = (shmring.create(name + end, 4096) if name else shmring.anonymous(4096) for end in "ab")
    child = context.Process(target=echo, args=(there, back))
    with there.producer() as tx, back.consumer() as rx:
        child.start()
        count = 0
        for i in range(1000):
            tx.send(b"%d" % i * 20)
            count += rx.recv() == b"%d" % i * 20
        there.shutdown()
        assert list(rx) == []
    child.join()
    assert child.exitcode == 0
    print(f"{count} messages came back")
