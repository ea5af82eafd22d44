"""Every how-to page, followed from top to bottom: each block in a fresh process of its own, as a reader would paste it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed(page, tmp_path):
    blocks = BLOCK.findall(page.read_text())
    assert blocks, "a how-to without code"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
    before = set(os.listdir("/dev/shm"))
    for number, code in enumerate(blocks, 1):
        # In a file, as children that multiprocessing spawns look for the main module.
        program = tmp_path / f"{page.stem.replace('-', '_')}_{number}.py"
        program.write_text(code)
        process = subprocess.Popen(
            [sys.executable, program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            output, errors = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, f"block {number} of {page.name}:\n{code}\n{output}{errors}"
        program.unlink()
    pages_own = {name for name in set(os.listdir("/dev/shm")) - before if any(name in code for code in blocks)}
    assert not pages_own, f"{page.name} leaves {pages_own}"
