"""CPython's own queue tests (judge.py) against shmring, with every Python from 3.10 on that is here: `make test-pythons`.

Builds shmring for each of them below build/pythons, in a virtual environment of its own, from the C files that the project's
build has made; what was built is used again while the sources are unchanged. Prints a table, then what failed and what was
skipped and why.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "pythons"
JUDGE = Path(__file__).with_name("judge.py")
PARTS = ("fork", "spawn", "forkserver", "threads")
OLDEST, NEWEST = 10, 14
LIMIT_SECONDS = 700
AT_ONCE = 2
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c", ".toml", ".typed"}


def version_of(python):
    """(major, minor, patch), or None if it is no CPython that runs."""
    code = "import sys; print(*sys.version_info[:3], sys.implementation.name)"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    words = result.stdout.split()
    return tuple(map(int, words[:3])) if result.returncode == 0 and words[3:] == ["cpython"] else None


def pythons():
    """Minor version -> the newest such Python of pyenv, of the path, or this one."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(OLDEST, NEWEST + 1)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(map(str, root.glob("versions/3.*/bin/python3")))
    found = {}
    for python in filter(None, [*candidates, sys._base_executable]):
        version = version_of(python)
        if version and version >= (3, OLDEST) and version > found.get(version[1], ((0,), ""))[0]:
            found[version[1]] = (version, python)
    return found


def lacks_tests(python):
    """Why CPython's tests cannot be run there, or None. Debian has them in a package of their own."""
    code = "import test._test_multiprocessing, test.test_queue"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return None if result.returncode == 0 else "without CPython's tests (Debian: libpython3-testsuite)"


# ---- building --------------------------------------------------------------------------------------------------------


def sources():
    files = [ROOT / "pyproject.toml", ROOT / "setup.py", ROOT / "README.md", ROOT / "LICENSE"]
    return files + sorted(path for path in (ROOT / "shmring").rglob("*") if path.suffix in SUFFIXES)


def fingerprint():
    digest = hashlib.sha256()
    for path in sources():
        if path.suffix != ".c":
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run(words, **options):
    words = [str(word) for word in words]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {result.returncode}:\n{result.stdout[-4000:]}")


def copy_changes(tree):
    """Bring the tree up to date, so that only what changed is compiled: with -O1, as this is about meaning and not speed."""
    wanted = {path.relative_to(ROOT): path for path in sources()}
    for path in [path for path in tree.rglob("*") if path.suffix in SUFFIXES and path.relative_to(tree) not in wanted]:
        path.unlink()
    for name, path in wanted.items():
        target, content = tree / name, path.read_bytes()
        if name.name == "setup.py":
            content = content.replace(b'"-O3"', b'"-O1"')
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copystat(path, target)  # so that the C files pass for made from the others


def build(version, python, mark):
    """The interpreter of an environment that can import shmring from the folder that is returned with it."""
    folder = BUILD / ".".join(map(str, version))
    environment, tree, built = folder / "venv", folder / "tree", folder / "built"
    interpreter = environment / "bin" / "python"
    if built.exists() and built.read_text() == mark:
        return interpreter, tree
    if not interpreter.exists():
        run([python, "-m", "venv", environment])
        run([interpreter, "-m", "pip", "install", "--quiet", "setuptools>=77", "cython>=3.1", "numpy>=2", "posix-ipc>=1.1"])
    copy_changes(tree)
    run([interpreter, "setup.py", "-q", "build_ext", "--inplace"], cwd=tree)
    built.write_text(mark)
    return interpreter, tree


# ---- judging ---------------------------------------------------------------------------------------------------------


def judge(interpreter, tree, part):
    """The verdict as judge.py prints it; what ends without one has failed."""
    environment = os.environ | {"PYTHONPATH": str(tree), "SHMRING_JUDGE": part}
    process = subprocess.Popen(
        [interpreter, JUDGE, part], cwd=tree, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
        return json.loads(output.splitlines()[-1])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        errors = process.communicate()[1]
        return failed("all of it", f"hangs:\n{errors[-6000:]}")
    except (IndexError, ValueError):
        return failed("all of it", f"ended with {process.returncode}:\n{errors[-6000:]}")


def failed(what, why):
    return {"passed": [], "skipped": [], "failed": [(what, why)]}


def try_python(version, python, mark):
    """Part -> verdict, or why there is none."""
    reason = lacks_tests(python)
    if reason:
        return reason
    began = time.monotonic()
    try:
        interpreter, tree = build(version, python, mark)
    except RuntimeError as error:
        return {"build": failed("the build", str(error))}
    seconds = time.monotonic() - began
    with concurrent.futures.ThreadPoolExecutor(len(PARTS)) as pool:
        verdicts = dict(zip(PARTS, pool.map(lambda part: judge(interpreter, tree, part), PARTS), strict=True))
    name, took = ".".join(map(str, version)), time.monotonic() - began - seconds
    print(f"{name}: built in {seconds:.0f} s, judged in {took:.0f} s", flush=True)
    return verdicts


def report(results):
    """Print everything; the number of failures."""
    failures, skipped = [], {}
    print(f"\n{'Python':<10}{'tests':<12}{'passed':>8}{'skipped':>9}{'failed':>8}")
    for name, verdicts in results.items():
        if isinstance(verdicts, str):
            print(f"{name:<10}{verdicts}")
            continue
        for part, verdict in verdicts.items():
            numbers = [len(verdict[key]) for key in ("passed", "skipped", "failed")]
            print(f"{name:<10}{part:<12}{numbers[0]:>8}{numbers[1]:>9}{numbers[2]:>8}")
            failures += [(name, part, test, trace) for test, trace in verdict["failed"]]
            for test, reason in verdict["skipped"]:
                skipped.setdefault(reason, set()).add(test)
    for reason, tests in sorted(skipped.items()):
        print(f"\nskipped: {', '.join(sorted(tests))}\n    {reason}")
    for name, part, test, trace in failures:
        print(f"\nFAILED with Python {name}, {part}: {test}\n{trace}")
    return len(failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="minor versions such as 3.12; all by default")
    wanted = parser.parse_args().only
    found, mark = pythons(), fingerprint()
    results = {}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = {}
        for minor in range(OLDEST, max(NEWEST, *found, OLDEST) + 1):
            if wanted and f"3.{minor}" not in wanted:
                continue
            if minor in found:
                version, python = found[minor]
                jobs[".".join(map(str, version))] = pool.submit(try_python, version, python, mark)
            else:
                results[f"3.{minor}"] = "not installed"
        results |= {name: job.result() for name, job in jobs.items()}
    results = dict(sorted(results.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "results.json").write_text(json.dumps(results, indent=1))
    judged = [verdicts for verdicts in results.values() if not isinstance(verdicts, str)]
    if not judged:
        print("no Python here has CPython's tests")
    failures = report(results)
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
