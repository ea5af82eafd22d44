"""The command line: `shmring COMMAND`, one module per command.

A command module offers `add_parser(commands)`, which sets `run` as the parser's default, and
`run(args)`, which returns the exit status. What a command raises becomes one line on standard error
and an exit status here.

Nothing in the package imports `shmring.cli`, and this package imports what the extra `shmring[cli]`
brings (rich, mcap, ...) only inside the functions that need it, so that `send`, `recv`, `ls`, `stat`,
`rm` and `doctor` work without it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import shmring
from shmring.cli import bench, completion, demo, doctor, ls, metrics, record, recv, replay, rm, send, stat, streams, tail, top
from shmring.cli.arguments import HelpFormatter
from shmring.cli.failure import CommandFailed, Terminated, complain, describe, is_heard

__all__ = ["main"]

COMMANDS = (send, recv, ls, stat, top, tail, record, replay, doctor, rm, metrics, demo, bench, completion)

DESCRIPTION = """\
Messages between processes through a lock-free ring in shared memory.

A ring has a NAME. "quotes" is a POSIX shared memory object: it lives in memory,
outlives its processes, and is gone after a reboot. A NAME with a slash in it,
such as ./quotes.ring, is a file."""

EPILOG = """\
examples:
  shmring demo                        two processes, real data, figures
  shmring send quotes day.csv         in one terminal
  shmring recv quotes > copy.csv      in another one, before or after
  shmring ls                          which rings there are
  shmring top                         what they do right now
  shmring doctor quotes               what is wrong with one
  shmring bench --quick               what this machine can do

exit status:
  0 success, 1 failure (the reason is on standard error), 2 wrong usage,
  129 terminal closed, 130 Ctrl-C, 141 standard output was closed, 143 SIGTERM

"shmring COMMAND --help" explains a command."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="shmring",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shmring {shmring.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def run(argv: Sequence[str] | None) -> int:
    """Parse and carry out one command line."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        completion.answer_shell(parser)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    return args.run(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `shmring` with `argv` (default: the process's own arguments).

    Returns
    -------
    int
        The exit status: 0, 1 for a failure, 2 for wrong usage, 128 + n where signal n ended the work.
    """
    words = sys.argv[1:] if argv is None else argv
    command = next((word for word in words if not word.startswith("-")), None)

    def terminate(signum: int, frame: object) -> None:
        raise Terminated(signum)

    streams.prepare()
    # SIGHUP: the terminal was closed.
    previous = {signum: signal.signal(signum, terminate) for signum in (signal.SIGTERM, signal.SIGHUP) if is_heard(signum)}
    try:
        try:
            status = run(argv)
        except SystemExit as leaving:  # argparse: --help and --version with 0, wrong usage with 2
            status = leaving.code if isinstance(leaving.code, int) else 1
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as end:
        return 128 + end.signum
    except BrokenPipeError:
        streams.give_up_output()  # whoever read it has gone, and knows it
        return 128 + signal.SIGPIPE
    except (CommandFailed, shmring.Error, OSError, ValueError) as error:
        complain(command, describe(error))
        streams.give_up_output()
        return 1
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
