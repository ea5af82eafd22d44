"""Workers that share a group: each job goes to one of them, and the job of one that is killed goes to another."""

import multiprocessing
import os
import signal

import shmring

JOBS, WORKERS, FATAL = 12, 3, "job 5"


def work(jobs, results):
    with jobs.consumer() as rx, results.producer() as tx:
        try:
            while True:
                with rx.peek() as view:  # ours until the block ends; not lost if we do not get there
                    job = bytes(view.data).decode()
                    if job == FATAL and not view.redelivered:
                        tx.send(b"%d hangs" % os.getpid())
                        signal.pause()
                    again = ", delivered again" if view.redelivered else ""
                    tx.send(f"{job} done{again}".encode())
        except shmring.ShutDown:
            pass


def main():
    context = multiprocessing.get_context("spawn")
    with shmring.anonymous("64 KiB") as jobs, shmring.anonymous("64 KiB") as results:

        def start():
            worker = context.Process(target=work, args=(jobs, results))
            worker.start()
            return worker

        workers = [start() for _ in range(WORKERS)]
        with jobs.producer() as tx:
            tx.send_many([b"job %d" % number for number in range(1, JOBS + 1)])
        done = 0
        with results.consumer() as rx:
            while done < JOBS:
                text = rx.recv(timeout=30).decode()
                if text.endswith("hangs"):
                    os.kill(int(text.split()[0]), signal.SIGKILL)
                    print("killed the worker that had", FATAL)
                    workers.append(start())  # whoever attaches looks after the dead first
                else:
                    print(text)
                    done += 1
        jobs.shutdown()
        for worker in workers:
            worker.join()
        stats = jobs.stats()
        print(f"{done} jobs done, {stats.repairs} worker died, {stats.groups[0].redelivered} job was delivered again")


if __name__ == "__main__":
    main()
