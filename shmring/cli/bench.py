"""`shmring bench`: measures the user's own machine and draws it.

The harness is the project's folder `bench/`, which a wheel installs as `shmring.bench`: one tree, one set of relative
imports, no copy. In a source tree that is only on the path it is `bench`, beside `shmring`. Its libraries
(the extra `shmring[bench]`) are imported when it runs; parsing a command line needs `bench/options.py` only.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType

import shmring
from shmring.cli.arguments import HelpFormatter
from shmring.cli.failure import CommandFailed, complain


def harness(module: str) -> ModuleType:
    """A module of the benchmarks, wherever they lie."""
    try:
        return import_module(f"shmring.bench.{module}")
    except ModuleNotFoundError as error:
        if error.name != "shmring.bench" or not (Path(shmring.__file__).parent.parent / "bench" / "shapes.py").exists():
            raise
    return import_module(f"bench.{module}")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `bench` to the command line."""
    options = harness("options")
    parser = commands.add_parser(
        "bench",
        help="measure this machine: shmring beside the native limit and the others",
        description=options.DESCRIPTION,
        epilog=options.EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    options.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write the results, and return the exit status."""
    try:
        main = harness("__main__")
    except ModuleNotFoundError as error:
        raise CommandFailed(f"{error.name} is missing; pip install 'shmring[bench]'") from None
    try:
        return main.run(args)
    except main.WrongUsage as error:
        complain("bench", str(error))
        return 2
