"""What one send and one recv cost while others are attached that do nothing.

One process, one producer, one consumer, no waiting: sends and receives take turns by the half lap, a quarter of a lap
stays in the ring, so that it is never full and never empty. A lap of a ring is what the figure is made of, because once
in a lap the producer has used up the room it knows of and looks at every group and every hold again: that look is what
may cost more with more participants, and it is in the figure with the share it has in a ring of this size.

The groups that do nothing are lossless, so that they do hold the producer back; what they are owed is taken out with
recv_many after each half lap, outside the clock.
"""

from __future__ import annotations

import statistics
from itertools import cycle, islice, repeat
from typing import Any

from . import payload
from .shapes import Case
from .span import Start, clock

RECORD_HEADER = 16


def run(end: Any, case: Case, start: Start) -> dict:
    """`count` laps. Returns the median lap's nanoseconds per send and per recv."""
    lap = case.capacity // (case.size + RECORD_HEADER)
    half = lap // 2
    sent, expected = cycle(payload.build(case, case.spoil)), cycle(payload.build(case))
    send, recv, drain = end.send, end.recv, end.drain_others
    wrong = 0
    for message in islice(sent, lap // 4):
        send(message)
    drain(lap // 4)
    span = start()
    send_ns, recv_ns = [], []
    for i in range(case.count + 1):
        sending = receiving = 0
        for _ in range(2):
            messages, due = list(islice(sent, half)), list(islice(expected, half))
            before = clock()
            for message in messages:
                send(message)
            between = clock()
            for _ in repeat(None, half - 1):
                recv()
            last = recv()
            sending, receiving = sending + between - before, receiving + clock() - between
            wrong += last != due[-1]
            drain(half)
        if i:  # the first lap warms up
            send_ns.append(sending / (2 * half))
            recv_ns.append(receiving / (2 * half))
    wrong += sum(recv() != message for message in islice(expected, lap // 4))
    return span.result(wrong, send_ns=statistics.median(send_ns), recv_ns=statistics.median(recv_ns))
