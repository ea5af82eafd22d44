"""The kernel as C, for any compiler: to run it under ThreadSanitizer, for another processor, or to read its assembly.

Cython makes one C file of a `.pyx` and all that it cimports. Only nogil functions are called; what refers to Python is reached
by nobody and dropped by the linker (--gc-sections). So a program needs no libpython, and for another processor no Python of
that one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from accesses import Access
from sources import HEADERS, KERNEL, ROOT, functions_of, kernel_files

PROGRAM = ROOT / "tests" / "kernel"
FLAGS = ["-std=gnu11", "-g", "-w", "-ffunction-sections", "-fdata-sections"]
DIRECTIVES = ("cdivision=True", "boundscheck=False", "wraparound=False")
WATCHDOG = 280  # seconds, for a compiler or a program that hangs

# The same access, but that it orders nothing: for mutants.
WEAK = {
    "load_acquire_u32": "load_relaxed_u32",
    "load_acquire_u64": "load_relaxed_u64",
    "store_release_u32": "store_relaxed_u32",
    "store_release_u64": "store_relaxed_u64",
    "fence_full": "fence_compiler",
    "fence_release": "fence_compiler",
    "fence_acquire": "fence_compiler",
    "cas_u64": "weak_cas_u64",
    "cas_pair": "weak_cas_pair",
    "add_u32": "weak_add_u32",
}
WEAK_H = """
static inline int shmring_weak_cas_u64(shmring_u64 *word, uint64_t expected, uint64_t desired)
{ return __atomic_compare_exchange_n(&word->value, &expected, desired, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED); }
static inline int shmring_weak_cas_pair(shmring_u64 *pair, uint64_t old0, uint64_t old1, uint64_t new0, uint64_t new1)
{
    unsigned __int128 expected = (unsigned __int128)old1 << 64 | old0, desired = (unsigned __int128)new1 << 64 | new0;
    return __atomic_compare_exchange_n((shmring_pair *)pair, &expected, desired, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
static inline uint32_t shmring_weak_add_u32(shmring_u32 *word, uint32_t value)
{ return __atomic_fetch_add(&word->value, value, __ATOMIC_RELAXED); }
"""


@dataclass
class Copy:
    """A copy of the kernel that may be changed, and a place for what is made of it."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "shmring" / "_core"

    @property
    def headers(self) -> Path:
        return self.folder / "include"

    def weaken(self, access: Access) -> None:
        """Take the order from one access."""
        path = self.kernel / f"{access.file}.pxd"
        lines = path.read_text().split("\n")
        weak = WEAK[access.helper]
        changed = lines[access.line - 1].replace(f"{access.helper}(", f"{weak}(")
        assert changed != lines[access.line - 1], access
        lines[access.line - 1] = changed
        first = next(number for number, line in enumerate(lines) if "cimport" in line)
        lines[first] = f"from shmring._core.atomic cimport {weak}; {lines[first]}"
        path.write_text("\n".join(lines))


def copy_kernel(folder: Path) -> Copy:
    copy = Copy(folder)
    shutil.copytree(KERNEL, copy.kernel)
    shutil.copytree(HEADERS, copy.headers / "shmring")
    (folder / "shmring" / "__init__.pxd").write_text("")
    for path in PROGRAM.glob("*.p[xy][dx]"):
        shutil.copy(path, folder)
    header = copy.headers / "shmring" / "atomic.h"
    fence = "static inline void shmring_fence_full"
    header.write_text(header.read_text().replace(fence, WEAK_H + fence))
    declarations = copy.kernel / "atomic.pxd"
    text = declarations.read_text()
    for name in ("cas_u64", "cas_pair", "add_u32"):
        text = re.sub(rf'^( *\w+ ){name} "shmring_{name}"(.*)$', rf'\g<0>\n\1weak_{name} "shmring_weak_{name}"\2', text,
                      flags=re.MULTILINE)
    declarations.write_text(text)
    return copy


def translate(copy: Copy, name: str) -> Path:
    """`name`.pyx in the copy as C."""
    options = [option for directive in DIRECTIVES for option in ("-X", directive)]
    _run([sys.executable, "-m", "cython", "-3", *options, "-I", str(copy.folder), f"{name}.pyx"], copy.folder)
    return copy.folder / f"{name}.c"


def compile_c(copy: Copy, source: Path, output: str, compiler: str, *flags: str) -> Path:
    """A program (or what the flags say) of the C file."""
    target = copy.folder / output
    ends = [] if "-S" in flags else ["-Wl,--gc-sections", "-lpthread"]
    command = [compiler, *FLAGS, *flags, f"-I{copy.headers}", *_python_headers(copy), "-o", str(target), str(source), *ends]
    _run(command, copy.folder)
    return target


def write_whole_kernel(copy: Copy) -> str:
    """A module that uses every function of the kernel, so that all of them are compiled. Returns its name."""
    lines, names = [], []
    for path in kernel_files():
        found = [function.name for function in functions_of(path)]
        if found:
            lines.append(f"from shmring._core.{path.stem} cimport {', '.join(found)}")
            names += found
    lines.append(f"cdef void* used[{len(names)}]")
    lines += [f"used[{index}] = <void*> {name}" for index, name in enumerate(names)]
    (copy.folder / "whole_kernel.pyx").write_text("\n".join(lines) + "\n")
    return "whole_kernel"


def needed(*tools: str) -> None:
    """Skip without them, and say what to install; `tools` are "program" or "program:package"."""
    missing = [tool.partition(":") for tool in tools if shutil.which(tool.partition(":")[0]) is None]
    if missing:
        packages = " ".join(package or program for program, _, package in missing)
        pytest.skip(f"no {missing[0][0]}: apt-get install {packages}")


def run_program(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    command_environment = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=WATCHDOG, env=command_environment)


def _python_headers(copy: Copy) -> list[str]:
    """Include options for Python.h. Debian's pyconfig.h includes one by processor; all that we need of them is the same."""
    own = sysconfig.get_path("include")
    architecture = sysconfig.get_config_var("MULTIARCH") or ""
    real = Path("/usr/include") / architecture / Path(own).name / "pyconfig.h"
    if not real.exists():
        return [f"-I{own}"]
    for other in ("x86_64-linux-gnu", "aarch64-linux-gnu"):
        stub = copy.folder / "stub" / other / Path(own).name / "pyconfig.h"
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f'#include "{real}"\n')
    return [f"-I{own}", f"-I{copy.folder / 'stub'}"]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WATCHDOG)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
