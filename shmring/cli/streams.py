"""Standard input, output and error of a command, also where one of them is closed, full, or cannot show every character.

A descriptor that is closed would be given to the next file that is opened: to a ring, into which somebody's error message
could go then. So a closed one is opened before anything else, in a way that the command's own use of it fails as it should.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

# What a bar or a sign looks like where there is ASCII or Latin-1 only.
PLAIN = str.maketrans("▁▂▃▄▅▆▇█░▸▲…↑↓", "_..--==#.>!~^v")


def prepare() -> None:
    """Open what is closed, and let every character be written in some way."""
    for fd, how in (0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, how), True)  # the lowest that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    codecs.register_error("shmring.text", as_text)
    codecs.register_error("shmring.json", as_json)
    show("shmring.text")


def show(how: str) -> None:
    """Choose what becomes of characters that standard output cannot show: "shmring.text" or "shmring.json"."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != how:
        sys.stdout.reconfigure(errors=how)


def as_text(error: UnicodeError) -> tuple[str | bytes, int]:
    """For people: bytes of a file's name as they are (it need not be UTF-8), signs by others, anything else by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    if 0xDC80 <= ord(char) <= 0xDCFF:
        return bytes([ord(char) - 0xDC00]), error.start + 1
    plain = char.translate(PLAIN)
    return plain if plain != char else char.encode("ascii", "backslashreplace").decode(), error.start + 1


def as_json(error: UnicodeError) -> tuple[str | bytes, int]:
    """For a JSON text: as JSON escapes a character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2)), error.start + 1


def is_open_for(fd: int, writing: bool) -> bool:
    """Whether a descriptor can be written, or read."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE in (os.O_RDWR, os.O_WRONLY if writing else os.O_RDONLY)


def give_up_output() -> None:
    """What Python still holds for standard output has nowhere to go: the interpreter is not to complain on its way out."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
