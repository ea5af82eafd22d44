"""Tables on the terminal: with rich where it is there and somebody looks, as plain text otherwise.

A cell is a text, or a text with a style; plain text has no styles, and is never cut: scripts read it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO, Union

Cell = Union[str, "tuple[str, str]"]  # a text, or (text, rich style)


# Control characters: names are given by others, and could play tricks on a terminal.
ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if number != 9} | {10: "\\n", 13: "\\r"}


def printable(text: str) -> str:
    """One line, without control characters but tabs.

    >>> printable("a\\nb\\x1b[2J")
    'a\\\\nb\\\\x1b[2J'
    """
    return text.translate(ESCAPES)


def text_of(cell: Cell) -> str:
    """Without its style."""
    return printable(cell if isinstance(cell, str) else cell[0])


def style_of(cell: Cell) -> str:
    """Its style, or none."""
    return "" if isinstance(cell, str) else cell[1]


def is_styled(output: TextIO) -> bool:
    """Whether to draw with rich: it is installed, and `output` is a terminal."""
    if not output.isatty():
        return False
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], left: int = 1, output: TextIO | None = None
) -> None:
    """Print rows under their titles.

    Parameters
    ----------
    titles : sequence of str
    rows : sequence of sequence of Cell
        As many cells in each as there are titles.
    left : int
        This many columns, and the last one if its title ends in a blank, are words; the others are numbers, set to the right.
    """
    output = output or sys.stdout
    if is_styled(output):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for number, title in enumerate(titles):
            is_left = number < left or title.endswith(" ")
            table.add_column(
                title.rstrip(),
                justify="left" if is_left else "right",
                no_wrap=number > 0,
                overflow="ellipsis" if number else "fold",
                min_width=len(title) if number else 12,
            )
        for row in rows:
            table.add_row(*(Text(text_of(cell), style_of(cell)) for cell in row))
        Console(file=output, highlight=False).print(table)
        return
    texts = [[title.rstrip() for title in titles], *([text_of(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in texts) for number in range(len(titles))]
    for row in texts:
        cells = [
            cell.ljust(width) if number < left or titles[number].endswith(" ") else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip(), file=output)


def print_facts(facts: Sequence[tuple[str, Cell]], output: TextIO | None = None) -> None:
    """Print `label  text` lines, the texts under each other."""
    output = output or sys.stdout
    width = max(len(label) for label, _ in facts)
    if is_styled(output):
        from rich.console import Console
        from rich.text import Text

        console = Console(file=output, highlight=False, soft_wrap=True)
        for label, cell in facts:
            console.print(Text.assemble((f"{label:<{width}}  ", "dim"), (text_of(cell), style_of(cell))))
        return
    for label, cell in facts:
        print(f"{label:<{width}}  {text_of(cell)}".rstrip(), file=output)
