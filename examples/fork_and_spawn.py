"""An anonymous ring reaches children by inheritance (fork) and by pickling (spawn); each asks it for its own producer."""

import multiprocessing

import shmring


def child(ring, method):
    with ring.producer() as tx:
        tx.send(f"hello from a child started by {method}".encode())


def main():
    with shmring.anonymous("64 KiB") as ring, ring.consumer() as rx:
        for method in ("fork", "spawn", "forkserver"):
            process = multiprocessing.get_context(method).Process(target=child, args=(ring, method))
            process.start()
            print(rx.recv(timeout=30).decode())
            process.join()


if __name__ == "__main__":
    main()
