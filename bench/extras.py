"""What needs no second process: import time, control pages, and the rate of memcpy for scale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import contenders
from .contenders import native
from .machine import ROOT
from .shapes import MIB
from .summary import median


def measure(rounds: int, cpus: list[int | None], names: list[str]) -> dict:
    found: dict = {}
    if "shmring" in names and not contenders.load("shmring").missing():
        found["import_ms"] = import_times(rounds * 3)
        found["control_bytes"] = control_bytes()
    if "native" in names and not native.missing():
        found["memcpy_gb_per_s"] = {
            str(size): median([memcpy_rate(size, cpus[0]) for _ in range(rounds)])
            for size in (16 << 10, MIB, 16 * MIB)
        }
    return found


def import_times(runs: int) -> dict[str, list[float]]:
    """Wall-clock milliseconds of `python -c pass` and of `python -c "import shmring"`, in turn.

    With byte code at hand, as pip leaves it, whatever PYTHONDONTWRITEBYTECODE says here.
    """
    times: dict[str, list[float]] = {"bare": [], "shmring": []}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        for i in range(runs + 1):
            for name, code in (("bare", "pass"), ("shmring", "import shmring")):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
                if i:  # the first one reads the files from disk, and writes the byte code
                    times[name].append((time.perf_counter() - began) * 1e3)
    return times


def control_bytes() -> int:
    """What a ring with default parameters occupies beside its data area."""
    import shmring

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "control"
        ring = shmring.create(path)
        occupied = os.stat(path).st_size - ring.capacity
        ring.close()
    return occupied


def memcpy_rate(size: int, cpu: int | None) -> float:
    """GB/s of memcpy on one core, private memory to private memory."""
    count = max(4, 400_000_000 // size)
    program = native.programs() / "memcpy"
    done = subprocess.run(
        [str(program), f"size={size}", f"count={count}", f"cpu={'' if cpu is None else cpu}"],
        input="go\n",
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[1])
    return size * count / (result["end_ns"] - result["start_ns"])
