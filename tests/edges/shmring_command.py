"""`python -m shmring` as an unrelated process, for the tests of the command line."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import shmring

ROOT = Path(shmring.__file__).resolve().parent.parent


def environment(*first: Path) -> dict[str, str]:
    """This process's environment, with the tests' own `shmring` on the path, and `first` before it."""
    paths = [*map(str, first), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Without buffering, argparse itself would meet (and swallow) the error of a closed standard output.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "80"}


def command_line(*words: object) -> list[str]:
    """`shmring WORDS`, as this interpreter runs it."""
    return [sys.executable, "-m", "shmring", *map(str, words)]


def run_shmring(*words: object, given: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(command_line(*words), input=given, capture_output=True, env=env or environment(), check=False)


def call_shmring(*words: object) -> subprocess.CompletedProcess[bytes]:
    """The same in this process, which takes a tenth of the time: for what does not care whose process it is."""
    from shmring.cli import main

    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(map(str, words)))
    return subprocess.CompletedProcess(words, status, output.buffer.getvalue(), errors.buffer.getvalue())


def wait_until(condition: Callable[[], object]) -> None:
    """Look until `condition` holds. The watchdog of the test ends a vain wait."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.002)
