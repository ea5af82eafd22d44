"""A worker is killed while it waits in get(), which is most of a worker's time: shmring.Queue and multiprocessing.Queue.

The worker of multiprocessing.Queue dies with the queue's lock, for which all others then wait for ever.
"""

import multiprocessing
import os
import signal
import time

import shmring

PATIENCE_SECONDS = 5  # then the other worker counts as stuck


def work(jobs, results):
    results.send("begins")
    while True:
        results.send(jobs.get() * 2)


def try_queue(jobs):
    results, results_in = multiprocessing.Pipe(duplex=False)
    workers = [multiprocessing.Process(target=work, args=(jobs, results_in), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
        results.recv()
        time.sleep(0.5)  # it waits in get() now; the first one with the lock, if there is one

    os.kill(workers[0].pid, signal.SIGKILL)  # as the kernel does when memory runs out
    workers[0].join()

    jobs.put(21)
    answered = results.recv() if results.poll(PATIENCE_SECONDS) else None
    for worker in workers:
        worker.kill()
        worker.join()
    return f"the other worker answered {answered}" if answered else f"the other worker hangs (after {PATIENCE_SECONDS} s)"


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    ours, theirs = shmring.Queue(), multiprocessing.Queue()
    print("shmring.Queue:        ", try_queue(ours))
    print("multiprocessing.Queue:", try_queue(theirs))
    theirs.close()
    theirs.cancel_join_thread()
