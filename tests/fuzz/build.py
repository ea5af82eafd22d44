"""Builds the kernel's fuzz target: an extension for Python, and where clang is, a libFuzzer program with its sanitizers."""

from __future__ import annotations

import os
import re
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

extension = Extension("kernel_target", ["kernel_target.pyx"], include_dirs=["include"],
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


# Before the kernel reads or exchanges one chosen word, somebody else has changed it: at each access, which no racing thread can
# do. Whoever waits for that word to stand still, or for an exchange to succeed, waits for ever. This shows the bounds of the
# kernel's loops. Only the bits of a mask change, so that a tail with a restless mark stays where it is: one that moved on would
# soon fill the ring, which ends the loop in produce_strive before its bound does.
DISTURB = """
extern const volatile void *shmring_restless[2];    /* the word, writable, and as others have it mapped; or NULL */
extern uint64_t shmring_restless_step, shmring_restless_mask, shmring_restless_changes;
static inline void shmring_disturb(const volatile void *word)
{
    if (word == shmring_restless[0] || word == shmring_restless[1]) {
        volatile uint64_t *restless = (volatile uint64_t *)shmring_restless[0];
        uint64_t mask = shmring_restless_mask, was = *restless;
        *restless = (was & ~mask) | ((was + shmring_restless_step) & mask);
        shmring_restless_changes++;
    }
}
#define SHMRING_DEFINE_WORD("""


def disturbed_headers(folder: Path) -> None:
    """The package's headers, in which every load and exchange of a shared word lets it be changed before."""
    shutil.copytree(Path(shmring.get_include()), folder, dirs_exist_ok=True)
    header = folder / "shmring" / "atomic.h"
    text = header.read_text()
    uses = r"\{ return __atomic_(load_n|compare_exchange_n)\("
    text, loads = re.subn(uses, r"{ shmring_disturb(word); return __atomic_\1(", text)
    text, pairs = re.subn(r"(    unsigned __int128 expected =)", r"    shmring_disturb(pair);\n\1", text)
    text, places = re.subn(r"#define SHMRING_DEFINE_WORD\(", lambda _: DISTURB.strip("\n"), text, count=1)
    if (loads, pairs, places) != (3, 1, 1):
        raise RuntimeError(f"atomic.h looks different: {loads} loads and exchanges, {pairs} pairs, {places} places found")
    header.write_text(text)


def build(folder: Path) -> Path:
    """The extension `kernel_target`, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    disturbed_headers(folder / "include")
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
    command = [clang, "-g", "-O1", "-std=gnu11", "-w", "-fwrapv", *PAIRS, *checks, "-Iinclude",
               f"-I{sysconfig.get_path('include')}", "kernel_target.c", "libfuzzer.c", "-o", "kernel_fuzzer", *library]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        print(f"no libFuzzer here:\n{done.stderr[-400:]}", file=sys.stderr)
        return None
    return folder / "kernel_fuzzer"
