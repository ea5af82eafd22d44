"""Codecs alone: what goes in comes out, and bytes that are no message are a CodecError, whatever they are."""

from __future__ import annotations

import array
import ctypes
import datetime
import pickle
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmring import CodecError, UnknownCodec, codecs
from shmring.codecs.msgpack import MsgspecCodec
from shmring.codecs.raw import RawCodec

RECORD = np.dtype([("t", "<f8"), ("p", "<f4", (3,)), ("n", [("x", ">i2"), ("s", "S5")])], align=True)
CUBE = np.arange(24, dtype="i4").reshape(2, 3, 4)
ARRAYS = {
    "float64": np.arange(10.0),
    "three dimensions": CUBE,
    "Fortran order": CUBE.T,
    "other strides": CUBE.swapaxes(0, 1),
    "every second, backwards": np.arange(10)[::-2],
    "no elements": np.zeros((0, 5), "f4"),
    "no dimensions": np.array(3.5),
    "text": np.array(["a", "bcd"]),
    "times": np.array(["2020-01-01T12", "NaT"], "M8[ns]"),
    "spans": np.array([1, 2], "m8[us]"),
    "records": np.array([(1.5, (1, 2, 3), (4, b"five"))] * 3, RECORD),
    "records with gaps": np.zeros(3, {"names": ["a"], "formats": ["<i2"], "offsets": [6], "itemsize": 12}),
    "big-endian": np.arange(3, dtype=">i4"),
    "booleans": np.array([[True, False]]),
    "half": np.arange(3, dtype="f2"),
    "complex": np.array([1 + 2j]),
    "opaque": np.zeros(2, "V7"),
    "read-only": np.frombuffer(b"abcd", "u2"),
}


def message_of(packed) -> bytes:
    """What a ring would hold: every byte of the room was something else before."""
    if isinstance(packed, bytes):
        return packed
    room = bytearray(b"\xa5" * (packed.nbytes + 8))
    packed.write_into(memoryview(room)[: packed.nbytes])
    assert room[packed.nbytes :] == b"\xa5" * 8
    return bytes(room[: packed.nbytes])


def through(name, obj, borrow=False):
    codec = codecs.get(name)
    return codec.unpack(memoryview(bytearray(message_of(codec.pack(obj)))), borrow=borrow)


# ---- the register ------------------------------------------------------------------------------------------


class Reversed:
    name = "reversed"

    def pack(self, obj):
        return obj[::-1]

    def unpack(self, data, *, borrow=False):
        return bytes(data)[::-1]


def test_a_codec_of_ones_own_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr(codecs, "_known", dict(codecs._known))
    mine = codecs.register(Reversed())
    assert codecs.get("reversed") is mine and codecs.register(mine) is mine
    with pytest.raises(ValueError, match="already"):
        codecs.register(Reversed())
    other = codecs.register(Reversed(), replace=True)
    assert codecs.get("reversed") is other


def test_a_codec_that_nobody_registered_is_named(monkeypatch):
    with pytest.raises(UnknownCodec, match=r"'nobodys'.*import the module.*msgspec.*pickle"):
        codecs.get("nobodys")
    with pytest.raises(LookupError):
        codecs.get("../pickle")


@pytest.mark.parametrize("name", ["raw", "pickle", "ndarray", "msgspec"])
def test_built_in_codecs_have_their_names_and_stay_what_they_are(name):
    assert codecs.get(name).name == name and codecs.get(name) is codecs.get(name)
    assert codecs.get(name).runs_code is (name == "pickle")
    with pytest.raises(ValueError, match="already"):
        codecs.register(type("Mine", (RawCodec,), {"name": name})(), replace=True)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        *(({"name": name}, ValueError) for name in ("", "a b", "x" * 65, 5, "naïve")),
        ({"unpack": None}, TypeError),
        ({"pack": 1}, TypeError),
    ],
)
def test_what_is_no_codec_is_refused(fields, error):
    with pytest.raises(error):
        codecs.register(type("Odd", (Reversed,), fields)())


