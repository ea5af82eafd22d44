"""`shmring recv`: a ring into a file or a pipe.

Each message is written from inside the ring, and released only when write(2) has taken all of it. A receiver
killed at any point therefore loses nothing: the next one gets the message in hand again.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import select
import signal
import stat
from collections.abc import Callable
from contextlib import ExitStack
from typing import NoReturn

import shmring
from shmring.cli import streams, units
from shmring.cli.arguments import add_command, add_name, add_trust
from shmring.cli.failure import complain, describe, is_heard, with_filename
from shmring.cli.progress import add_progress_option, show_progress
from shmring.cli.ring_name import open_ring, remove, stands_for

# How often an idle receiver looks whether its ring still has a name.
LOOK_S = 1.0
# Small messages are written together up to these limits; a large one from where it lies in the ring.
BATCH_BYTES = 32 * 1024
BATCH_MESSAGES = 512
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DESCRIPTION = """\
Receive what "shmring send NAME" sends, byte for byte, and write it to standard
output or to a file.

recv waits for the ring to appear, then for messages. It ends when the sender
has marked the transfer as complete and everything is written, and removes the
ring, unless another group has not received everything yet."""

EPILOG = """\
after a crash or an interruption:
  A message is released from the ring only after all of it is written. If recv
  is killed (kill -9 too), interrupted, or cannot write, start it again with the
  same NAME: it continues with the messages that were in hand. They are given
  again from their start (at least once): up to 32 KiB of small messages, or one
  large one, may stand in the output twice.
  --append keeps what an earlier recv has written to FILE.
  If the sender is killed, recv waits for the next one with the same NAME.

examples:
  shmring recv quotes > copy.csv
  shmring recv backup | tar x
  shmring recv ./disk.ring --output big.iso
  shmring recv quotes --timeout 5 || echo "no sender within 5 seconds"

exit status:
  0 everything is received and written, 1 failure, 2 wrong usage,
  129 terminal closed, 130 Ctrl-C, 141 standard output was closed, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `recv` to the command line."""
    parser = add_command(commands, "recv", run, "receive from a ring into a file or a pipe", DESCRIPTION, EPILOG)
    add_name(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="-",
        help="where to write; - (the default) is standard output",
    )
    parser.add_argument("--append", action="store_true", help="add to FILE instead of writing it anew")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=units.seconds,
        help="wait this long for the ring to appear (default: for ever)",
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        default="default",
        help="the consumer group to receive as (default: default)",
    )
    parser.add_argument("--keep", action="store_true", help="do not remove the ring at the end")
    parser.add_argument(
        "--wait",
        choices=("spin", "adaptive", "park"),
        default="adaptive",
        help="spin (fastest, burns a core), park (sleep at once), adaptive (spin, then sleep; the default)",
    )
    add_progress_option(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring recv`."""
    with ExitStack() as stack:
        writer = Writer(stack, args.output)
        ring = open_ring(args.name, timeout=args.timeout, trust=args.trust)
        rx = ring.consumer(group=args.group, exclusive=True, wait=args.wait)
        # The old content of FILE goes now and not earlier: until here nothing is there to take its place.
        if not args.append:
            writer.truncate()
        with show_progress(args, ring, "recv", None, is_output_tty=writer.is_tty) as progress:
            receive(args, ring, rx, writer, progress.stop)
        rx.close()
        writer.close()
        if not args.keep and is_drained(ring):
            remove(args.name, ring, args.trust)
        ring.close()
    return 0


class Writer:
    """write(2) on an output, whole messages at a time, with errors that name the file."""

    def __init__(self, stack: ExitStack, path: str) -> None:
        self._name = "standard output" if path == "-" else path
        self._file = None
        if path != "-":
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = stack.enter_context(os.fdopen(os.open(path, flags, 0o666), "wb", buffering=0))
        self._fd = 1 if self._file is None else self._file.fileno()
        try:
            self._status = os.fstat(self._fd)
            if not streams.is_open_for(self._fd, writing=True):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        except OSError as error:
            raise with_filename(error, self._name) from None
        self.is_tty = os.isatty(self._fd)

    def truncate(self) -> None:
        """Empty the file; standard output is the shell's business."""
        if self._file is not None and stat.S_ISREG(self._status.st_mode):
            os.ftruncate(self._fd, 0)

    def write(self, data: memoryview | bytes) -> None:
        """Write all of `data`."""
        while len(data):
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # A pipe or terminal that somebody else has set to non-blocking mode.
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise with_filename(error, self._name) from None

    def close(self) -> None:
        """Close the file; some file systems report a full disk only here."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise with_filename(error, self._name) from None


def receive(
    args: argparse.Namespace,
    ring: shmring.Ring,
    rx: shmring.Consumer,
    writer: Writer,
    restore_terminal: Callable[[], None],
) -> None:
    """Write every message until the ring is shut down and drained.

    A view that Python drops on its way out of an exception is released, and its message lost to the next
    receiver. So whatever ends this loop early (a signal, a failed write) ends the process at once, as kill -9
    would: the ring is made for that, and nothing else is left to be tidied up.
    """

    def leave(status: int) -> NoReturn:
        try:
            restore_terminal()
        finally:
            os._exit(status)

    def leave_at_signal(signum: int, frame: object) -> None:
        leave(128 + signum)

    # Views are freed by their reference counts; looking for cycles among hundreds of them doubles the work.
    gc.disable()
    previous = {signum: signal.signal(signum, leave_at_signal) for signum in ENDING_SIGNALS if is_heard(signum)}
    try:
        while True:
            try:
                views = peek_some(rx)
            except TimeoutError:
                if is_abandoned(args.name, ring, args.trust):
                    raise shmring.RingNotFound(
                        f"the ring {args.name!r} was removed before its transfer was complete, and has no sender"
                    ) from None
                continue
            except shmring.ShutDown:
                return
            try:
                writer.write(views[0].data if len(views) == 1 else b"".join([view.data for view in views]))
            except BrokenPipeError:
                leave(128 + signal.SIGPIPE)
            except OSError as error:
                complain("recv", describe(error))
                leave(1)
            for view in views:
                view.release()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        gc.enable()


def peek_some(rx: shmring.Consumer) -> list[shmring.View]:
    """At least one message, and small ones that are there too, so that lines do not cost a system call each.

    Raises
    ------
    TimeoutError
        There was none for `LOOK_S` seconds.
    ShutDown
        There will be none.
    """
    views = [rx.peek(timeout=LOOK_S)]
    nbytes = len(views[0])
    while nbytes < BATCH_BYTES and len(views) < BATCH_MESSAGES:
        try:
            view = rx.peek(timeout=0)
        except (TimeoutError, shmring.ShutDown):
            break
        views.append(view)
        nbytes += len(view)
    return views


def is_abandoned(name: str, ring: shmring.Ring, trust: str | list[int] | None = None) -> bool:
    """Whether nothing can come any more: no sender is left, no other can find the ring (a snapshot)."""
    if stands_for(name, ring, trust):
        return False
    return not any(user.alive and user.role == "producer" for user in ring.stats(exact=False).participants)


def is_drained(ring: shmring.Ring) -> bool:
    """Whether no group has anything left to receive (a snapshot)."""
    return all(group.lag == 0 for group in ring.stats(exact=False).groups)
