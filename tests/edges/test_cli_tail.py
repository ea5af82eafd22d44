"""`shmring tail` shows messages as they are, one on a line, and never more than it can know."""

from __future__ import annotations

import doctest
import json
import select
import signal

import pytest
from shmring_command import call_shmring

import shmring
from shmring.cli import decode, summary, tables, top_rates, top_screen


@pytest.fixture
def made(ring_name):
    """A function that makes the ring and fills it."""
    rings = []

    def make(*messages, **how):
        rings.append(shmring.create(ring_name, "64 KiB", **how))
        tx = rings[0].producer()
        for message in messages:
            tx.send(message)
        return rings[0]

    yield make
    for ring in rings:
        ring.close()
        shmring.unlink(ring_name)


def lines(name, *words):
    done = call_shmring("tail", name, "--no-follow", *words)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode().splitlines()


def test_text_is_one_line_each_and_cannot_play_tricks_on_a_terminal(made, ring_name):
    made(b"plain\n", b"two\nlines\r\n", "\x1b[31mröd\x07\x9b".encode(), b"tab\there", b"")
    assert lines(ring_name, "--format", "text") == ["plain", "two\\nlines", "\\x1b[31mröd\\x07\\x9b", "tab\there", ""]
    assert lines(ring_name)[:2] == ["plain", "two\\nlines"]
    assert "\x1b" not in "".join(lines(ring_name))


def test_bytes_that_are_no_text_are_shown_in_hex(made, ring_name):
    made(bytes([0, 255]), b"text", "é".encode("latin-1"))
    assert lines(ring_name) == ["00ff", "text", "e9"]
    assert lines(ring_name, "--format", "hex") == ["00ff", "74657874", "e9"]
    assert lines(ring_name, "--format", "text") == ["\\x00\ufffd", "text", "\ufffd"]


def test_json_lines_say_what_came_and_what_is_wrong(made, ring_name):
    made(b'{"a": [1, null]}', b"{broken", b"\xff")
    found = [json.loads(line) for line in lines(ring_name, "--json", "--format", "json")]
    assert [each["n"] for each in found] == [1, 2, 3]
    assert (found[0]["value"], found[0]["nbytes"], found[0]["lost"]) == ({"a": [1, None]}, 16, 0)
    assert found[1]["hex"] == b"{broken".hex() and found[1]["error"]
    assert found[2]["hex"] == "ff"
    assert json.loads(lines(ring_name, "--json")[1])["text"] == "{broken"


def test_msgpack(made, ring_name):
    msgspec = pytest.importorskip("msgspec", reason="msgspec is in the extra shmring[cli]")
    made(msgspec.msgpack.encode({"user": "ann", "blob": b"\x01\x02"}), b"\xc1")
    good, bad = lines(ring_name, "--format", "msgpack")
    assert json.loads(good) == {"user": "ann", "blob": "0102"}
    assert bad.startswith("c1  (")


@pytest.mark.parametrize("said_by", ["option", "ring"])
def test_records_of_a_numpy_dtype(made, ring_name, said_by):
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    dtype = [("t", "<f8"), ("x", "<i2", 2), ("id", "S3")]
    one = numpy.array([(1.5, (3, -4), b"abc")], dtype)
    made(one.tobytes(), numpy.repeat(one, 2).tobytes(), b"odd", content=f"array {dtype!r}" if said_by == "ring" else "")
    words = [] if said_by == "ring" else ["--dtype", repr(dtype)]
    single, double, odd = lines(ring_name, *words)
    assert json.loads(single) == {"t": 1.5, "x": [3, -4], "id": "abc"}
    assert json.loads(double) == [json.loads(single)] * 2
    assert odd.startswith(b"odd".hex()) and "15 bytes" in odd


def test_plain_numbers_of_a_dtype(made, ring_name):
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    made(numpy.arange(3, dtype="<u4").tobytes())
    assert lines(ring_name, "--dtype", "<u4") == ["[0, 1, 2]"]
    assert call_shmring("tail", ring_name, "--dtype", "O").returncode == 1
    assert call_shmring("tail", ring_name, "--dtype", "no dtype").returncode == 1
    assert b"give --dtype" in call_shmring("tail", ring_name, "--format", "dtype").stderr


