"""Builds the kernel's fuzz target: an extension for Python, and where clang is, a libFuzzer program with its sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import shmring

HERE = Path(__file__).parent
PAIRS = ["-mcx16"] if os.uname().machine == "x86_64" else []

SETUP = """
import shmring
from Cython.Build import cythonize
from setuptools import Extension, setup

extension = Extension("kernel_target", ["kernel_target.pyx"], include_dirs=[shmring.get_include()],
                      extra_compile_args=["-std=gnu11", "-O2", "-g", "-w", *{pairs!r}])
setup(name="kernel_target", ext_modules=cythonize([extension], quiet=True, compiler_directives=dict(
    language_level=3, boundscheck=False, wraparound=False, cdivision=True)))
"""


def missing() -> str | None:
    """Why the target cannot be built here."""
    try:
        import Cython  # noqa: F401
    except ImportError:
        return "Cython is not installed"
    return None if shutil.which("cc") or shutil.which("gcc") else "there is no C compiler"


def build(folder: Path) -> Path:
    """The extension `kernel_target`, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in HERE.iterdir():
        if source.suffix in (".pyx", ".pxd", ".c"):
            shutil.copy(source, folder)
    (folder / "setup.py").write_text(SETUP.format(pairs=PAIRS))
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(shmring.__file__)))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the fuzz target does not build:\n{done.stdout}{done.stderr}")
    return folder


def build_libfuzzer(folder: Path) -> Path | None:
    """The same target as a program that libFuzzer drives, after `build`; None where clang or its fuzzer is missing."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    value = sysconfig.get_config_var
    library = [f"-L{value('LIBDIR')}", f"-Wl,-rpath,{value('LIBDIR')}", f"-lpython{value('LDVERSION')}"]
    # Cython's atomics are 16 bytes, and its module code is not ours to check: no more than what finds errors of memory.
    checks = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize=alignment,pointer-overflow,function",
              "-fno-sanitize-recover=undefined"]
    command = [clang, "-g", "-O1", "-std=gnu11", "-w", "-fwrapv", *PAIRS, *checks, f"-I{shmring.get_include()}",
               f"-I{sysconfig.get_path('include')}", "kernel_target.c", "libfuzzer.c", "-o", "kernel_fuzzer", *library]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(f"no libFuzzer here:\n{done.stderr[-400:]}", file=sys.stderr)
        return None
    return folder / "kernel_fuzzer"
