"""The Python modules under AddressSanitizer and UBSan: `make asan`, or `python tests/programs/asan_suite.py [pytest words]`.

The modules are compiled again by gcc, with both sanitizers and the kernel's own assertions, into build/asan; each only when its
source or a header changed. A copy of the package and the tests lies there, too, so that children import the same modules. Every
finding ends its process. What the sanitizers do not see: bytes of the ring, which malloc did not give (the fuzzer puts pages
that may not be touched around them), and the interpreter itself, which is the usual one with its allocations left to malloc.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "asan"
CHECKS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FLAGS = ["-std=gnu11", "-O1", "-g1", "-w", "-fwrapv", "-shared", "-fPIC", "-DSHMRING_DEBUG=1"]
PAIRS = ["-mcx16"] if os.uname().machine == "x86_64" else []
TESTS = ["tests/contract", "tests/edges", "tests/faults", "tests/model", "tests/unit"]
# Left out: what steps through the compiled modules, times them or counts page faults, the report of the benchmarks, and Spin.
LEFT_OUT = [
    "tests/faults/test_every_instruction.py", "tests/edges/test_bench.py", "tests/edges/test_bench_page.py",
    "tests/model/test_models.py",
    # These take address space and mappings away, which the sanitizer needs; the last one preloads a clock before it.
    "tests/faults/test_limits.py", "tests/faults/test_mapping_errors.py", "tests/faults/test_clocks.py",
]
LEFT_OUT_TESTS = [
    "tests/contract/test_creation.py::test_the_first_lap_takes_no_page_faults",
    "tests/faults/test_aio_refused.py::test_no_descriptor_left_is_an_error_of_that_call_and_leaves_nothing",
]


def missing() -> str | None:
    """Why the modules cannot be built here."""
    if shutil.which("gcc") is None:
        return "apt-get install gcc"
    if not library("libasan.so"):
        return "gcc has no libasan (Debian: apt-get install libgcc-12-dev)"
    return None


def library(name: str) -> str | None:
    """Where gcc's run-time library of that name is."""
    path = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


def build() -> Path:
    """The folder with the package, the tests, and modules that are checked."""
    modules = FOLDER / "modules"
    for part in ("shmring", "tests", "examples", "docs"):
        shutil.rmtree(FOLDER / part, ignore_errors=True)
        shutil.copytree(ROOT / part, FOLDER / part, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, FOLDER)
    headers = [f"-I{ROOT / 'shmring' / 'include'}", f"-I{sysconfig.get_path('include')}", f"-I{numpy.get_include()}"]
    common = b"".join(path.read_bytes() for path in sorted((ROOT / "shmring" / "include").rglob("*.h")))

    def compile_one(module: Path) -> None:
        source = ROOT / module.with_suffix(".c")
        target = modules / module.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
        command = ["gcc", *CHECKS, *FLAGS, *PAIRS, *headers, str(source), "-o", str(target)]
        stamp = hashlib.sha256(common + source.read_bytes() + " ".join(command).encode()).hexdigest()
        built = target.with_suffix(".built")
        if not (target.exists() and built.exists() and built.read_text() == stamp):
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(command, check=True)
            built.write_text(stamp)
        shutil.copy(target, FOLDER / module.parent)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, [path.relative_to(ROOT) for path in (ROOT / "shmring").rglob("*.pyx")]))
    return FOLDER


def environment() -> dict[str, str]:
    """For a Python that uses these modules."""
    preloaded = [library(name) for name in ("libasan.so", "libstdc++.so.6")]     # else its exceptions go unnoticed
    return os.environ | {
        "LD_PRELOAD": " ".join(filter(None, preloaded)),
        "PYTHONPATH": str(FOLDER),
        "PYTHONMALLOC": "malloc",
        # CPython frees little at its end. Tests have SIGSEGV and SIGBUS of their own; either is a failure elsewhere, anyway.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:handle_segv=0:handle_sigbus=0:use_sigaltstack=0"
                        ":allocator_may_return_null=1:max_allocation_size_mb=4096",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
    }


def main() -> int:
    if reason := missing():
        sys.exit(reason)
    build()
    left_out = [f"--ignore={path}" for path in LEFT_OUT] + [f"--deselect={test}" for test in LEFT_OUT_TESTS]
    two = ["-m", "not soak", "--numprocesses", "2", "--dist", "loadfile"]
    words = ["-q", "-p", "no:cacheprovider", *(sys.argv[1:] or two)]
    # Each folder by itself: with several as arguments, pytest takes the last one's conftest.py for everybody's.
    runs = [[]] if sys.argv[1:] else [[folder, *left_out] for folder in TESTS]
    command = [sys.executable, "-m", "pytest", *words]
    codes = [subprocess.run([*command, *run], cwd=FOLDER, env=environment()).returncode for run in runs]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
