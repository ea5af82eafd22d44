"""`shmring send`: a file or a pipe into a ring.

Chunks are read straight into the ring: the reservation is the buffer of read(2). A sender killed at
any point leaves only whole messages behind. A shut-down ring is the only sign of a complete
transfer: an interrupted sender does not give it.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import stat
from contextlib import ExitStack

import shmring
from shmring.cli import streams, units
from shmring.cli.arguments import add_command, add_name, add_trust
from shmring.cli.failure import Terminated, with_filename
from shmring.cli.progress import add_progress_option, show_progress
from shmring.cli.ring_name import open_ring, remove

DEFAULT_CAPACITY = "16 MiB"
DEFAULT_CHUNK_BYTES = 64 * 1024
# Lines are cut from blocks of this size: large enough that a batch pays for its system call.
BLOCK_BYTES = 256 * 1024

DESCRIPTION = """\
Send FILE, or standard input, through the ring NAME to "shmring recv NAME",
byte for byte.

The ring is made if there is none of that name: either side may be started
first. While the ring is full, send waits for the receiver. It ends when the
last byte is in the ring, marks the transfer as complete, and does not wait
until everything is received."""

EPILOG = """\
sizes:
  65536, "64 KiB", "16 MiB", "1 GiB"

an earlier ring of that name:
  complete and received    replaced by a new one
  complete, not received   an error: receive it, or give --replace
  not complete             continued: the input follows what is in the ring
                           already, from a sender that was killed or stopped
  in use by a live sender  an error that names its process

after a crash or an interruption:
  A sender that is killed (kill -9 too), or stopped by Ctrl-C or SIGTERM, leaves
  whole messages and does not mark the transfer as complete: the receiver waits
  for the next sender and does not take half a file for a whole one.
    to send the rest       shmring send NAME REST
    to end it as it is     shmring send NAME /dev/null
    to start over          stop the receiver; shmring send NAME FILE --replace
  Ctrl-C and SIGTERM remove a ring that send has made and nobody has used.

examples:
  shmring send quotes day.csv --lines     each line a message
  tar c src | shmring send backup         chunks of what arrives, up to 64 KiB
  shmring send ./disk.ring big.iso        the ring is a file
  shmring send frames video.raw --capacity "256 MiB" --chunk "4 MiB"

exit status:
  0 everything is in the ring, 1 failure, 2 wrong usage,
  129 terminal closed, 130 Ctrl-C, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `send` to the command line."""
    parser = add_command(commands, "send", run, "send a file or a pipe through a ring", DESCRIPTION, EPILOG)
    add_name(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="what to send; - (the default) is standard input")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--lines", action="store_true", help="each line, with its newline, is one message")
    how.add_argument("--chunk", metavar="SIZE", type=units.size, help="at most this much in one message (default: 64 KiB)")
    parser.add_argument(
        "--capacity",
        metavar="SIZE",
        type=units.size,
        help=f"of a ring that is made (default: {DEFAULT_CAPACITY})",
    )
    parser.add_argument("--replace", action="store_true", help="remove a ring of that name first, unless somebody uses it")
    parser.add_argument(
        "--wait",
        choices=("spin", "adaptive", "park"),
        default="adaptive",
        help="spin (fastest, burns a core), park (sleep at once), adaptive (spin, then sleep; the default)",
    )
    add_progress_option(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring send`."""
    with ExitStack() as stack:
        try:
            fd = 0 if args.file == "-" else stack.enter_context(open(args.file, "rb", buffering=0)).fileno()
            status = os.fstat(fd)
            if not streams.is_open_for(fd, writing=False):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        except OSError as error:
            raise with_filename(error, input_name(args)) from None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, os.strerror(21), input_name(args))
        ring, is_made = attach(args)
        try:
            tx = ring.producer(wait=args.wait)
            total_bytes = remaining_bytes(fd, status)
            with show_progress(args, ring, "send", total_bytes):
                reader = Reader(fd, status, input_name(args))
                if args.lines:
                    send_lines(tx, reader, ring.max_message)
                else:
                    send_chunks(tx, reader, chunk_bytes(args, ring))
                ring.shutdown()
            tx.close()
        except (KeyboardInterrupt, Terminated):
            if is_made and is_untouched(ring):
                remove(args.name, ring, args.trust)
            raise
        ring.close()
    return 0


def input_name(args: argparse.Namespace) -> str:
    """The input as error messages call it."""
    return "standard input" if args.file == "-" else args.file


