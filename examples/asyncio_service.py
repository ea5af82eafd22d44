"""An asyncio service and its clients: one ring for the requests, one for the answers to each client. No thread, no polling."""

import asyncio
import multiprocessing

import shmring

CLIENTS, QUESTIONS = 3, 50


def ask(requests, answers, me):
    """A client; it may as well be an asyncio program."""
    with requests.producer() as tx, answers.consumer() as rx:
        for number in range(QUESTIONS):
            tx.send(b"%d %d" % (me, number))
            assert int(rx.recv(timeout=30)) == number**2


async def serve(requests, answers):
    """Answers whoever asks, many requests at the same time, until the ring is shut down."""
    producers = [ring.producer() for ring in answers]

    async def answer(request):
        client, number = map(int, request.split())
        await asyncio.sleep(0.001)  # whatever takes time: a database, another service
        await producers[client].asend(b"%d" % number**2)

    tasks = []
    with requests.consumer() as rx:
        async for request in rx:
            tasks.append(asyncio.create_task(answer(request)))
    await asyncio.gather(*tasks)
    return len(tasks)


async def main():
    requests = shmring.anonymous("64 KiB")
    answers = [shmring.anonymous("64 KiB") for _ in range(CLIENTS)]
    spawn = multiprocessing.get_context("spawn")
    clients = [spawn.Process(target=ask, args=(requests, answers[me], me)) for me in range(CLIENTS)]
    for each in clients:
        each.start()
    service = asyncio.create_task(serve(requests, answers))
    for each in clients:
        await asyncio.to_thread(each.join)
    requests.shutdown()
    print(await service, "requests answered")


if __name__ == "__main__":
    asyncio.run(main())
