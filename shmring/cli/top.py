"""`shmring top`: rings at work, live."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shmring.cli import find, units
from shmring.cli.arguments import add_command, complete_ring
from shmring.cli.tables import is_styled
from shmring.cli.tail import count
from shmring.cli.top_rates import Watch
from shmring.cli.top_screen import plain, screen, styled

# Looking for new rings reads /proc of every process: not as often as the rings themselves.
SEARCH_S = 5.0
# So many looks it takes to know which ring is busiest.
FIRST_LOOKS = 3
KEYS = {
    b"q": "quit",
    b"Q": "quit",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
}

DESCRIPTION = """\
Show rings at work: rates, how full they are, what each group lags behind, who
sleeps, who is dead, and who waits for whom. Without a NAME: all rings of this
machine ("shmring ls").

Rings are open for reading only, and nobody notices. On a terminal the screen is
redrawn every --interval; otherwise a block of plain text is printed."""

EPILOG = """\
keys:
  q, Ctrl-C        quit; the terminal is as it was
  up, down (k, j)  choose the ring that is shown in full

columns:
  MSG/S DATA/S  what was sent (a ring, a producer) or received (the others)
  STATE         active, asleep, stopped (by SIGSTOP or a debugger), or DEAD
  FULL/S        times a producer waited for room; PARK/S: times it slept;
  WAKE/S        times it woke somebody
  LAG           messages not taken; ~ where only some were counted

examples:
  shmring top
  shmring top quotes --interval 0.2
  shmring top --json --count 10 | jq .rings[0].sent_per_s

exit status:
  0 success, 1 failure, 2 wrong usage, 143 SIGTERM"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `top` to the command line."""
    parser = add_command(commands, "top", run, "rings at work, live", DESCRIPTION, EPILOG)
    name = parser.add_argument("names", metavar="NAME", nargs="*", help='rings; paths if they have a "/" in them')
    name.completer = complete_ring  # type: ignore[attr-defined]
    parser.add_argument(
        "-i", "--interval", type=interval, metavar="SECONDS", default=1.0, help="between two looks (default: 1)"
    )
    parser.add_argument("-n", "--count", type=count, metavar="N", help="end after N looks")
    parser.add_argument("--plain", action="store_true", help="plain text, on a terminal, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object on a line for each look")


def interval(text: str) -> float:
    """An argparse type: seconds that leave time to draw."""
    number = units.seconds(text)
    if number < 0.05:
        raise argparse.ArgumentTypeError(f"{text!r}: 0.05 seconds or more are needed")
    return number


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring top`."""
    rings = Rings(args.names)
    try:
        if args.json or args.plain or not is_styled(sys.stdout):
            print_looks(args, rings)
        else:
            draw_looks(args, rings)
    except KeyboardInterrupt:  # how one ends it
        pass
    finally:
        rings.close()
    return 0


class Rings:
    """The rings that are shown, in the order in which they were found."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._searched: float | None = None
        self.watches: list[Watch] = []

    def look(self) -> None:
        """Take a sample of each; now and then, look for others."""
        now = time.monotonic()
        if self._searched is None or now - self._searched >= SEARCH_S:
            self._searched = now
            self._search()
        for watch in self.watches:
            watch.look()

    def _search(self) -> None:
        found = list(find.given(self._names)) if self._names else [each for each in find.everywhere() if each.is_ring]
        known = {(watch.found.key, watch.name): watch for watch in self.watches}
        kept = []
        for each in found:
            watch = known.pop((each.key, each.name), None) or Watch(each)
            watch.found = each
            kept.append(watch)
        for gone in known.values():
            gone.close()
        self.watches = kept

    def busiest(self) -> Watch | None:
        """The one that has the most to show; None if there is none."""
        return max(self.watches, key=lambda watch: watch.activity, default=None)

    def close(self) -> None:
        """Unmap them."""
        for watch in self.watches:
            watch.close()


def print_looks(args: argparse.Namespace, rings: Rings) -> None:
    """Plain text, or JSON lines. The first look has no rates yet, and is not shown."""
    rings.look()
    looked, due = 0, time.monotonic()
    while args.count is None or looked < args.count:
        due = max(due + args.interval, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0))
        rings.look()
        looked += 1
        if args.json:
            print(json.dumps({"time": time.time(), "rings": [watch.as_dict() for watch in rings.watches]}), flush=True)
            continue
        for number in range(len(rings.watches) or 1):
            print(plain(screen(rings.watches[number : number + 1], 0, None, "")) + "\n", flush=True)


def draw_looks(args: argparse.Namespace, rings: Rings) -> None:
    """The screen, until q."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    looked, due = 0, time.monotonic()
    chosen: Watch | None = None  # by the user; until then the busiest one of the first seconds
    shown: Watch | None = None
    # Not on the alternate screen of a stopped program: Ctrl-Z would leave the shell there.
    previous = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with keyboard() as fd, Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                if time.monotonic() >= due:
                    rings.look()
                    looked += 1
                    due = max(due + args.interval, time.monotonic())
                if chosen not in rings.watches:
                    chosen = None
                if looked <= FIRST_LOOKS or shown not in rings.watches:
                    shown = chosen or rings.busiest()
                place = rings.watches.index(shown) if shown is not None else 0
                keys = "" if fd is None else "↑↓ choose, q quits" if len(rings.watches) > 1 else "q quits"
                live.update(styled(screen(rings.watches, place, console.height, keys)), refresh=True)  # type: ignore[arg-type]
                if args.count is not None and looked > args.count:
                    return
                pressed = key_pressed(fd, due - time.monotonic())
                if pressed == "quit":
                    return
                if pressed and rings.watches:
                    place = max(0, min(place + {"up": -1, "down": 1}[pressed], len(rings.watches) - 1))
                    shown = chosen = rings.watches[place]
    finally:
        signal.signal(signal.SIGTSTP, previous)


@contextmanager
def keyboard() -> Iterator[int | None]:
    """Standard input, key by key and without echo, if it is a terminal; as it was afterwards."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def key_pressed(fd: int | None, seconds: float) -> str:
    """What was pressed within that time: a value of KEYS, or ""."""
    if fd is None:
        time.sleep(max(seconds, 0))
        return ""
    ready, _, _ = select.select([fd], [], [], max(seconds, 0))
    if not ready:
        return ""
    pressed = os.read(fd, 64)
    if not pressed:  # the terminal has gone
        return "quit"
    return KEYS.get(pressed, KEYS.get(pressed[:1], ""))
