"""The sdist builds the wheel, the wheel installs into a clean environment, and works there outside the tree. No network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from sources import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

USE = """
import os, sys, shmring
assert os.path.dirname(shmring.__file__).startswith(sys.prefix), shmring.__file__
with shmring.anonymous("64 KiB") as ring, ring.producer() as tx, ring.consumer() as rx:
    tx.send(b"hello")
    assert rx.recv(timeout=0) == b"hello" and ring.stats().tail
print(shmring.__version__, shmring.get_include())
"""


def run(*command, cwd, **more):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SHMRING_DEBUG")}
    result = subprocess.run(list(map(str, command)), cwd=cwd, env={**environment, **more}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The project as a fresh clone has it."""
    for module in ("build", "Cython", "setuptools"):
        pytest.importorskip(module, reason=f"building needs {module}")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no version control that knows which files are the project's")
    folder = tmp_path_factory.mktemp("clone")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tree):
    """Folder with the sdist, and the wheel that was built from it: as fast as it can be, not what it builds."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tree / "dist", cwd=tree, CFLAGS="-O0")
    return tree / "dist"


def listed(tree, folder):
    """The files below a folder of the fresh clone."""
    return {str(path.relative_to(tree)) for path in (tree / folder).rglob("*") if path.is_file()}


def test_the_sdist_is_the_whole_project(tree, built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    wanted = listed(tree, ".")
    kept = ("shmring", "tests", "docs", "bench", "examples", ".ci", "Makefile", "LICENSE", "setup.py", "pyproject.toml")
    missing = {
        name for name in wanted - packed
        if name.split("/")[0] in kept and "__pycache__" not in name and not name.endswith((".c", ".so"))
    }
    assert not missing
    assert not {name for name in packed if name.startswith("shmring/") and name.endswith((".c", ".so", ".pyc"))}


def test_the_wheel_has_what_users_need_and_nothing_else(tree, built):
    (wheel,) = built.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    source = listed(tree, "shmring")
    needed = {name for name in source if name.endswith((".py", ".pyi", ".pxd", ".h", "py.typed"))}
    needed |= {f"shmring/{name}" for name in listed(tree, "bench")}  # `shmring bench`
    modules = {name.removesuffix(".pyx") for name in source if name.endswith(".pyx")}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert packed == needed | {name + suffix for name in modules}


def test_the_wheel_works_in_a_clean_environment(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))", cwd=tmp_path).strip())
    # What shmring depends on, from the environment of the tests: its folder is searched, its own .pth files are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("platlib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    version, include = run(python, "-c", USE, cwd=tmp_path).split()
    assert "kickmsg" in run(python, "-m", "shmring", "bench", "--list", cwd=tmp_path)
    shapes = ("--quick", "--rounds", "1", "--seconds", "0.01", "--shapes", "wakeup", "--contenders", "shmring,mp_pipe")
    run(python, "-m", "shmring", "bench", *shapes, "--output", "figures.json", cwd=tmp_path)
    assert {path.name for path in tmp_path.glob("figures.*")} == {"figures.json", "figures.html"}
    assert version in wheel.name and (Path(include) / "shmring" / "layout.h").exists()
