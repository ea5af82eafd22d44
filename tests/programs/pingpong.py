"""Answer on NAMEb what comes on NAMEa, or ask. Arguments: ask|answer NAME COUNT POLICY.

The rings hold one large message at a time, so both sides sleep for data and for room in every round. Time
slices last an hour: one lost wake-up hangs.
"""

import sys

from stream import POLICIES

import shmring

if __name__ == "__main__":
    role, name, count, policy = sys.argv[1], sys.argv[2], int(sys.argv[3]), POLICIES[sys.argv[4]]
    there, back = (shmring.open(name + end) for end in "ab")
    out, into = (there, back) if role == "ask" else (back, there)
    with out.producer(wait=policy) as tx, into.consumer(wait=policy) as rx:
        print("attached", flush=True)
        for i in range(count):
            size = 2500 if i % 3 else 40
            if role == "ask":
                tx.send(i.to_bytes(4, "little") * (size // 4))
                if i % 5 == 0:  # a second one, which waits for room behind the first
                    tx.send(b"more" * 600)
            message = rx.recv()
            assert message[:4] == i.to_bytes(4, "little")
            if role == "answer":
                if i % 5 == 0:
                    assert rx.recv() == b"more" * 600
                tx.send(message)
    print("done", flush=True)