def test_what_is_not_even_like_a_codec_is_a_type_error():
    """It used to be an AttributeError of the code that met it first."""
    with pytest.raises(TypeError, match="5 has no name"):
        codecs.check(5)


# ---- raw ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obj", [b"", b"abc", bytearray(b"abc"), memoryview(b"abcdef")[2:4], array.array("i", [1, 2]), CUBE])
def test_raw_is_the_bytes_themselves(obj):
    assert through("raw", obj) == through("raw", obj, borrow=True) == bytes(obj)


def test_raw_takes_no_gaps_and_no_text():
    with pytest.raises(BufferError):
        through("raw", CUBE[:, ::2])
    with pytest.raises(TypeError):
        through("raw", "text")


# ---- pickle ------------------------------------------------------------------------------------------------

PLAIN = [None, {"id": 1, "tags": ["a", (2.5,)]}, "text" * 5000, {1, 2}, datetime.date(2026, 1, 1), b"x" * 100_000]


@pytest.mark.parametrize("obj", PLAIN, ids=lambda obj: type(obj).__name__)
def test_pickle_without_buffers_is_a_plain_pickle(obj):
    packed = codecs.get("pickle").pack(obj)
    assert type(packed) is bytes and pickle.loads(packed) == obj and packed[1] == 5
    assert through("pickle", obj) == through("pickle", obj, borrow=True) == obj


@pytest.mark.parametrize("borrow", [False, True])
@pytest.mark.parametrize("length", [1, 1000, 100_000])
def test_pickled_arrays_lie_aligned_and_are_lent_or_owned(length, borrow):
    sent = {"a": np.arange(float(length)), "b": np.asfortranarray(CUBE), "none": np.zeros(0)}
    sent["raw"] = pickle.PickleBuffer(b"xyz")
    codec = codecs.get("pickle")
    message = np.frombuffer(bytearray(64 + codec_bytes(codec, sent)), "u1")
    message = message[-message.ctypes.data % 64 :][: codec_bytes(codec, sent)]
    message[:] = np.frombuffer(message_of(codec.pack(sent)), "u1")
    got = codec.unpack(memoryview(message), borrow=borrow)
    for key in "a", "b", "none":
        assert np.array_equal(got[key], sent[key]) and got[key].dtype == sent[key].dtype
        assert got[key].flags.writeable is not borrow
    assert got["a"].ctypes.data % (64 if borrow else 16) == 0
    assert got["b"].flags.f_contiguous and bytes(got["raw"]) == b"xyz"
    assert np.shares_memory(got["a"], message) is borrow


def codec_bytes(codec, obj):
    return len(message_of(codec.pack(obj)))


def test_pickling_that_fails_says_why_as_pickle_does():
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        codecs.get("pickle").pack(lambda: None)


def test_pickling_inside_of_pickling_keeps_the_buffers_apart():
    array = np.arange(100)

    class Nested:
        def __reduce__(self):
            assert len(message_of(codecs.get("pickle").pack(array))) > 800
            return dict, ()

    assert through("pickle", [array, Nested(), array])[1] == {}


def test_what_the_object_raises_in_unpickling_is_the_cause():
    with pytest.raises(CodecError, match="ZeroDivisionError") as caught:
        through("pickle", Explosive())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class Explosive:
    def __reduce__(self):
        return divmod, (1, 0)


# ---- ndarray -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("borrow", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_arrive_as_they_were(name, borrow):
    sent = ARRAYS[name]
    got = through("ndarray", sent, borrow)
    assert type(got) is np.ndarray and got.dtype == sent.dtype and got.shape == sent.shape
    assert got.tobytes() == sent.tobytes()
    assert got.flags.writeable is not borrow and got.dtype.isalignedstruct == sent.dtype.isalignedstruct
    if sent.flags.forc:
        assert got.flags.f_contiguous == sent.flags.f_contiguous and got.flags.c_contiguous == sent.flags.c_contiguous


def test_types_that_compare_equal_keep_their_own_names():
    first, second = (np.zeros(2, np.dtype({"names": ["a"], "formats": ["<i4"]}, align=align)) for align in (False, True))
    for sent in (first, second, first):
        assert through("ndarray", sent).dtype.isalignedstruct == sent.dtype.isalignedstruct


