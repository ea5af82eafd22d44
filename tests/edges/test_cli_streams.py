"""Commands whose standard streams are closed, full, or cannot show every character."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from shmring_command import command_line, environment, run_shmring

import shmring

SHELL = 'fds=$1; shift; eval "exec $fds"; exec "$@"'


def run_with(fds, *words, env=None):
    """Run a command with descriptors as the shell's `exec` makes them."""
    line = ["sh", "-c", SHELL, "sh", fds, *command_line(*words)]
    return subprocess.run(line, capture_output=True, env=env or environment(), check=False)


@pytest.fixture
def ring(ring_name):
    with shmring.create(ring_name, 4096) as made:
        yield made
    if os.path.exists(f"/dev/shm/{ring_name}"):
        shmring.unlink(ring_name)


@pytest.mark.parametrize("words", [["ls"], ["top", "-n1", "-i0.05"], ["tail", "--no-follow"]], ids=lambda words: words[0])
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_one_line_and_1(ring, ring_name, words, where):
    """It was a traceback, or the interpreter's own complaint and exit status 120."""
    with ring.producer() as tx:
        tx.send(b"a message")
    done = run_with(where, words[0], ring_name, *words[1:])
    reason = {">&-": "Bad file descriptor", ">/dev/full": "No space left on device"}[where]
    assert (done.returncode, done.stderr.decode()) == (1, f"shmring: {words[0]}: {reason}\n")


def test_help_for_a_full_disk_fails():
    assert run_with(">/dev/full", "--help").returncode == 1


def test_a_closed_output_or_input_of_a_transfer_is_reported_at_once(ring, ring_name):
    with ring.producer() as tx:
        tx.send(b"stays")
    done = run_with(">&-", "recv", ring_name)
    assert (done.returncode, done.stderr) == (1, b"shmring: recv: standard output: Bad file descriptor\n")
    assert ring.stats().groups[0].lag == 1
    done = run_with("<&-", "send", f"{ring_name}-none")
    assert (done.returncode, done.stderr) == (1, b"shmring: send: standard input: Bad file descriptor\n")
    assert not os.path.exists(f"/dev/shm/{ring_name}-none")


OPEN_AND_TELL = """
import os, sys
from shmring.cli import rm
rm.run = lambda args: 0 if {os.path.realpath(f"/proc/self/fd/{fd}") for fd in range(3)} >= {"/dev/null"} else 3
from shmring.cli import main
sys.exit(main(["rm", "nothing"]))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_no_ring_gets_the_descriptor_of_a_closed_stream(closed):
    """What a library writes to standard error would go into the ring."""
    line = ["sh", "-c", SHELL, "sh", closed, sys.executable, "-c", OPEN_AND_TELL]
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    assert subprocess.run(line, env=environment(), check=False, **given).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_another_encoding_shows_what_it_can(ring, ring_name, encoding):
    """It was an error of the codec, and no output."""
    env = {**environment(), "PYTHONIOENCODING": encoding}
    with ring.producer() as tx:
        tx.send("ä€😀".encode())
    done = run_shmring("top", ring_name, "--count", "1", "--interval", "0.05", env=env)
    assert (done.returncode, done.stderr) == (0, b"") and ("░" in done.stdout.decode(encoding)) == (encoding == "utf-8")
    done = run_shmring("tail", ring_name, "--no-follow", env=env)
    text = {"ascii": "\\xe4\\u20ac\\U0001f600", "latin-1": "ä\\u20ac\\U0001f600", "utf-8": "ä€😀"}[encoding]
    assert (done.returncode, done.stdout.decode(encoding)) == (0, text + "\n")
    done = run_shmring("tail", ring_name, "--no-follow", "--json", env=env)
    assert json.loads(done.stdout.decode(encoding))["text"] == "ä€😀"


def test_half_a_surrogate_pair_in_a_message_does_not_end_tail(ring, ring_name):
    with ring.producer() as tx:
        tx.send(b'"\\ud83d"')
        tx.send(b'"next"')
    done = run_shmring("tail", ring_name, "--no-follow", "--format", "json")
    assert (done.returncode, done.stdout) == (0, b'"\\ud83d"\n"next"\n')


def test_json_of_a_file_whose_name_is_no_utf_8_is_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.ring")
    shmring.create(path, 4096).close()
    (found,) = json.loads(run_shmring("ls", path, "--json").stdout.decode("utf-8", "strict"))
    assert found["name"] == path
    assert b"\xff.ring" in run_shmring("ls", path).stdout
