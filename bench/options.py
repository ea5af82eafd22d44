"""The command line of the benchmarks, for `shmring bench` and for `python -m bench`.

Imports nothing that takes time: `shmring` reads this to parse any of its commands.
"""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Measure this machine: shmring beside the native limit (our own C) and beside the
other ways to get a message from one Python process to another that are
installed here. Contents are checked, contenders take turns, and what fails or
hangs is reported as such. Writes the results as JSON, and a report with plots
as one HTML file that needs no network."""

EPILOG = """\
examples:
  shmring bench --quick                two minutes, fewer sizes
  shmring bench                        everything, in less than 12 minutes
  shmring bench --list                 what there is, and what is not installed
  shmring bench --shapes oneway --contenders native,shmring,pyzmq
  shmring bench --from a.json b.json   draw these results of one machine

exit status:
  0 success, 1 if one that a goal is judged by failed, 2 wrong usage"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the benchmarks."""
    what = parser.add_argument_group("what to measure")
    what.add_argument("--quick", action="store_true", help="fewer sizes, short runs: about 2 minutes")
    what.add_argument("--shapes", metavar="A,B", help="only these shapes; --list names them")
    what.add_argument("--contenders", metavar="A,B", help="only these contenders; --list names them")
    what.add_argument("--list", action="store_true", help="say what there is to measure, and what is not installed")
    how = parser.add_argument_group("how")
    how.add_argument("--rounds", type=int, metavar="N", help="runs of each case at most (default 7, quick 3)")
    how.add_argument("--seconds", type=float, metavar="S", help="length of one run (default 0.15, quick 0.05)")
    how.add_argument(
        "--minutes", type=float, metavar="M", help="begin no round that would end later (default 11, quick 1.8; 0: no limit)"
    )
    how.add_argument("--timeout", type=float, default=10, metavar="S", help="a run longer than this has hung (default 10)")
    how.add_argument("--cpus", metavar="A,B", help="cores for producer and consumer (default: two of different cores)")
    where = parser.add_argument_group("where it goes")
    where.add_argument("--output", type=Path, metavar="FILE", help="the results (default: shmring-bench-TIME.json here)")
    where.add_argument("--html", type=Path, metavar="FILE", help="the report (default: the results' name with .html)")
    where.add_argument("--from", dest="sources", type=Path, nargs="+", metavar="FILE", help="measure nothing, report these")
    where.add_argument("--docs", type=Path, metavar="FOLDER", help="write benchmarks.md, img/*.png, report/results.json there")