class Sub(np.ndarray):
    pass


class Lender:
    """As other libraries' arrays: it speaks DLPack, and nothing else."""

    def __init__(self, inner):
        self.__dlpack__, self.__dlpack_device__ = inner.__dlpack__, inner.__dlpack_device__


@pytest.mark.parametrize(
    "obj",
    [
        *(array.array("i", [1, 2, 3]), bytearray(b"\1\2\3"), b"\1\2\3", memoryview(b"\1\2\3"), (ctypes.c_int * 3)(1, 2, 3)),
        *([1, 2, 3], np.array([1, 2, 3]).view(Sub), Lender(np.array([1, 2, 3]))),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_whatever_lends_memory_is_an_array(obj):
    got = through("ndarray", obj)
    assert type(got) is np.ndarray and got.reshape(-1).tolist() == [1, 2, 3]


def test_arrays_that_were_received_speak_dlpack():
    for borrow in False, True:
        assert np.from_dlpack(through("ndarray", CUBE, borrow)).tolist() == CUBE.tolist()


@pytest.mark.parametrize(
    "obj",
    [np.array([None]), np.array([{}]), np.zeros(2, [("a", "O")]), np.zeros(1, [("a", [("b", "O", 2)])]), {"a": 1}, {1, 2}]
    + ([np.array(["x"], np.dtypes.StringDType())] if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType") else []),
    ids=str,
)
def test_arrays_of_pointers_are_refused(obj):
    with pytest.raises(TypeError, match="pointers"):
        through("ndarray", obj)


def test_a_masked_array_is_not_sent_without_its_mask():
    with pytest.raises(TypeError, match="mask"):
        through("ndarray", np.ma.array([1], mask=[True]))


def test_an_object_array_in_a_header_is_refused():
    message = bytearray(message_of(codecs.get("ndarray").pack(np.zeros(1))))
    at = message.index(b"<f8")
    for text in b"|O8", b"<O8", b"O,i":
        message[at : at + 3] = text
        with pytest.raises(CodecError, match="type"):
            codecs.get("ndarray").unpack(bytes(message))


# ---- msgspec -----------------------------------------------------------------------------------------------


class Quote(msgspec.Struct):
    symbol: str
    price: float


def test_msgspec_carries_plain_data():
    obj = {"a": [1, 2.5, None, True, b"x"], "when": {"n": -(2**40)}}
    assert through("msgspec", obj) == obj
    with pytest.raises(TypeError):
        codecs.get("msgspec").pack(object())


def test_msgspec_reads_what_nobody_can_change_meanwhile(monkeypatch):
    """It checks text before it copies it; the writer of a ring may still change the message then."""
    seen = []
    monkeypatch.setattr(codecs.get("msgspec"), "_decode", lambda data: seen.append(type(data)))
    through("msgspec", "text")
    assert seen == [bytes]


def test_msgspec_checks_types():
    quotes = MsgspecCodec("quotes", Quote)
    assert quotes.unpack(quotes.pack(Quote("ABC", 1.5))) == Quote("ABC", 1.5)
    with pytest.raises(CodecError, match=r"quotes.*price"):
        quotes.unpack(codecs.get("msgspec").pack({"symbol": "ABC", "price": "cheap"}))


# ---- bytes that are no message -----------------------------------------------------------------------------

# Sound messages of each kind, to be damaged. The pickles are of arrays, whose reconstruction is NumPy's own.
SOUND = {
    "pickle": [message_of(codecs.get("pickle").pack(obj)) for obj in (b"", [np.arange(100.0), np.zeros((3, 4), "i2")])],
    "ndarray": [message_of(codecs.get("ndarray").pack(ARRAYS[name])) for name in ARRAYS],
    "msgspec": [message_of(codecs.get("msgspec").pack(obj)) for obj in ({"a": [1, 2.5, "b"]}, list(range(100)))],
}


def is_refused_or_read(name, data, borrow=False):
    try:
        got = codecs.get(name).unpack(data, borrow=borrow)
    except CodecError:
        return
    if isinstance(got, np.ndarray):
        assert got.nbytes <= len(data) or got.nbytes == 0
        got.tobytes()


@pytest.mark.parametrize("name", ["ndarray", "msgspec"])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name, data):
    is_refused_or_read(name, data)


@pytest.mark.parametrize("name", ["ndarray", "msgspec"])
@given(data=st.data())
def test_damaged_messages_are_read_or_refused(name, data):
    message = bytearray(data.draw(st.sampled_from(SOUND[name])))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(message) - 1), st.integers(0, 255)), max_size=4)):
        message[at] = value
    end = data.draw(st.integers(0, len(message)))
    is_refused_or_read(name, bytes(message[:end]))
    is_refused_or_read(name, memoryview(message), borrow=True)


