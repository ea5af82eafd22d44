"""Runs a script in a process of its own, where it may change limits, lose privileges or be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import shmring

ROOT = str(Path(shmring.__file__).parents[1])
PRELUDE = """
import errno, faulthandler, mmap, os, resource, signal, sys, tempfile, threading
from shmring import Mapping, errors, sigbus
PAGE = os.sysconf("SC_PAGESIZE")

def truncated_file(pages=4, cut_to=1, **how):
    with tempfile.NamedTemporaryFile(delete=True) as file:
        mapping = Mapping.file(file.name, pages * PAGE, create=True, **how)
        mapping_file = os.open(file.name, os.O_RDWR)
    cut(mapping_file, cut_to)
    return mapping

def cut(fd, pages):
    if os.fork() == 0:      # by another process
        os.ftruncate(fd, pages * PAGE)
        os._exit(0)
    os.wait()
    os.close(fd)

def foreign_truncated_mmap():
    with tempfile.TemporaryFile() as file:
        file.truncate(PAGE)
        memory = mmap.mmap(file.fileno(), PAGE)
        file.truncate(0)
    return memory
"""


def run_script(
    script: str, *, options: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess:
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SHMRING_", "PYTHONFAULTHANDLER"))
    }
    return subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + script],
        text=True,
        capture_output=True,
        check=False,
        env=clean | environment | {"PYTHONPATH": ROOT},
    )


def check_script(script: str, **how) -> str:
    done = run_script(script, **how)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
