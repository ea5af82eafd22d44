"""A pool of worker processes behind an Executor of concurrent.futures, on two queues. A worker that is killed at its task is
replaced, and its task is done by another one: no BrokenProcessPool."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading

import shmring


def work(tasks, results):
    while (task := tasks.get()) is not None:
        number, function, arguments = task
        try:
            results.put((number, function(*arguments), None))
        except Exception as error:
            results.put((number, None, error))
        tasks.task_done()  # had we been killed before, another worker would get it
    tasks.task_done()


class Pool(concurrent.futures.Executor):
    def __init__(self, size):
        self.tasks, self.results, self.futures = shmring.JoinableQueue(), shmring.Queue(), {}
        self.processes = [self.start() for _ in range(size)]
        threading.Thread(target=self.collect, daemon=True).start()

    def start(self):
        process = multiprocessing.get_context("spawn").Process(target=work, args=(self.tasks, self.results), daemon=True)
        process.start()
        return process

    def submit(self, function, /, *arguments):
        future = self.futures[len(self.futures)] = concurrent.futures.Future()
        self.tasks.put((len(self.futures) - 1, function, arguments))
        return future

    def collect(self):
        while (result := self.results.get()) is not None:
            number, value, error = result
            if not self.futures[number].done():  # a task may be done twice
                self.futures[number].set_exception(error) if error else self.futures[number].set_result(value)

    def shutdown(self, wait=True, **_):
        self.tasks.join()
        self.tasks.put_many([None] * len(self.processes))
        for process in self.processes:
            process.join()
        self.results.put(None)


if __name__ == "__main__":
    with Pool(3) as pool:
        answers = [pool.submit(pow, 2, exponent) for exponent in range(100)]
        os.kill(pool.processes[0].pid, signal.SIGKILL)  # whatever it is doing
        pool.processes[0] = pool.start()
        print(f"{sum(answer.result() for answer in answers) == 2**100 - 1}: all 100 tasks are done, one worker was killed")
