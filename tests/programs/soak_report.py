"""What a soak counted, and the page that says so."""

from __future__ import annotations

import platform
import time
from collections import Counter
from pathlib import Path

from storm_books import KINDS

import shmring

COLUMNS = (
    "rounds", "kills", "stops", "sessions", "messages", "redelivered", "repairs", "aborted", "lapped", "missing", "dropped",
    "doubled",
)  # fmt: skip


class Tally:
    def __init__(self, hours: float, seed: int) -> None:
        self.hours, self.seed = hours, seed
        self.began = time.monotonic()
        self.by_variant: dict[str, Counter] = {}
        self.by_place: dict[str, Counter] = {}
        self.storms = Counter()
        self.steady = Counter()  # of lasting rings that ended
        self.now = Counter()  # of the one that lives
        self.segments: set[int] = set()
        self.failures: list[str] = []
        self.most_names = 0
        self.is_interrupted = False

    @property
    def rounds(self) -> int:
        return self.storms["rounds"]

    def add_storm(self, label: tuple[str, str, str], facts: dict) -> None:
        variant, backing, topology = label
        facts = Counter(facts) + Counter(rounds=1)
        self.storms += facts
        for table, key in (self.by_variant, variant), (self.by_place, f"{backing}, {topology}"):
            table.setdefault(key, Counter()).update(facts)

    def begin_steady(self) -> None:
        self.steady += self.now
        self.now = Counter()

    def add_checkpoint(self, facts: dict) -> None:
        """They count from the beginning of that ring."""
        self.segments.add(facts.pop("segment"))
        del self.now
        self.now = Counter({key: value for key, value in facts.items() if isinstance(value, int)})

    def lasting(self) -> Counter:
        return self.steady + self.now

    def totals(self) -> str:
        both = self.storms + self.lasting()
        return f"{both['kills']:,} kills, {both['stops']:,} stops, {len(self.failures)} failures"


def table(head, rows) -> str:
    """A table in Markdown, aligned for who reads it as it is."""
    cells = [[f"{each:,}" if isinstance(each, int) else str(each) for each in row] for row in (head, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    lines = []
    for row in cells:
        padded = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    lines.insert(1, f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|")
    return "\n".join(lines)


def write_report(path: Path, tally: Tally, meter) -> str:
    seconds = int(time.monotonic() - tally.began)
    outcome = f"{len(tally.failures)} FAILURES" if tally.failures else "no failure"
    lasting = tally.lasting()
    columns = [column for column in COLUMNS if tally.storms[column]]
    kinds = [(kind, tally.storms[kind], lasting[kind]) for kind in KINDS]
    memory = []
    for name in meter.samples:
        row = [name, len(meter.samples[name])]
        for what in ("rss_kib", "descriptors", "threads", "mappings"):
            early, late, most = meter.row(name, what)
            row.append(f"{early:,} → {late:,} (≤ {most:,})")
        memory.append(row)
    of_variants = [[name, *(counts[column] for column in columns)] for name, counts in sorted(tally.by_variant.items())]
    of_places = [[name, *(counts[column] for column in columns)] for name, counts in sorted(tally.by_place.items())]
    steady_columns = ("checkpoints", "kills", "stops", "repairs", "aborted", "redelivered", "lapped")
    parts = [
        f"# Soak: {outcome}",
        f"{seconds // 3600} h {seconds // 60 % 60} min {seconds % 60} s of {tally.hours} h"
        f"{', interrupted' if tally.is_interrupted else ''}; seed {tally.seed}; shmring {shmring.__version__}, "
        f"Python {platform.python_version()}, Linux {platform.release()}, {platform.machine()}. "
        f"In all {tally.storms['kills'] + lasting['kills']:,} kills and {tally.storms['stops'] + lasting['stops']:,} stops.",
        "\n".join(f"- {failure}" for failure in tally.failures),
        "## Storms",
        table(("variant", *columns), of_variants),
        table(("backing, producers", *columns), of_places),
        "`missing` is what killed receivers by copy had taken, or at-most-once groups dropped; `doubled` what was done twice "
        "because its adopter was killed. Both are checked against the number of deaths.",
        "## The lasting ring",
        table(steady_columns, [[lasting[column] for column in steady_columns]]),
        "## Messages by call",
        table(("call", "storms", "lasting ring"), kinds),
        "## Long-lived processes: second quarter → last quarter (most)",
        table(("process", "samples", "RSS KiB", "descriptors", "threads", "mappings"), memory),
        f"Bytes of the lasting ring's segment: {', '.join(f'{size:,}' for size in sorted(tally.segments))}. "
        f"Names in /dev/shm at a time: at most {tally.most_names}. {meter.verdict()}",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path.write_text(text)
    return text
