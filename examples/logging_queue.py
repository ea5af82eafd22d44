"""Log records of several processes go through one queue to one handler, as in the logging cookbook; a process that is killed
takes nothing with it but its own records to come."""

import io
import logging
import logging.handlers
import multiprocessing
import os
import signal

import shmring


def work(queue, number):
    logger = logging.getLogger(f"worker.{number}")
    logger.addHandler(logging.handlers.QueueHandler(queue))
    logger.setLevel(logging.INFO)
    for step in range(3):
        logger.info("step %d", step)
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # in the middle of its work
    logger.warning("done")


def main():
    context = multiprocessing.get_context("spawn")
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    with shmring.Queue() as queue:
        listener = logging.handlers.QueueListener(queue, handler)
        listener.start()
        workers = [context.Process(target=work, args=(queue, number)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        listener.stop()  # waits for everything that was put before
    lines = sorted(output.getvalue().splitlines())
    print("\n".join(lines))
    print(f"{len(lines)} records of {len(workers)} processes, of which one was killed")


if __name__ == "__main__":
    main()
