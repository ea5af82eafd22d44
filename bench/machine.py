"""The circumstances of a run: machine, versions, commit, cores."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IS_SOURCE_TREE = (ROOT / "pyproject.toml").exists()  # else this is shmring.bench, installed


def describe(cpus: list[int | None], packages: Iterable[str] = ()) -> dict:
    """The machine and what runs on it; `packages` are the distributions whose versions matter."""
    return {
        "identity": identity(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "pinned_to": cpus,
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "virtual": _virtual(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": _first_line([os.environ.get("CC", "cc"), "--version"]),
        **{name: _version(name) for name in ("shmring", "cython", "numpy", "posix_ipc")},
        "packages": {name: version for name in packages if name and (version := _version(name))},
        "commit": commit(),
    }


def identity() -> str:
    """The same for all results of this machine, and no others; says nothing else about it."""
    facts = [
        _text("/etc/machine-id") or _text("/sys/class/dmi/id/product_uuid") or platform.node(),
        cpu_model(),
        str(os.cpu_count()),
        platform.machine(),
    ]
    return hashlib.sha256(b"shmring bench\n" + "\n".join(facts).encode()).hexdigest()[:12]


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    if not IS_SOURCE_TREE:
        return ""
    head = _first_line(["git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD"])
    changed = _first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return head + (" with local changes" if head and changed else "")


def two_cores() -> list[int | None]:
    """Two CPUs this process may use, on different physical cores where there are; [None, None] if there is
    only one.
    """
    usable = sorted(os.sched_getaffinity(0))
    for other in usable[1:]:
        if other not in _siblings(usable[0]):
            return [usable[0], other]
    return [usable[0], usable[1]] if len(usable) > 1 else [None, None]


def _siblings(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    siblings: set[int] = set()
    if path.exists():
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            siblings.update(range(int(first), int(last or first) + 1))
    return siblings


def _virtual() -> bool:
    return "hypervisor" in Path("/proc/cpuinfo").read_text()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""
