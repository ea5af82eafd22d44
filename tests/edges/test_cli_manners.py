"""The command line behaves like a Unix tool: help, messages, exit statuses, progress on a terminal only."""

from __future__ import annotations

import doctest
import os
import subprocess
from pathlib import Path

import pytest
from shmring_command import environment, run_shmring

import shmring
from shmring.cli import failure, progress, units


def test_no_arguments_print_the_help():
    done = run_shmring()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: shmring ")


def test_version_is_that_of_the_package():
    assert run_shmring("--version").stdout.decode() == f"shmring {shmring.__version__}\n"


@pytest.mark.parametrize("words", [[], ["send"], ["recv"], ["demo"], ["bench"]], ids=lambda words: " ".join(words) or "shmring")
def test_help_fits_80_columns(words):
    text = run_shmring(*words, "--help").stdout.decode()
    assert "exit status:" in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "words",
    [
        ["send"],
        ["nonsense"],
        ["top", "--interval", "0"],
        ["tail", "name", "--count", "0"],
        ["metrics", "--serve", "70000"],
        ["replay", "file", "name", "--speed", "0"],
        ["send", "name", "file", "another"],
        ["send", "name", "--chunk", "many"],
        ["send", "name", "--chunk", "0"],
        ["send", "name", "--chunk", "1", "--lines"],
        ["send", "name", "--wait", "long"],
        ["recv", "name", "--timeout", "-1"],
        ["recv", "name", "--timeout", "nan"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(words):
    done = run_shmring(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage: " in done.stderr and b"Traceback" not in done.stderr


def test_a_missing_ring_is_reported_when_the_time_is_up(ring_name):
    done = run_shmring("recv", ring_name, "--timeout", "0")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"shmring: recv: there is no ring {ring_name!r}\n"


@pytest.mark.parametrize(
    "source, reason",
    [("missing", "No such file or directory"), (".", "Is a directory")],
    ids=["missing", "directory"],
)
def test_an_unreadable_input_is_reported_and_makes_no_ring(ring_name, tmp_path, source, reason):
    path = tmp_path / source
    done = run_shmring("send", ring_name, path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"shmring: send: {path}: {reason}\n"


def test_an_output_that_cannot_be_written_is_reported_at_once(ring_name, tmp_path):
    path = tmp_path / "missing" / "target"
    done = run_shmring("recv", ring_name, "--output", path)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"shmring: recv: {path}: No such file or directory\n",
    )


@pytest.mark.parametrize(
    "mode, given",
    [(["--chunk", "1 MiB"], b"x"), (["--lines"], b"x" * 100_000)],
    ids=["chunk", "line"],
)
def test_a_message_that_can_never_fit_is_an_error_with_the_limit(ring_name, mode, given):
    done = run_shmring("send", ring_name, "--capacity", "4 KiB", *mode, given=given)
    assert done.returncode == 1
    ring = shmring.open(ring_name, timeout=0)
    assert str(ring.max_message).encode() in done.stderr
    ring.close()
    shmring.unlink(ring_name)


def test_help_into_a_closed_pipe_is_quiet(start):
    reading, writing = os.pipe()
    os.close(reading)
    process = start("send", "--help", stdout=writing)
    os.close(writing)
    assert (process.communicate()[1], process.returncode) == (b"", 141)


# ---- the progress line ----


def run_on_terminal(start, *words: object, **how: object) -> tuple[int, str]:
    """Run a command whose standard error is a terminal; its status and what it showed."""
    terminal, end = os.openpty()
    process = start(*words, stdout=subprocess.DEVNULL, stderr=end, **how)
    os.close(end)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # EIO: the last process that had the terminal open has closed it
            break
    os.close(terminal)
    return process.wait(), shown.decode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"line\n" * 40_000)
    return path


def test_a_terminal_shows_the_progress_of_both_sides(ring_name, start, source):
    pytest.importorskip("rich")
    status, shown = run_on_terminal(start, "send", ring_name, source)
    assert status == 0 and "200 kB" in shown and "100%" in shown
    status, shown = run_on_terminal(start, "recv", ring_name)
    assert status == 0 and "200 kB" in shown and "/s" in shown


def test_no_progress_is_quiet_on_a_terminal(ring_name, start, source):
    assert run_on_terminal(start, "send", ring_name, source, "--no-progress") == (0, "")
    assert run_on_terminal(start, "recv", ring_name, "--no-progress") == (0, "")


def test_progress_can_be_asked_for_without_a_terminal(ring_name, source):
    pytest.importorskip("rich")
    sent = run_shmring("send", ring_name, source, "--progress")
    assert sent.returncode == 0 and b"200 kB" in sent.stderr
    received = run_shmring("recv", ring_name, "--progress")
    assert received.stdout == source.read_bytes() and b"200 kB" in received.stderr


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """An environment without the packages of shmring[cli]."""
    for name in ("rich", "hdrh", "mcap", "msgspec", "prometheus_client", "argcomplete"):
        package = tmp_path / "bare" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise ModuleNotFoundError('hidden by a test', name={name!r})")
    return environment(tmp_path / "bare")


def test_without_rich_the_transfer_works_and_progress_says_what_is_missing(ring_name, start, source, bare_environment):
    assert run_on_terminal(start, "send", ring_name, source, env=bare_environment) == (0, "")
    received = run_shmring("recv", ring_name, "--progress", env=bare_environment)
    assert (received.returncode, received.stdout) == (0, source.read_bytes())
    assert b"pip install 'shmring[cli]'" in received.stderr


def test_the_demo_without_its_packages_says_what_to_install(bare_environment):
    done = run_shmring("demo", env=bare_environment)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"pip install 'shmring[cli]'" in done.stderr and b"Traceback" not in done.stderr


def test_the_benchmarks_without_their_packages_say_what_to_install(bare_environment):
    done = run_shmring("bench", "--list", env=bare_environment)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"pip install 'shmring[bench]'" in done.stderr and b"Traceback" not in done.stderr


def test_the_benchmarks_name_what_they_do_not_know():
    pytest.importorskip("plotly", reason="the benchmarks need plotly: pip install shmring[bench]")
    done = run_shmring("bench", "--shapes", "circle")
    assert done.returncode == 2 and b"no shape 'circle'; there are pingpong-spin" in done.stderr


def test_rings_are_looked_at_and_removed_without_the_extra(ring_name, bare_environment):
    shmring.create(ring_name, 4096).close()
    for words in (["ls"], ["stat"], ["stat", "--json"], ["doctor"], ["tail", "--no-follow"], ["top", "--count", "1"]):
        done = run_shmring(words[0], ring_name, *words[1:], env=bare_environment)
        assert (done.returncode, done.stderr) == (0, b""), words
    assert run_shmring("rm", ring_name, env=bare_environment).returncode == 0


@pytest.mark.parametrize("words", [["record", "x"], ["replay"], ["metrics"], ["tail", "--format", "msgpack"]], ids=" ".join)
def test_what_needs_the_extra_says_so(ring_name, bare_environment, words):
    shmring.create(ring_name, 4096).close()
    done = run_shmring(words[0], ring_name, *words[1:], *(["x"] if words == ["replay"] else []), env=bare_environment)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"pip install 'shmring[cli]'" in done.stderr and b"Traceback" not in done.stderr
    shmring.unlink(ring_name)


@pytest.mark.parametrize("module", [failure, progress, units], ids=lambda module: module.__name__)
def test_documented_examples_of_the_command_line_hold(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_600, "1.00 MB"),
    ],
)
def test_a_size_has_three_digits_at_every_border(number, text):
    assert units.format_bytes(number) == text
