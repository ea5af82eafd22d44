"""What the commands' options have in common: the parser of a command, NAME, --trust, --json.

Help is written for 80 columns whatever the terminal has, and looks the same with every Python (docs/cli.md is made from it).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from shmring.cli import streams

NAME_HELP = 'the ring; a path if it has a "/" in it'
HELP_COLUMNS = 80


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, with `-o, --output FILE` as Python 3.13 has it, and a fixed width."""

    def __init__(self, prog: str, **others: Any) -> None:
        super().__init__(prog, width=HELP_COLUMNS - 2, max_help_position=24)

    def add_argument(self, action: argparse.Action) -> None:
        """argparse forgets that commands stand further to the right."""
        super().add_argument(action)
        for each in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(each)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"


def add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    """Add a command to the command line: its parser, to which options are added."""
    parser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def add_name(parser: argparse.ArgumentParser, **how: Any) -> None:
    """Add NAME, which completes to the rings that are there."""
    action = parser.add_argument("name", **{"metavar": "NAME", "help": NAME_HELP, **how})
    action.completer = complete_ring  # type: ignore[attr-defined]


def complete_ring(prefix: str, **_: object) -> list[str]:
    """For shell completion: names of rings in shared memory."""
    from shmring.cli.find import shm_names

    return [name for name in shm_names() if name.startswith(prefix)]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust",
        metavar="USER",
        type=trusted,
        help="whose ring it may be, beside your own and root's: a user's name or id, several with commas, or \"anyone\"",
    )


def trusted(text: str) -> str | list[int]:
    """An argparse type: what `trust=` of `shmring.open` takes."""
    if text == "anyone":
        return text
    uids = []
    for word in text.split(","):
        if re.fullmatch(r"\d+", word):
            uids.append(int(word))
            continue
        import pwd

        try:
            uids.append(pwd.getpwnam(word).pw_uid)
        except KeyError:
            raise argparse.ArgumentTypeError(f"there is no user {word!r}") from None
    return uids


def add_json(parser: argparse.ArgumentParser, what: str = "print JSON, for scripts") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON value on standard output, without a copy of it as a whole text waiting in memory for long."""
    streams.show("shmring.json")
    json.dump(value, sys.stdout, indent=indent, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
