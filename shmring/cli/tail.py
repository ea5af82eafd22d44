"""`shmring tail NAME`: look at messages as they go by."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import shmring
from shmring.cli import streams, units
from shmring.cli.arguments import add_command, add_json, add_name, add_trust
from shmring.cli.decode import FORMATS, Decoded, decode_or_hex, jsonable, make_decoder, one_line
from shmring.cli.failure import CommandFailed
from shmring.cli.recv import is_abandoned
from shmring.cli.ring_name import open_ring

BATCH = 256
LOOK_S = 0.5
SHOWN_BYTES = 1024

DESCRIPTION = """\
Print messages of a ring as they go by, one on each line, until the ring is shut
down, its last sender is gone with its name, or Ctrl-C.

tail is an observer that has the ring open for reading only: it takes no message
from anybody, holds no producer back, and nobody notices it. If it is too slow,
messages are written over before it gets to them; then it says how many."""

EPILOG = """\
formats:
  auto      what the ring says of its messages (stat: content); else text where
            the bytes are printable text, and hex where they are not
  text      UTF-8, with control characters as \\x1b, \\n ...
  hex       hexadecimal digits
  json      JSON, checked
  msgpack   MessagePack, as JSON (needs shmring[cli])
  dtype     records of --dtype, as JSON (needs numpy)
  codec     by the codec that the ring names (none: pickle). Pickles can run any
            code: use it only if you trust every sender
  raw       the bytes as they are, without anything between messages
A message that is not what it should be is shown in hex.

JSON lines (--json):
  {"n": 17, "time": 1764106496.123456, "nbytes": 64, "lost": 0, "text": "..."}
  n counts from the start of tail, time is when tail saw it (in seconds since
  1970), lost is the number of messages missed so far; the message is under
  "text", "hex" or "value", and what is wrong with it under "error".

examples:
  shmring tail quotes
  shmring tail quotes --start earliest --no-follow | grep EUR
  shmring tail sensor --dtype "[('t','<f8'),('x','<f4',3)]"
  shmring tail events --format msgpack --json | jq .value.user

exit status:
  0 the end of the ring, of --count, or Ctrl-C; 1 failure, 2 wrong usage,
  141 standard output was closed, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `tail` to the command line."""
    parser = add_command(commands, "tail", run, "print messages as they go by", DESCRIPTION, EPILOG)
    add_name(parser)
    parser.add_argument(
        "-f", "--format", choices=FORMATS, default="auto", metavar="FORMAT", help="one of those below (default: auto)"
    )
    parser.add_argument("--dtype", help="a NumPy dtype, such as \"<f8\" or \"[('t','<f8'),('x','<i4')]\"")
    parser.add_argument(
        "--start",
        choices=("earliest", "latest"),
        default="latest",
        help="begin with what is still in the ring, or behind it (default: latest)",
    )
    parser.add_argument("--no-follow", action="store_true", help="end when everything that is there was printed")
    parser.add_argument("-n", "--count", type=count, metavar="N", help="end after N messages")
    parser.add_argument("-l", "--long", action="store_true", help="time, number and size before each message")
    parser.add_argument(
        "--limit",
        type=count,
        metavar="N",
        help=f"print at most N characters of a message (default: {SHOWN_BYTES} on a terminal, else all)",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=units.seconds, default=0, help="wait this long for the ring to appear"
    )
    add_json(parser, "print a JSON object on each line")
    add_trust(parser)


def count(text: str) -> int:
    """An argparse type: 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring tail`."""
    with open_ring(args.name, timeout=args.timeout, readonly=True, trust=args.trust) as ring:
        if args.format == "raw":
            if args.json or args.long:
                raise CommandFailed("--format raw prints the bytes alone, without --json and --long")
            show: Callable[[bytes, int, int], None] = lambda message, number, lost: sys.stdout.buffer.write(message)  # noqa: E731
        else:
            show = make_printer(args, make_decoder(args.format, args.dtype, ring.content))
        start = "earliest" if args.no_follow else args.start
        try:
            with ring.consumer(lossy=True, start=start, wait="park") as rx:
                follow(args, ring, rx, show)
        except KeyboardInterrupt:  # how one ends it
            sys.stdout.flush()
    return 0


def make_printer(args: argparse.Namespace, decode: Callable[[bytes], Decoded]) -> Callable[[bytes, int, int], None]:
    """A function that prints a message, given its number and how many were missed before."""
    limit = args.limit or (SHOWN_BYTES if sys.stdout.isatty() else None)
    write = sys.stdout.write

    if args.json:
        streams.show("shmring.json")

    def print_json_line(message: bytes, number: int, lost: int) -> None:
        key, value, wrong = decode_or_hex(decode, message)
        line = {"n": number, "time": round(time.time(), 6), "nbytes": len(message), "lost": lost, key: value}
        if wrong:
            line["error"] = wrong
        write(json.dumps(line, ensure_ascii=False, default=jsonable) + "\n")

    def print_line(message: bytes, number: int, lost: int) -> None:
        key, value, wrong = decode_or_hex(decode, message)
        text = one_line(key, value, limit) + (f"  ({wrong})" if wrong else "")
        if args.long:
            now = time.time()
            stamp = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03}"
            text = f"{stamp} #{number} {units.format_bytes(len(message))}  {text}"
        write(text + "\n")

    return print_json_line if args.json else print_line


def follow(
    args: argparse.Namespace, ring: shmring.Ring, rx: shmring.Observer, show: Callable[[bytes, int, int], None]
) -> None:
    """Print until the end."""
    number, told = 0, 0
    try:
        while args.count is None or number < args.count:
            most = BATCH if args.count is None else min(BATCH, args.count - number)
            try:
                messages = rx.recv_many(most, timeout=0)
            except TimeoutError:
                if args.no_follow:
                    return
                sys.stdout.flush()  # nothing more for the moment
                told = tell_missed(rx.lost, told)
                try:
                    messages = rx.recv_many(most, timeout=LOOK_S)
                except TimeoutError:
                    if is_abandoned(args.name, ring, args.trust):
                        return
                    continue
            for message in messages:
                number += 1
                show(message, number, rx.lost)
    except shmring.ShutDown:
        pass
    finally:
        sys.stdout.flush()
        tell_missed(rx.lost, told)


def tell_missed(lost: int, told: int) -> int:
    """Say on standard error how many messages were missed since that was said last."""
    if lost > told:
        missed = units.some(lost - told, "message")
        print(f"shmring: tail: missed {missed}, which {'was' if lost - told == 1 else 'were'} written over", file=sys.stderr)
    return lost
