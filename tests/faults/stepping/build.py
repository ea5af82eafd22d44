"""Builds the stepper, once, and loads it; or says why this machine cannot have it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("stepper.pyx")
CACHE = Path(__file__).resolve().parents[3] / ".pytest_cache"


class Unavailable(Exception):
    """What is missing."""


def load():
    """The module `stepper`, compiled if it was not yet.

    Raises
    ------
    Unavailable
        The machine is none that it knows, or has no compiler, or forbids ptrace(2).
    """
    if platform.machine() not in ("x86_64", "AMD64") or sys.maxsize < 1 << 32:
        raise Unavailable(f"the stepper knows the registers of x86-64, not of {platform.machine()}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise Unavailable("no C compiler; install gcc")
    if importlib.util.find_spec("Cython") is None:
        raise Unavailable("no Cython; install it with pip")
    stamp = hashlib.sha256(SOURCE.read_bytes() + sys.version.encode()).hexdigest()[:16]
    built = CACHE / f"stepper-{stamp}" / f"stepper{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not built.exists():
        _compile(compiler, built)
    spec = importlib.util.spec_from_file_location("stepper", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _try(module)
    return module


def _compile(compiler: str, built: Path) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    source = built.parent / f"stepper-{os.getpid()}.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(SOURCE), "-o", str(source)], check=True)
    ready = source.with_suffix(".so")
    include = sysconfig.get_path("include")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", f"-I{include}", str(source), "-o", str(ready)], check=True)
    source.unlink()
    os.replace(ready, built)


def _try(stepper) -> None:
    """Is a child that asks to be traced really traced?"""
    pid = os.fork()
    if pid == 0:
        try:
            stepper.trace_me()
            stepper.stop_here()
        finally:
            os._exit(1)
    traced = None
    try:
        traced = stepper.Traced(pid, [])
        traced.begin()
        traced.kill()
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"ptrace(2) is not allowed here ({error})") from None
    finally:
        if traced is not None:
            traced.close()
