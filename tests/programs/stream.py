"""One end of a stream with sequence numbers and checksums.

Arguments: send|recv NAME COUNT SEED SHAPE POLICY [GROUP]. A message is: crc32 of the rest (4 bytes), sequence
number (8 bytes), and bytes of a length that the sequence number determines.
"""

import sys
import zlib

import shmring
from shmring import WaitPolicy

POLICIES = {
    "patient": WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000),
    "patient spinner": WaitPolicy(held=5, spin_us=2, yields=0, slice_ms=3_600_000),
    "patient yielder": WaitPolicy(held=0, spin_us=0, yields=3, slice_ms=3_600_000),
    "adaptive": WaitPolicy.adaptive,
    "park": WaitPolicy.park,
    "spin": WaitPolicy.spin,
}
FILLER = bytes(i * 7 % 256 for i in range(8192))


def message(sequence, seed, shape):
    length = {"tiny": sequence % 40, "odd": (sequence * 37 + seed) % 300, "large": sequence * 577 % 3900}[
        shape
    ]
    body = sequence.to_bytes(8, "little") + FILLER[sequence % 64 : sequence % 64 + length]
    return zlib.crc32(body).to_bytes(4, "little") + body


def check(received, sequence):
    assert zlib.crc32(memoryview(received)[4:]) == int.from_bytes(received[:4], "little"), f"torn: {sequence}"
    assert int.from_bytes(received[4:12], "little") == sequence, f"not {sequence}"


def send(ring, count, seed, shape, policy):
    with ring.producer(wait=policy) as tx:
        sequence = 0
        while sequence < count:
            how = (sequence // 100 + seed) % 3
            batch = [message(i, seed, shape) for i in range(sequence, min(sequence + 50, count))]
            if how == 0:
                tx.send_many(batch)
            else:
                for each in batch:
                    if how == 1:
                        tx.send(each)
                    else:
                        with tx.reserve(len(each) + 20) as claim:
                            claim.view[: len(each)] = each
                            claim.commit(len(each))
            sequence += len(batch)


def receive(ring, count, seed, policy, group):
    with ring.consumer(group, wait=policy) as rx:
        sequence = 0
        while sequence < count:
            how = (sequence // 130 + seed) % 3
            if how == 0:
                for each in rx.recv_many(64):
                    check(each, sequence)
                    sequence += 1
            elif how == 1:
                check(rx.recv(), sequence)
                sequence += 1
            else:
                with rx.peek() as view:
                    check(view.data, sequence)
                sequence += 1


if __name__ == "__main__":
    role, name, count, seed, shape, policy, *group = sys.argv[1:]
    ring = shmring.open(name)
    print("attached", flush=True)
    if role == "send":
        send(ring, int(count), int(seed), shape, POLICIES[policy])
    else:
        receive(ring, int(count), int(seed), POLICIES[policy], *(group or ["default"]))
    print("done", flush=True)
