"""What `shmring top` shows, in 80 columns: a line for each ring, and everything about the one that is chosen.

The same lines serve a terminal (with styles, by rich) and plain text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shmring.cli.summary import format_lag
from shmring.cli.tables import style_of, text_of
from shmring.cli.top_rates import Watch, sparkline
from shmring.cli.units import format_bytes, format_count, format_size

if TYPE_CHECKING:
    from shmring.cli.tables import Cell

COLUMNS = 80
FILL_CELLS = 10
HISTORY_CELLS = 26
ROLES = ("producer", "consumer", "observer")
# A line is pieces of text with styles.
Line = list["Cell"]

RING_TITLES = f"  {'RING':<20}{'SIZE':>9}  {'FILL':<16}{'MSG/S':>8}{'DATA/S':>11}{'LAG':>11}"
GROUP_TITLES = f"  {'GROUP':<16}{'LAG':>12} {'BYTES':>9}  {'HISTORY':<21}MEMBERS"
USER_TITLES = (
    f"  {'PARTICIPANT':<20}{'PID':>8} {'STATE':<7} {'MSG/S':>7}{'DATA/S':>9}{'FULL/S':>7}{'PARK/S':>7}{'WAKE/S':>7}"
)


def screen(watches: Sequence[Watch], chosen: int, lines: int | None, keys: str) -> list[Line]:
    """All lines, at most `lines` of them (None: any number).

    Parameters
    ----------
    watches : sequence of Watch
    chosen : int
        Index of the one that is shown in full.
    keys : str
        What can be pressed, for the right end of the first line.
    """
    head = f"shmring top  {time.strftime('%H:%M:%S')}  {len(watches)} ring{'' if len(watches) == 1 else 's'}"
    found: list[Line] = [[(head, "bold"), (f"{keys:>{COLUMNS - len(head)}}", "dim")]]
    if not watches:
        return [*found, [], ["no rings: nobody on this machine has made one that this user can see"]]
    found += [[], [(RING_TITLES, "dim")]]
    rooms = len(watches) if lines is None else max(1, min(len(watches), lines // 3))
    first = min(max(0, chosen - rooms + 1), len(watches) - rooms)
    for number in range(first, first + rooms):
        found.append(ring_line(watches[number], number == chosen and len(watches) > 1))
    if rooms < len(watches):
        found.append([(f"  ... {len(watches) - rooms} more", "dim")])
    found += details(watches[chosen])
    if lines is not None and len(found) > lines:
        found = [*found[: lines - 1], [(f"  ... {len(found) - lines + 1} more lines", "dim")]]
    return found


def ring_line(watch: Watch, is_chosen: bool) -> Line:
    """One ring."""
    mark = "▸ " if is_chosen else "  "
    name: Cell = (f"{mark}{cut_path(watch.name, 19):<20}", "bold")
    sample = watch.sample
    if sample is None:
        return [name, ("  " + cut(watch.error or "...", COLUMNS - 26), "red")]
    stats = sample.stats
    return [
        name,
        f"{format_size(stats.capacity):>9}  ",
        *fill(stats.fill),
        f"{format_count(sample.sent):>9}",
        f"{format_bytes(sample.sent_bytes) + '/s':>11}",
        f"{format_lag(sample.lag, sample.lag_is_exact):>11}",
    ]


def fill(part: float) -> Line:
    """How full a ring is: a bar, and percent."""
    cells = round(min(max(part, 0.0), 1.0) * FILL_CELLS)
    style = "red" if part > 0.9 else "yellow" if part > 0.5 else "green"
    return [("█" * cells, style), ("░" * (FILL_CELLS - cells), "dim"), f"{part:5.0%}"]


def details(watch: Watch) -> list[Line]:
    """Everything about a ring."""
    sample = watch.sample
    if sample is None:
        return []
    lines: list[Line] = [[]]
    most = max(watch.rates, default=0.0)
    lines.append(
        [
            ("  sent  ", "dim"),
            (sparkline(watch.rates, HISTORY_CELLS), "cyan"),
            f"  {format_count(sample.sent)}/s, ",
            f"{format_bytes(sample.sent_bytes)}/s",
            (f"  (most {format_count(most)}/s)", "dim"),
        ]
    )
    lines.append(
        [
            ("  fill  ", "dim"),
            (sparkline(watch.fills, HISTORY_CELLS, 1.0), "magenta"),
            f"  full {format_count(sample.stalls)}/s, parks {format_count(sample.parks)}/s, ",
            f"wakes {format_count(sample.wakes)}/s",
        ]
    )
    lines += [[], [(GROUP_TITLES, "dim")]]
    for group in sample.stats.groups:
        members = " ".join(map(str, group.members[:2])) + (
            f" +{len(group.members) - 2}" if len(group.members) > 2 else ""
        )
        lines.append(
            [
                f"  {cut(group.name, 15):<16}",
                f"{format_lag(group.lag, group.lag_is_exact):>12} ",
                f"{format_bytes(min(group.lag_bytes, sample.stats.capacity)):>9}  ",
                (f"{sparkline(watch.lags.get(group.name, ()), 20, 1.0)} ", "magenta"),
                members or ("nobody", "yellow"),
            ]
        )
    if sample.users:
        lines += [[], [(USER_TITLES, "dim")]]
    for user in sorted(
        sample.users, key=lambda user: (order_of(user.facts.role), user.facts.group or "", user.facts.slot)
    ):
        facts, rates = user.facts, user.rates
        role = facts.role if facts.group is None else f"{facts.role} {facts.group}"
        state, style = (
            ("DEAD", "bold red") if not facts.alive else ("asleep", "dim") if facts.parked else ("active", "green")
        )
        if user.stopped:
            state, style = "stopped", "yellow"
        stalls = format_count(rates["stalls"]) if facts.role == "producer" else "-"
        lines.append(
            [
                f"  {cut(role, 19):<20}{facts.pid:>8} ",
                (f"{state:<7}", style),
                f" {format_count(rates['messages']):>7}{format_bytes(rates['bytes']):>9}{stalls:>7}",
                f"{format_count(rates['parks']):>7}{format_count(rates['wakes']):>7}",
            ]
        )
    if sample.blocked:
        lines.append([])
    lines += [[("  ▲ ", "yellow"), (cut(line, 2 * COLUMNS - 10), "yellow")] for line in sample.blocked]
    if sample.stats.shutdown:
        lines += [[], [("  shut down: no more messages will come", "dim")]]
    return lines


def order_of(role: str) -> int:
    """Producers first; what is no role (a damaged ring) last."""
    return ROLES.index(role) if role in ROLES else len(ROLES)


def cut(text: str, most: int) -> str:
    """At most `most` characters.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def cut_path(text: str, most: int) -> str:
    """At most `most` characters: of a path its end, which tells it from others.

    >>> cut_path("/var/spool/jobs.ring", 10), cut_path("quotes-of-today", 10)
    ('…jobs.ring', 'quotes-of…')
    """
    return "…" + text[1 - most :] if "/" in text and len(text) > most else cut(text, most)


def plain(lines: Sequence[Line]) -> str:
    """Without styles."""
    return "\n".join("".join(text_of(cell) for cell in line).rstrip() for line in lines)


def styled(lines: Sequence[Line]) -> object:
    """For rich."""
    from rich.text import Text

    text = Text(no_wrap=False, overflow="fold")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for cell in line:
            text.append(text_of(cell), style_of(cell))
    return text
