"""`shmring completion SHELL`: the lines that make a shell complete this command.

argcomplete (the extra `shmring[cli]`) asks the command itself what may come next, so that names of rings complete as well.
"""

from __future__ import annotations

import argparse
import sys

from shmring.cli.arguments import add_command
from shmring.cli.failure import CommandFailed

DESCRIPTION = """\
Print the shell code that makes TAB complete commands, options and the names of
rings. Put it where your shell reads it when it starts."""

EPILOG = """\
examples:
  echo 'eval "$(shmring completion bash)"' >> ~/.bashrc
  echo 'eval "$(shmring completion zsh)"' >> ~/.zshrc
  shmring completion fish > ~/.config/fish/completions/shmring.fish

exit status:
  0 success, 1 the extra shmring[cli] is not installed, 2 wrong usage"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `completion` to the command line."""
    parser = add_command(commands, "completion", run, "shell code that completes this command", DESCRIPTION, EPILOG)
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring completion`."""
    try:
        import argcomplete
    except ImportError:
        raise CommandFailed("argcomplete is missing; pip install 'shmring[cli]'") from None
    sys.stdout.write(argcomplete.shellcode(["shmring"], shell=args.shell))
    return 0


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """If the shell is asking (it says so in the environment), answer and leave."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)
