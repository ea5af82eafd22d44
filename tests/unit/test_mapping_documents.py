"""What the documentation of Mapping shows is what happens."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import shmring
from shmring import mapping

ROOT = Path(shmring.__file__).parents[1]


def test_the_docstring_examples_run():
    examples = doctest.DocTestFinder().find(mapping.Mapping, "Mapping", globs={"Mapping": mapping.Mapping})
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(result.attempted for result in results) >= 1
    assert not any(result.failed for result in results)


def test_the_example_runs_and_cleans_up(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "raw_mapping.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "doubled them: [0 2 4 6 8]" in done.stdout and "still alive" in done.stdout
    assert not list(tmp_path.iterdir())
    assert len((ROOT / "examples" / "raw_mapping.py").read_text().splitlines()) <= 60


def test_every_flag_of_the_docstring_is_in_the_tables_and_back():
    from shmring.options import IGNORED_FLAGS

    text = mapping.Mapping.__doc__
    assert all(name in text for name in IGNORED_FLAGS)
    assert all(f"{name} :" in text for name in ("populate", "lock", "noreserve", "huge", "mirrored"))
