"""`shmring record NAME FILE`: messages with their times, into an MCAP file.

MCAP is a container for recorded messages that other tools read (docs/cli.md says what is in ours). It is written without
chunks, so that each message is a record of its own: a file that was cut, by kill -9 or a full disk, is whole up to its last
whole record.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import shmring
from shmring.cli import units
from shmring.cli.arguments import add_command, add_json, add_name, add_trust, print_json
from shmring.cli.failure import CommandFailed, complain, describe, is_heard, with_filename
from shmring.cli.recv import is_abandoned
from shmring.cli.ring_name import open_ring
from shmring.cli.tail import count

BATCH = 256
LOOK_S = 0.2
PROFILE = "shmring"

DESCRIPTION = """\
Write the messages of a ring into FILE, each with the time at which it came, so
that "shmring replay" can send them again. FILE is an MCAP file, which other
tools read, too.

Without --group, record is an observer that has the ring open for reading only:
it takes no message from anybody and holds nobody back; what it was too slow for
is missing in FILE, and counted. With --group it gets every message from when
that group exists, and holds the producers back when it is slow, as any group
does. A group that record has made goes with it, unless --keep-group is given.

It ends when the ring is shut down, its last sender is gone with its name, after
--count or --duration, or with Ctrl-C or SIGTERM; then FILE is complete. Killed
at any other moment, FILE has all messages but those of the last moment."""

EPILOG = """\
examples:
  shmring record quotes day.mcap
  shmring record quotes day.mcap --group recorder       nothing is missed
  shmring record quotes sample.mcap --count 1000 --json
  shmring replay day.mcap quotes-again

