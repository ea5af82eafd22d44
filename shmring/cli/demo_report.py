"""What `shmring demo` shows: tables and histograms for a terminal of 80 columns.

Needs rich and hdrhistogram (the extra `shmring[cli]`).
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

import shmring
from shmring.cli.units import format_bytes, format_count, format_ns

if TYPE_CHECKING:
    from shmring.cli.demo import Transfer

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
BAR_CELLS = 18
BUCKETS = 12
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Report:
    """The demo's output, in the order of its steps."""

    def __init__(self, cores: list[int], capacity_bytes: int, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        where = f"pinned to cores {cores[0]} and {cores[1]}" if len(cores) > 1 else f"sharing core {cores[0]}, the only one"
        self._console.print(
            f"[bold]shmring {shmring.__version__}[/]  Python {platform.python_version()}, "
            f"Linux {platform.release()}, {os.cpu_count()} cores"
        )
        self._console.print(
            f"Two unrelated processes, {where}, exchange the sources of the\n"
            f"Python standard library through a ring of {capacity_bytes >> 20} MiB in shared memory.\n"
        )

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show on a terminal what is being done."""
        # No moving sign: drawing it would take time from the processes that are being measured.
        if self._console.is_terminal:
            self._console.print(f"[dim]{what} ...[/]", end="\r")
        try:
            yield
        finally:
            if self._console.is_terminal:
                self._console.control(Control((ControlType.ERASE_IN_LINE, 2)))

    def transfers(self, done: list[Transfer]) -> None:
        """Rates, then the checksums of both sides."""
        table = plain_table("one message is", "messages", "data", "messages/s", "data/s")
        for step in done:
            messages, nbytes = step.received["messages"], step.received["nbytes"]
            table.add_row(
                step.label,
                f"{messages:,}",
                format_bytes(nbytes),
                f"[bold]{format_count(messages / step.seconds)}[/]",
                f"[bold]{nbytes / step.seconds / 1e9:.2f} GB/s[/]",
            )
        self._console.print(table)
        for step in done:
            mark = "[green]✓ identical[/]" if step.is_identical else "[bold red]✗ DIFFERENT[/]"
            self._console.print(f"\nSHA-256, {step.label.replace(';', ' by')}  {mark}")
            self._console.print(f"  sent      {step.sent['sha256']}\n  received  {step.received['sha256']}", style="dim")

    def round_trips(self, trips: list[tuple[str, str]]) -> None:
        """Percentiles and histograms of the round trips."""
        histograms = [(wait, HdrHistogram.decode(encoded)) for wait, encoded in trips]
        table = plain_table("64 B there and back", "trips", *(f"p{p:g}" for p in PERCENTILES), "max")
        for wait, histogram in histograms:
            values = [format_ns(histogram.get_value_at_percentile(p)) for p in PERCENTILES]
            values[0] = f"[bold]{values[0]}[/]"
            table.add_row(
                f"waiting by {wait}",
                f"{histogram.get_total_count():,}",
                *values,
                format_ns(histogram.get_max_value()),
            )
        self._console.print()
        self._console.print(table)
        self._console.print()
        side_by_side = Table.grid(padding=(0, 4, 0, 0))
        side_by_side.add_row(*(histogram_text(wait, histogram) for wait, histogram in histograms))
        self._console.print(side_by_side)

    def verdict(self, are_identical: bool, seconds: float) -> None:
        """The last line."""
        self._console.print()
        if are_identical:
            self._console.print(f"[bold green]Every message arrived whole, once and in order.[/]  {seconds:.1f} s")
        else:
            self._console.print("[bold red]What was received is not what was sent.[/]")


def plain_table(first: str, *others: str) -> Table:
    """A table without a frame: one column of words, then numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def buckets(histogram: HdrHistogram, count: int = BUCKETS) -> list[tuple[float, int]]:
    """Cut a histogram into `count` ranges of equal ratio, from p0.1 to p99.9: (upper end, values in it).

    What lies outside is counted in the first and in the last one, so that nothing disappears.
    """
    low = max(1, histogram.get_value_at_percentile(0.1))
    high = max(low * 1.05, histogram.get_value_at_percentile(99.9))
    step = math.log(high / low) / count
    found = [0] * count
    for item in histogram.get_recorded_iterator():
        index = math.ceil(math.log(max(item.value_iterated_to, 1) / low) / step) - 1
        found[min(max(index, 0), count - 1)] += item.count_at_value_iterated_to
    return [(low * math.exp(step * (index + 1)), number) for index, number in enumerate(found)]


def bar(part: float, cells: int = BAR_CELLS) -> str:
    """A bar of `part` (0 to 1) of `cells`, in eighths of a cell.

    >>> bar(0.5, 4), bar(0.28, 4)
    ('██', '█▏')
    """
    eighths = round(part * cells * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def histogram_text(title: str, histogram: HdrHistogram) -> Text:
    """A small histogram: one line per range of durations."""
    ranges = buckets(histogram)
    total = sum(number for _, number in ranges) or 1
    highest = max(number for _, number in ranges) or 1
    text = Text(no_wrap=True)
    text.append(f"{title}: share of round trips up to\n", style="dim")
    for upper_ns, number in ranges:
        text.append(f"{format_ns(upper_ns):>7} ", style="dim")
        text.append(f"{bar(number / highest):<{BAR_CELLS}}", style="cyan")
        text.append(f" {number / total:6.1%}\n")
    text.rstrip()
    return text
