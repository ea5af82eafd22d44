"""docs/cli.md is the command line's own help, and the help is what a manual page would be."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest
from shmring_command import ROOT, call_shmring

from shmring.cli import COMMANDS, build_parser

PAGE = ROOT / "docs" / "cli.md"
NAMES = [command.__name__.rsplit(".", 1)[1] for command in COMMANDS]


def make_page() -> str:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_page()


def words(text: str) -> list[str]:
    """Without line ends: where argparse breaks the usage differs between versions of Python."""
    return text.split()


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not installed")
def test_the_page_is_the_help():
    assert words(PAGE.read_text()) == words(make_page()), "python docs/make_cli.py writes it anew"


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not installed")
def test_every_picture_is_there():
    pictures = re.findall(r"\((img/[^)]+)\)", PAGE.read_text())
    assert len(pictures) >= 3
    for picture in pictures:
        path = PAGE.parent / picture
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 64 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_help_is_like_a_manual_page(name):
    done = call_shmring(name, "--help")
    text = done.stdout.decode()
    assert done.returncode == 0 and text.startswith(f"usage: shmring {name} ")
    assert "exit status:" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []
    if name != "demo":
        assert f"shmring {name}" in text.partition("examples:")[2]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("demo", "completion")])
def test_every_example_is_understood(name):
    """The options of the examples exist: each command line is parsed as it stands."""
    text = call_shmring(name, "--help").stdout.decode().partition("examples:")[2].partition("exit status:")[0]
    found = [line[line.index(f"shmring {name}") :] for line in text.splitlines() if f"shmring {name}" in line]
    assert found
    for line in found:
        build_parser().parse_args(first_command(line)[1:])


def first_command(line: str) -> list[str]:
    """The words of a shell's line up to a pipe, a redirection, or what is said about it (after three blanks)."""
    lexer = shlex.shlex(line.split("   ")[0], posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|<>&();"), lexer))


def test_the_first_page_names_every_command():
    text = call_shmring("--help").stdout.decode()
    assert [name for name in NAMES if not re.search(rf"^    {name}\s", text, re.MULTILINE)] == []


def test_the_readme_leads_to_the_page():
    assert "docs/cli.md" in Path(ROOT / "README.md").read_text()
