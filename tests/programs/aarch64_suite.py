"""The contract tests on aarch64, by qemu-user: `make aarch64`, or `python tests/programs/aarch64_suite.py [pytest arguments]`.

Debian's Python for arm64 and aarch64 wheels from the package index go into a folder of their own (.venv/aarch64); nothing is
installed. The extension modules are cross-compiled, once for exclusive accesses and once for LSE. Functional only: qemu has the
memory order of the machine that it runs on. Needs apt-get, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".venv" / "aarch64"
SYSTEM = CACHE / "root"
SITE = SYSTEM / "usr" / "lib" / "python3" / "dist-packages"     # which that Python looks into by itself, whoever starts it
COMPILER = "aarch64-linux-gnu-gcc"
PROCESSORS = {"exclusives": ["-march=armv8-a", "-mno-outline-atomics"], "lse": ["-march=armv8.1-a"]}
MINOR = "3.11"  # of Debian 12
DEBS = (f"python{MINOR}-minimal libpython{MINOR}-minimal libpython{MINOR}-stdlib libpython{MINOR}-dev libc6 libgcc-s1 zlib1g "
        "libexpat1 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libssl3 libuuid1 libcrypt1 libstdc++6").split()
WHEELS = ["pytest", "pytest-timeout", "hypothesis", "numpy", "posix-ipc"]
TESTS = [f"tests/contract/test_{name}.py" for name in (
    "groups", "sending", "receiving", "many_producers", "many_producers_at_the_limits", "shared_groups", "shared_views",
    "observers", "observers_receiving", "observers_under_load", "group_lifetime", "end_with_producers", "waiting",
    "two_processes", "creation", "lifetime", "reentrancy", "permissions", "children")]
# Not there: test_forks.py, as qemu-user 7.2 fails an assertion of its own when a forked child starts a thread
# (qemu_plugin_vcpu_init_hook). Left out: it keeps madvise(2) to itself, so that pages are not made ready before they are used.
LEFT_OUT = ["tests/contract/test_creation.py::test_the_first_lap_takes_no_page_faults"]


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        sys.exit(f"no {', '.join(missing)}: on Debian, apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user")


def fetch() -> None:
    """Python for arm64, unpacked, and the wheels that the tests need."""
    if (CACHE / "fetched").exists():
        return
    debs = CACHE / "debs"
    for folder in (debs, CACHE / "lists" / "partial", CACHE / "cache" / "archives" / "partial", SITE):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::Lists={CACHE / 'lists'}", f"Dir::Cache={CACHE / 'cache'}", "APT::Architecture=arm64",
               "APT::Architectures=arm64", "Debug::NoLocking=1", "Acquire::Languages=none"]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *DEBS], cwd=debs, check=True)
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, SYSTEM], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", SITE, "--platform", "manylinux2014_aarch64",
                    "--platform", "manylinux_2_17_aarch64", "--platform", "manylinux_2_28_aarch64", "--python-version", MINOR,
                    "--only-binary=:all:", *WHEELS], check=True)
    python = CACHE / "python"                   # what the tests' own children are started with
    python.write_text(f'#!/bin/sh\nexec qemu-aarch64 -L "{SYSTEM}" "{SYSTEM}/usr/bin/python{MINOR}" "$@"\n')
    python.chmod(0o755)
    (SITE / "executable.pth").write_text(f"import sys; sys.executable = sys._base_executable = {str(python)!r}\n")
    (CACHE / "fetched").touch()


def build(processor: str) -> Path:
    """The package and the tests in a folder of their own, with modules for that processor."""
    folder = CACHE / processor
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("shmring", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    headers = [f"-I{SYSTEM}/usr/include/python{MINOR}", f"-I{SYSTEM}/usr/include", f"-I{ROOT}/shmring/include",
               f"-I{numpy.get_include()}"]       # the same for both

    def compile_one(module: Path) -> None:
        source = ROOT / module.with_suffix(".c")
        target = folder / module.with_suffix(f".cpython-{MINOR.replace('.', '')}-aarch64-linux-gnu.so")
        flags = ["-std=gnu11", "-O1", "-w", "-shared", "-fPIC", *PROCESSORS[processor], *headers]
        subprocess.run([COMPILER, *flags, source, "-o", target], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, [path.relative_to(ROOT) for path in (ROOT / "shmring").rglob("*.pyx")]))
    return folder


def main() -> int:
    need("apt-get", "dpkg-deb", COMPILER, "qemu-aarch64")
    fetch()
    failed = 0
    for processor in PROCESSORS:
        folder = build(processor)
        print(f"== {processor}", flush=True)
        environment = os.environ | {"PYTHONPATH": str(folder)}
        left_out = [f"--deselect={test}" for test in LEFT_OUT]
        options = ["-q", "-rf", *left_out, "--tb=short", "-p", "no:cacheprovider", "--timeout-method=signal"]
        failed |= subprocess.run([CACHE / "python", "-m", "pytest", *options, *(sys.argv[1:] or TESTS)], cwd=folder,
                                 env=environment).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