def test_raw_gives_the_bytes_alone(made, ring_name):
    made(b"\x00\n", b"\xff")
    done = call_shmring("tail", ring_name, "--no-follow", "--format", "raw")
    assert done.stdout == b"\x00\n\xff"
    assert call_shmring("tail", ring_name, "--format", "raw", "--json").returncode == 1


@pytest.mark.parametrize("content", ["", "codec pickle"])
def test_a_pickle_is_not_loaded_unless_asked_for(made, ring_name, tmp_path, content):
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self):
            return trap.touch, ()

    ring = made(content=content)
    with ring.producer() as tx:
        tx.send_obj(Trap())
        tx.send_obj({"a": (1, None)})
    lines(ring_name)
    lines(ring_name, "--json")
    assert not trap.exists()
    assert lines(ring_name, "--format", "codec")[1] == '{"a": [1, null]}'
    assert trap.exists()


def test_a_harmless_codec_is_used_if_the_ring_names_it(made, ring_name):
    pytest.importorskip("msgspec", reason="msgspec is in the extra shmring[cli]")
    ring = made(content="codec msgspec")
    with ring.producer() as tx:
        tx.send_obj({"a": [1, 2.5, "x"]})
    assert [json.loads(line) for line in lines(ring_name)] == [{"a": [1, 2.5, "x"]}]


def test_long_lines_and_limits(made, ring_name):
    made(b"x" * 100)
    assert lines(ring_name, "--limit", "10") == ["x" * 10 + "..."]
    (line,) = lines(ring_name, "--long")
    assert line.endswith("#1 100 B  " + "x" * 100)


def test_it_follows_from_where_the_ring_is_until_the_shutdown(made, ring_name, start):
    ring = made(b"before")
    tailing = start("tail", ring_name)
    with ring.producer() as tx:
        ready = select.poll()
        ready.register(tailing.stdout, select.POLLIN)
        while not ready.poll(10):  # until it has begun to look
            tx.send(b"after")
    ring.shutdown()
    assert tailing.wait() == 0
    assert set(tailing.stdout.read().splitlines()) == {b"after"}


def test_count_ends_it_and_ctrl_c_too(made, ring_name, start):
    made(b"one", b"two", b"three")
    done = call_shmring("tail", ring_name, "--start", "earliest", "--count", "2")
    assert done.stdout == b"one\ntwo\n"
    tailing = start("tail", ring_name, "--start", "earliest")
    assert tailing.stdout.readline() == b"one\n"
    tailing.send_signal(signal.SIGINT)
    assert (tailing.wait(), tailing.stderr.read()) == (0, b"")


def test_what_was_missed_is_counted(made, ring_name, start):
    ring = made()
    ring.remove_group("default")
    tailing = start("tail", ring_name, "--json", "--start", "earliest")
    with ring.producer() as tx:
        tx.send(b"0")
        first = json.loads(tailing.stdout.readline())
        tailing.send_signal(signal.SIGSTOP)
        for number in range(1, 10_001):
            tx.send(b"%d" % number)
        tailing.send_signal(signal.SIGCONT)
        ring.shutdown()
    rest = [json.loads(line) for line in tailing.stdout.read().splitlines()]
    assert tailing.wait() == 0
    assert first["text"] == "0" and rest[-1]["text"] == "10000"
    assert rest[-1]["n"] + rest[-1]["lost"] == 10_001 and rest[-1]["lost"] > 0
    assert f"missed {rest[-1]['lost']:,} messages".encode() in tailing.stderr.read()


def test_it_ends_when_the_ring_has_lost_its_name_and_its_senders(ring_name, start):
    with shmring.create(ring_name, 4096) as ring:
        tx = ring.producer()
        tx.send(b"x")
        tailing = start("tail", ring_name, "--start", "earliest")
        assert tailing.stdout.readline() == b"x\n"
        shmring.unlink(ring_name)
        tx.close()
        assert tailing.wait() == 0


@pytest.mark.parametrize("module", [decode, summary, tables, top_rates, top_screen], ids=lambda module: module.__name__)
def test_documented_examples_hold(module):
    assert doctest.testmod(module).failed == 0
