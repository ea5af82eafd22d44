"""The progress line of `send` and `recv`.

The copy loops do nothing for it: up to ten times a second, a thread reads the counters that the ring
keeps anyway and draws them with rich (the extra `shmring[cli]`).
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shmring.cli.units import format_bytes

if TYPE_CHECKING:
    import shmring

UPDATE_S = 0.1
# What drawing may take of a core, at the copy loop's expense; beyond that it is done less often.
MAX_SHARE = 0.01
# The rate shown is that of the last second: long enough to be readable, short enough to show a stall.
WINDOW = 10
FILL_CELLS = 8


def add_progress_option(parser: argparse.ArgumentParser) -> None:
    """Add `--progress` and `--no-progress`."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show rate, total and how full the ring is; needs shmring[cli] (default: on a terminal)",
    )


@contextmanager
def show_progress(
    args: argparse.Namespace,
    ring: shmring.Ring,
    verb: str,
    total_bytes: int | None,
    *,
    is_output_tty: bool = False,
) -> Iterator[NoProgress | ProgressLine]:
    """Draw a progress line on standard error while the block runs, if it is wanted and possible.

    Parameters
    ----------
    ring : Ring
        Must stay open until the block ends.
    verb : str
        "send" or "recv".
    total_bytes : int or None
        What will have been sent at the end; None where nobody knows.
    is_output_tty : bool
        The data itself goes to a terminal, where a progress line would stand in its way.
    """
    is_wanted = args.progress
    if is_wanted is None:
        is_wanted = sys.stderr.isatty() and not is_output_tty
    if not is_wanted:
        yield NoProgress()
        return
    try:
        import rich.progress  # noqa: F401  (here only to learn whether it is there)
    except ImportError:
        if args.progress:
            print(f"shmring: {verb}: no progress line: it needs pip install 'shmring[cli]'", file=sys.stderr)
        yield NoProgress()
        return
    line = ProgressLine(ring, args.name, verb, total_bytes)
    line.start()
    try:
        yield line
    finally:
        line.stop()


class NoProgress:
    """What stands for the line where there is none."""

    def stop(self) -> None:
        """Nothing is to be restored."""


class ProgressLine:
    """One line, redrawn by a thread of its own."""

    def __init__(self, ring: shmring.Ring, name: str, verb: str, total_bytes: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._ring = ring
        self._role, self._peer_role, self._peer = (
            ("producer", "consumer", "receiver") if verb == "send" else ("consumer", "producer", "sender")
        )
        columns: list[ProgressColumn] = [
            TextColumn(
                "[bold]{task.description}",
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=24),
            )
        ]
        if total_bytes:
            columns += [BarColumn(bar_width=16), TaskProgressColumn()]
        columns += [
            TextColumn("{task.fields[amount]:>7}", table_column=Column(no_wrap=True)),
            TextColumn("[green]{task.fields[rate]:>9}", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[ring]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
        self._task = self._progress.add_task(f"{verb} {name}", total=total_bytes, amount="", rate="", ring="")
        self._started = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=WINDOW)
        self._done_bytes = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_the_end, name="shmring-progress", daemon=True)

    def start(self) -> None:
        """Show the line."""
        self._progress.start()
        self._thread.start()

    def stop(self) -> None:
        """Draw the final numbers, with the rate over the whole time, and leave the line standing."""
        self._ending.set()
        self._thread.join()
        self._draw(is_final=True)
        self._progress.stop()

    def _draw_until_the_end(self) -> None:
        pause_s = UPDATE_S
        while not self._ending.wait(pause_s):
            before_s = time.thread_time()
            self._draw()
            # Counting a ring full of small messages, and drawing on a busy machine, take their time.
            pause_s = max(UPDATE_S, (time.thread_time() - before_s) / MAX_SHARE)

    def _draw(self, is_final: bool = False) -> None:
        stats = self._ring.stats(exact=False)
        now = time.monotonic()
        for user in stats.participants:
            if user.pid == os.getpid() and user.role == self._role:
                self._done_bytes = user.bytes
        then, then_bytes = (self._started, 0) if is_final else self._samples[0]
        self._samples.append((now, self._done_bytes))
        rate = (self._done_bytes - then_bytes) / max(now - then, 1e-9)
        if is_final:
            state = ""
        elif any(user.alive and user.role == self._peer_role for user in stats.participants) or stats.shutdown:
            state = f"ring [cyan]{fill_bar(stats.fill)}[/] {stats.fill:4.0%}"
        else:
            state = f"[yellow]no {self._peer}[/] {stats.fill:4.0%}"
        self._progress.update(
            self._task,
            completed=self._done_bytes,
            amount=format_bytes(self._done_bytes),
            rate=f"{format_bytes(rate)}/s",
            ring=state,
        )
        self._progress.refresh()


def fill_bar(fill: float) -> str:
    """How full the ring is, in eight cells.

    >>> fill_bar(0.5)
    '████░░░░'
    """
    cells = round(min(max(fill, 0.0), 1.0) * FILL_CELLS)
    return "█" * cells + "░" * (FILL_CELLS - cells)