@given(data=st.data())
def test_damaged_heads_of_pickles_are_refused(data):
    """Only what is outside of the pickle: that runs what it says. (A pickle that is said to be longer, up to where its buffers
    begin, is read all the same.)
    """
    message = bytearray(SOUND["pickle"][1])
    begin, end = 1, message.index(b"\x80\x05")  # the first byte says what kind it is
    at = data.draw(st.integers(begin, end - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != message[at]))
    message[at] = value
    for borrow in False, True:
        try:
            got = codecs.get("pickle").unpack(memoryview(message), borrow=borrow)
        except CodecError:
            continue
        assert at in range(8, 16) and np.array_equal(got[0], np.arange(100.0)) and got[1].shape == (3, 4)


@pytest.mark.parametrize("name", SOUND)
def test_every_message_that_is_cut_or_too_long_is_refused(name):
    for message in SOUND[name]:
        for size in range(min(len(message), 400)):
            with pytest.raises(CodecError):
                codecs.get(name).unpack(message[:size])
        if name == "ndarray" or message.startswith(b"\x01pk5"):
            with pytest.raises(CodecError):
                codecs.get(name).unpack(message + b"\0")


@pytest.mark.parametrize(
    "description",
    [
        "[" * 60000,
        '{"names":' + "[" * 60000,
        '{"names":["a"],"formats":["<f8"],"offsets":[-8],"itemsize":8,"aligned":false}',
        '{"names":["a"],"formats":["<f8"],"offsets":[4],"itemsize":8,"aligned":false}',
        '{"names":["a"],"formats":[["<f8",[99999999999]]],"offsets":[0],"itemsize":8,"aligned":false}',
        '{"names":["a","a"],"formats":["<f8","<f8"],"offsets":[0,8],"itemsize":16,"aligned":false}',
        '{"names":["a"],"formats":["<f8"]}',
        *("{}", "{", "f8,O", "<f8" * 5, "f8", "i4,f4", "(2,)f4", "object", "<M8[year]", "\ud800"),
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
def test_descriptions_of_types_that_are_none_are_refused(description):
    text = description.encode("utf-8", "surrogatepass")
    header = b"nda\x01C\x01" + len(text).to_bytes(2, "little") + (1).to_bytes(8, "little") + text
    message = header + bytes(-len(header) % 64 + 8)
    with pytest.raises(CodecError):
        codecs.get("ndarray").unpack(message)


def test_sizes_that_overflow_are_refused():
    for shape in (2**61, 16), (2**63,), (2**32, 2**32), (0, 2**64 - 1):
        header = b"nda\x01C" + bytes([len(shape)]) + b"\3\0" + b"".join(n.to_bytes(8, "little") for n in shape) + b"<f8"
        with pytest.raises(CodecError):
            codecs.get("ndarray").unpack(header + bytes(-len(header) % 64))


def test_what_is_kept_of_headers_has_a_limit():
    codec = codecs.get("ndarray")
    for length in range(1000):
        through("ndarray", np.zeros(length, "u1"))
    assert max(len(codec._headers), len(codec._layouts)) <= 256


def test_codecs_are_loaded_when_they_are_asked_for():
    import subprocess

    code = "import sys, shmring.codecs; print({'pickle', 'numpy', 'msgspec'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
