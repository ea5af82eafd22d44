"""Every example and every block of the README and the docs runs as a user would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What an example is there to show, as its output says it.
SHOWN = {
    "encoders_recorder_preview": r"^recorder: 90 frames, in order: True$",
    "fan_out": r"^ledger: 500 orders, together 124750$",
    "file_backed_restart": r"^job 3 again$",
    "latest_telemetry": r"^the sensor was switched off after reading 4000$",
    "objects_and_arrays": r"^50 frames, 58 MiB; the brightest is number 27$",
    "logging_queue": r"^11 records of 3 processes, of which one was killed$",
    "queue_pool": r"^True: all 100 tasks are done, one worker was killed$",
    "queue_survives_kill": r"^shmring.Queue: +the other worker answered 42\nmultiprocessing.Queue: the other worker hangs",
    "opentelemetry_metrics": r"^shmring.group.lag\{'group': 'work'\} 7$",
    "worker_pool": r"^12 jobs done, 1 worker died, 1 job was delivered again$",
}
# What an example needs beside shmring.
NEEDED = {"opentelemetry_metrics": "opentelemetry.sdk"}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_of(page):
    """The page's Python blocks; one that begins with `# NAME.py` is named, and belongs to the named ones next to it."""
    groups, named = [], []
    for code in BLOCK.findall(page.read_text()):
        if re.match(r"# \w+\.py\n", code):
            named.append(code)
        else:
            groups.append([code])
    return ([named] if named else []) + groups


def start(folder, code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_alone_and_cleans_up(path, tmp_path):
    if path.stem in NEEDED:
        pytest.importorskip(NEEDED[path.stem], reason=f"pip install {NEEDED[path.stem].replace('.', '-')}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, path], env=environment, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert re.search(SHOWN.get(path.stem, r"\S"), output, re.MULTILINE), output
    # Examples put their pid into the names they make; other programs may use /dev/shm at the same time.
    assert [name for name in os.listdir("/dev/shm") if str(process.pid) in name] == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    "codes",
    [pytest.param(codes, id=f"{page.stem}-{number}") for page in PAGES for number, codes in enumerate(blocks_of(page))],
)
def test_block_runs(codes, tmp_path):
    processes = [start(tmp_path, code) for code in codes]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(codes), outputs


def test_readme_example_delivers_everything_in_either_order(tmp_path):
    producer, consumer = blocks_of(ROOT / "README.md")[0]
    for codes in (producer, consumer), (consumer, producer):
        processes = [start(tmp_path, code) for code in codes]
        outputs = "".join(process.communicate(timeout=240)[0] for process in processes)
        assert "1000000 messages, the last one b'quote 999999'" in outputs
