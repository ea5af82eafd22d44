"""`shmring replay FILE NAME`: recorded messages into a ring again."""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import shmring
from shmring.cli import units
from shmring.cli.arguments import add_command, add_json, add_trust, complete_ring, print_json
from shmring.cli.failure import CommandFailed
from shmring.cli.progress import add_progress_option, show_progress
from shmring.cli.record import PROFILE, require_mcap
from shmring.cli.ring_name import open_ring

# Messages that are due at the same time go together, up to these limits.
BATCH = 256
BATCH_BYTES = 1 << 20

DESCRIPTION = """\
Send the messages of FILE, which "shmring record" (or any other tool that writes
MCAP) has made, through the ring NAME: at the same distances in time as they
were recorded, faster or slower, or as fast as they are taken.

If there is no ring of that name, one like the recorded one is made. If there is
one, the messages are added to it; a ring that says that its messages are of
another kind is refused."""

EPILOG = """\
  If the ring is full, replay waits; what is late by then goes at once.
  Of a FILE that was cut, everything up to the cut is sent, and the cut is
  reported; the exit status is 0 all the same.

examples:
  shmring replay day.mcap quotes
  shmring replay day.mcap quotes --speed 10 --shutdown
  shmring replay day.mcap quotes --fast

exit status:
  0 every message is in the ring, 1 failure, 2 wrong usage,
  129 terminal closed, 130 Ctrl-C, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `replay` to the command line."""
    parser = add_command(commands, "replay", run, "send recorded messages again", DESCRIPTION, EPILOG)
    parser.add_argument("file", metavar="FILE", help="what was recorded")
    name = parser.add_argument("name", metavar="NAME", help='the ring; a path if it has a "/" in it')
    name.completer = complete_ring  # type: ignore[attr-defined]
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--fast", action="store_true", help="as fast as the messages are taken")
    how.add_argument("--speed", type=factor, default=1.0, metavar="X", help="X times as fast as recorded (default: 1)")
    parser.add_argument("--topic", help="of an MCAP file with several topics: only this one")
    parser.add_argument(
        "--capacity", metavar="SIZE", type=units.size, help="of a ring that is made (default: as recorded)"
    )
    parser.add_argument("--shutdown", action="store_true", help="shut the ring down at the end: receivers end, too")
    add_progress_option(parser)
    add_json(parser, "print what was sent as one JSON object at the end")
    add_trust(parser)


def factor(text: str) -> float:
    """An argparse type: a number above 0."""
    number = units.seconds(text)
    if not number:
        raise argparse.ArgumentTypeError("a speed above 0 is needed")
    return number


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring replay`."""
    require_mcap()
    recorded = Recorded(args.file, args.topic)
    with recorded, attach(args, recorded) as ring, ring.producer() as tx:
        with show_progress(args, ring, "send", None):
            sent, nbytes = send_all(tx, recorded, None if args.fast else args.speed)
        if args.shutdown:
            ring.shutdown()
    if recorded.cut is not None:
        print(f"shmring: replay: {args.file} was cut: {recorded.cut}; what came before it was sent", file=sys.stderr)
    if args.json:
        print_json({"file": args.file, "messages": sent, "bytes": nbytes, "cut": recorded.cut is not None})
    return 0


def attach(args: argparse.Namespace, recorded: Recorded) -> shmring.Ring:
    """The ring that has the name, or a new one like the recorded one."""
    shape = recorded.shape
    content = shape.get("content", "")
    try:
        ring = open_ring(args.name, trust=args.trust)
    except shmring.RingNotFound:
        producers = shape.get("producers", "multi")
        align = int(shape.get("align", "16"))
        capacity = args.capacity or int(shape.get("capacity", str(1 << 24)))
        return shmring.create(args.name, capacity, producers=producers, align=align, content=content)
    if ring.content != content and ring.content:
        ring.close()
        raise CommandFailed(
            f"messages of {args.name!r} are {ring.content!r}, those in {args.file} are {content or 'not named'!r}"
        )
    return ring


class Recorded:
    """An MCAP file, read from its begin to its end or its cut. `shape`: of the ring that was recorded, if it was one."""

    def __init__(self, path: str, topic: str | None) -> None:
        from mcap.exceptions import McapError
        from mcap.stream_reader import StreamReader

        self._errors = (McapError, struct.error)
        self._path, self._topic = path, topic
        self.shape: dict[str, str] = {}
        self.cut: str | None = None
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            self._records = iter(StreamReader(self._file).records)
            self._channels: dict[int, str] = {}
            self._first = self._next()  # with it, everything that comes before the messages
            if self._first is None and not self._is_mcap():
                raise CommandFailed(f"{path} is no MCAP file")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _is_mcap(self) -> bool:
        from mcap.writer import MCAP0_MAGIC

        self._file.seek(0)
        return self._file.read(len(MCAP0_MAGIC)) == MCAP0_MAGIC

    def messages(self) -> Iterator[Any]:
        """MCAP messages with `log_time` (ns) and `data`, in the order of the file."""
        message = self._first
        while message is not None:
            yield message
            message = self._next()
        if self._topic is not None and self._topic not in self._channels.values():
            names = ", ".join(sorted(set(self._channels.values()))) or "none"
            raise CommandFailed(f"{self._path} has no topic {self._topic!r}; it has {names}")

    def _next(self) -> Any:
        """The next message of the topic, or None."""
        from mcap.records import Channel, Header, Message, Metadata

        while True:
            try:
                record = next(self._records)
            except StopIteration:
                return None
            except self._errors as error:
                self.cut = f"at byte {self._file.tell()}: {' '.join(str(error).split()) or type(error).__name__}"
                return None
            if isinstance(record, Message):
                if self._topic is None or self._channels.get(record.channel_id) == self._topic:
                    return record
            elif isinstance(record, Channel):
                self._channels[record.id] = record.topic
            elif isinstance(record, Metadata) and record.name == PROFILE:
                self.shape = dict(record.metadata)
            elif isinstance(record, Header):
                continue


def send_all(tx: shmring.Producer, recorded: Recorded, speed: float | None) -> tuple[int, int]:
    """Send everything; the number of messages and their bytes. `speed`: None for as fast as they are taken."""
    sent = nbytes = waiting_bytes = 0
    waiting: list[bytes] = []
    started_ns = time.monotonic_ns()
    first_ns: int | None = None
    for message in recorded.messages():
        if first_ns is None:
            first_ns = message.log_time
        due_ns = 0 if speed is None else started_ns + int((message.log_time - first_ns) / speed)
        left_ns = due_ns - time.monotonic_ns() if speed is not None else 0
        if waiting and (left_ns > 0 or len(waiting) == BATCH or waiting_bytes > BATCH_BYTES):
            sent += tx.send_many(waiting)
            waiting, waiting_bytes = [], 0
            left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        waiting.append(message.data)
        waiting_bytes += len(message.data)
        nbytes += len(message.data)
    if waiting:
        sent += tx.send_many(waiting)
    return sent, nbytes