def remaining_bytes(fd: int, status: os.stat_result) -> int | None:
    """How much there is to send, where that can be known."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))


def chunk_bytes(args: argparse.Namespace, ring: shmring.Ring) -> int:
    """The size of one message: as asked, or what suits a small ring."""
    if args.chunk is None:
        # Four messages in the smallest ring, so that the sender fills one while the receiver empties another.
        return max(1, min(DEFAULT_CHUNK_BYTES, ring.max_message, ring.capacity // 4))
    if args.chunk > ring.max_message:
        raise shmring.MessageTooLarge(
            f"a chunk of {args.chunk} bytes can never fit: messages of this ring have at most {ring.max_message} bytes"
        )
    return args.chunk


# ---- the ring ----


def attach(args: argparse.Namespace) -> tuple[shmring.Ring, bool]:
    """Open the ring, or make it; the second item says whether it was made here."""
    while True:
        try:
            ring = open_ring(args.name, trust=args.trust)
        except shmring.RingNotFound:
            try:
                return shmring.create(args.name, args.capacity or DEFAULT_CAPACITY, producers="single"), True
            except shmring.RingExists:
                continue  # somebody else was first
        if is_replaceable(ring, args):
            remove(args.name, ring, args.trust)
            ring.close()
            continue
        if args.capacity is not None:
            # Raises RingExists, with both numbers, when the sizes differ.
            shmring.create(args.name, args.capacity, producers="single", exist_ok=True, trust=args.trust).close()
        return ring, False


def is_replaceable(ring: shmring.Ring, args: argparse.Namespace) -> bool:
    """Whether to remove the ring that has the name. Raises if it can be neither removed nor continued."""
    stats = ring.stats()
    if not args.replace and not stats.shutdown:
        return False
    users = [f"{name_role(user.role)} with pid {user.pid}" for user in stats.participants if user.alive]
    if args.replace and users:
        raise shmring.RingExists(f"the ring {args.name!r} is in use by {', '.join(users)}; not replaced")
    if args.replace:
        return True
    waiting = max((group.lag for group in stats.groups), default=0)
    if waiting:
        raise shmring.RingExists(
            f"the ring {args.name!r} holds {units.some(waiting, 'message')} of an earlier, complete transfer; "
            f'receive them with "shmring recv {args.name}", or drop them with --replace'
        )
    if users:
        # It is about to remove the name itself.
        raise shmring.RingExists(f"the ring {args.name!r} is still in use by {', '.join(users)}; try again")
    return True


def name_role(role: str) -> str:
    """A role with its article."""
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"


def is_untouched(ring: shmring.Ring) -> bool:
    """Whether nobody but this process has used the ring (a snapshot)."""
    stats = ring.stats()
    others = [user for user in stats.participants if user.alive and user.pid != os.getpid()]
    return not others and all(group.head == 0 for group in stats.groups)


# ---- the copy loops ----


class Reader:
    """read(2) on an input, without waiting inside a reservation and with errors that name the file."""

    def __init__(self, fd: int, status: os.stat_result, name: str) -> None:
        self._fd = fd
        self._name = name
        self._poll = None
        if not stat.S_ISREG(status.st_mode):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)

    def wait(self) -> None:
        """Return when a read would not wait."""
        if self._poll is not None:
            self._poll.poll()

    def read_into(self, buffer: memoryview) -> int:
        """Bytes read into `buffer`; 0 at the end of the input."""
        while True:
            try:
                return os.readv(self._fd, [buffer])
            except BlockingIOError:
                # A descriptor in non-blocking mode that somebody else reads as well.
                self.wait()
            except OSError as error:
                raise with_filename(error, self._name) from None


def send_chunks(tx: shmring.Producer, reader: Reader, nbytes: int) -> None:
    """Send what read(2) gives, at most `nbytes` per message.

    Cost: one copy, from the kernel into the ring.
    """
    while True:
        # Not with a reservation open: other producers of a ring could not publish past it.
        reader.wait()
        with tx.reserve(nbytes) as claim:
            length = reader.read_into(claim.view)
            if length == 0:
                claim.abort()
                return
            claim.commit(length)


def send_lines(tx: shmring.Producer, reader: Reader, max_message: int) -> None:
    """Send each line as one message; what follows the last newline is one too.

    Lines go into the ring as soon as they are read: a live pipe is not held up until a block is full.
    """
    block = bytearray(BLOCK_BYTES)
    window = memoryview(block)
    pieces: list[bytes] = []  # of a line whose newline has not come yet
    pieces_bytes = 0
    while True:
        length = reader.read_into(window)
        if length == 0:
            break
        data = bytes(window[:length])
        if b"\n" in data:
            # Not bytes.splitlines, which also cuts at a carriage return.
            lines = io.BytesIO(b"".join((*pieces, data))).readlines()
            pieces, pieces_bytes = [], 0
            if not lines[-1].endswith(b"\n"):
                data = lines.pop()
                pieces, pieces_bytes = [data], len(data)
            tx.send_many(lines)
        else:
            pieces.append(data)
            pieces_bytes += length
        if pieces_bytes > max_message:
            raise shmring.MessageTooLarge(
                f"a line of more than {max_message} bytes does not fit into this ring; "
                "send chunks, or make a ring with a larger --capacity"
            )
    if pieces:
        tx.send(b"".join(pieces))