exit status:
  0 FILE is complete (also after Ctrl-C), 1 failure, 2 wrong usage"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `record` to the command line."""
    parser = add_command(commands, "record", run, "write messages with their times into a file", DESCRIPTION, EPILOG)
    add_name(parser)
    parser.add_argument("file", metavar="FILE", help="the file to write")
    parser.add_argument("--group", metavar="NAME", help="be a member of this group: miss nothing")
    parser.add_argument(
        "--keep-group", action="store_true", help="a group that is made stays, and holds the producers back"
    )
    parser.add_argument(
        "--start",
        choices=("earliest", "latest"),
        default="earliest",
        help="begin with what is still in the ring, or behind it (default: earliest)",
    )
    parser.add_argument("-n", "--count", type=count, metavar="N", help="end after N messages")
    parser.add_argument("--duration", type=units.seconds, metavar="SECONDS", help="end after this time")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=units.seconds, default=0, help="wait this long for the ring to appear"
    )
    add_json(parser, "print what was recorded as one JSON object at the end")
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring record`."""
    require_mcap()
    with ExitStack() as stack:
        ring = stack.enter_context(
            open_ring(args.name, timeout=args.timeout, readonly=args.group is None, trust=args.trust)
        )
        recording = Recording(stack, args.file, ring, args.overwrite)
        ending = Ending(stack, args.duration)
        take = take_as_member if args.group is not None else take_as_observer
        try:
            lost = take(args, ring, recording, ending)
        except BaseException:
            recording.forget_if_empty()
            raise
        recording.finish(lost)
    result = {"file": args.file, "messages": recording.messages, "bytes": recording.nbytes, "lost": lost}
    if args.json:
        print_json(result)
    else:
        missed = f"; missed {lost:,}" if lost else ""
        print(
            f"{args.file}: {units.some(recording.messages, 'message')}, {units.format_bytes(recording.nbytes)}{missed}",
            file=sys.stderr,
        )
    return 0


def require_mcap() -> None:
    """Before anything is opened."""
    try:
        import mcap  # noqa: F401
    except ImportError:
        raise CommandFailed("mcap is missing; pip install 'shmring[cli]'") from None


class Ending:
    """When to stop: after a time, or at a signal, which must not come in the middle of a record."""

    def __init__(self, stack: ExitStack, duration_s: float | None) -> None:
        self._deadline = None if duration_s is None else time.monotonic() + duration_s
        self._is_asked = False
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if is_heard(signum):
                stack.callback(signal.signal, signum, signal.signal(signum, self._ask))

    def _ask(self, signum: int, frame: object) -> None:
        self._is_asked = True

    def left_s(self) -> float:
        """How long to wait for a message at most; 0: it is over."""
        if self._is_asked:
            return 0
        return LOOK_S if self._deadline is None else max(0.0, min(LOOK_S, self._deadline - time.monotonic()))


class Recording:
    """The file."""

    def __init__(self, stack: ExitStack, path: str, ring: shmring.Ring, is_overwriting: bool) -> None:
        from mcap.writer import IndexType, Writer

        self._path, self._is_new = path, not is_overwriting
        try:
            self._file = open(path, "wb" if is_overwriting else "xb")  # noqa: SIM115
        except FileExistsError:
            raise CommandFailed(f"{path} exists; --overwrite replaces it") from None
        stack.callback(self._close_quietly)
        self._writer = Writer(self._file, use_chunking=False, index_types=IndexType.METADATA)
        self._writer.start(PROFILE, f"shmring {shmring.__version__}")
        self._channel = self._writer.register_channel(ring.name or "ring", encoding_of(ring.content), 0, shape_of(ring))
        self._writer.add_metadata("shmring", shape_of(ring))
        self.messages = self.nbytes = 0

    def add(self, messages: list[Any], missed: int = 0) -> None:
        """Append messages that came just now. `missed`: how many others would have numbers before them, since the start."""
        now_ns = time.time_ns()
        add_message, channel, number = self._writer.add_message, self._channel, self.messages + missed
        try:
            for message in messages:
                number += 1
                add_message(channel, now_ns, message, now_ns, number & 0xFFFFFFFF)
                self.nbytes += len(message)
            self._file.flush()
        except OSError as error:
            raise with_filename(error, self._path) from None
        self.messages += len(messages)

    def forget_if_empty(self) -> None:
        """Nothing was recorded, as the ring could not be joined, say: a file that was made for it goes."""
        if self._is_new and not self.messages:
            with suppress(OSError):
                os.unlink(self._path)

    def _close_quietly(self) -> None:
        with suppress(OSError):
            self._file.close()

    def finish(self, lost: int) -> None:
        """Write what makes the file complete."""
        try:
            self._writer.add_metadata("shmring.end", {"messages": str(self.messages), "lost": str(lost)})
            self._writer.finish()
            self._file.close()
        except OSError as error:
            raise with_filename(error, self._path) from None


def encoding_of(content: str) -> str:
    """MCAP's name for the encoding of the messages, where it has one."""
    return {"codec msgspec": "msgpack"}.get(content, "")


def shape_of(ring: shmring.Ring) -> dict[str, str]:
    """How the ring was made, so that replay can make one like it."""
    return {
        "name": ring.name or "",
        "uuid": ring.uuid.hex(),
        "content": ring.content,
        "capacity": str(ring.capacity),
        "producers": ring.producers,
        "align": str(ring.align),
    }


def take_as_observer(args: argparse.Namespace, ring: shmring.Ring, recording: Recording, ending: Ending) -> int:
    """Record what is seen; the number of messages missed."""
    with ring.consumer(lossy=True, start=args.start, wait="park") as rx:
        while (left_s := ending.left_s()) and (args.count is None or recording.messages < args.count):
            most = BATCH if args.count is None else min(BATCH, args.count - recording.messages)
            try:
                recording.add(rx.recv_many(most, timeout=left_s), rx.lost)
            except TimeoutError:
                if is_abandoned(args.name, ring, args.trust):
                    break
            except shmring.ShutDown:
                break
        return rx.lost


def take_as_member(args: argparse.Namespace, ring: shmring.Ring, recording: Recording, ending: Ending) -> int:
    """Record every message, and release it only when it is in the file: who is killed here leaves it to the next member."""
    is_there = any(group.name == args.group for group in ring.stats(exact=False).groups)
    ephemeral = None if is_there else not args.keep_group
    with ring.consumer(args.group, start=args.start, ephemeral=ephemeral, wait="park") as rx:
        while (left_s := ending.left_s()) and (args.count is None or recording.messages < args.count):
            most = BATCH if args.count is None else min(BATCH, args.count - recording.messages)
            try:
                views = peek_some(rx, most, left_s)
            except TimeoutError:
                if is_abandoned(args.name, ring, args.trust):
                    break
                continue
            except shmring.ShutDown:
                break
            try:
                recording.add([bytes(view.data) for view in views])
            except OSError as error:
                # Views that Python drops are released: this way they go to the next member.
                complain("record", describe(error))
                os._exit(1)
            for view in views:
                view.release()
    return 0


def peek_some(rx: shmring.Consumer, most: int, timeout_s: float) -> list[shmring.View]:
    """At least one message, and others that are there; raises as peek."""
    views = [rx.peek(timeout=timeout_s)]
    peek: Callable[..., shmring.View] = rx.peek
    while len(views) < most:
        try:
            views.append(peek(timeout=0))
        except (TimeoutError, shmring.ShutDown, shmring.TooManyViews):
            break
    return views
