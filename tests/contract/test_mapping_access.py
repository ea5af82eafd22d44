"""Reading, writing, views and closing behave alike whatever a mapping stands on."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from mapping_backings import BACKINGS, PAGE

from shmring import Mapping


@pytest.fixture(params=BACKINGS, ids=lambda backing: backing.kind)
def make(request, tmp_path):
    yield lambda size=3 * PAGE, **how: request.param.make(tmp_path, size, **how)
    request.param.forget(tmp_path)


def again(mapping: Mapping, **how) -> Mapping:
    return Mapping.from_fd(mapping.fileno(), mapping.size, offset=mapping.offset, **how)


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5])
def test_sizes_are_reported_and_everything_is_zero(make, size):
    with make(size) as mapping:
        assert len(mapping) == mapping.size == size
        assert mapping.mapped % PAGE == 0 and 0 <= mapping.wasted < PAGE
        assert mapping.mapped == size + mapping.wasted
        assert mapping.zero_tail == mapping.wasted and mapping.past_end == 0
        assert mapping[:] == bytes(size)
        assert not mapping.truncated and not mapping.closed and not mapping.readonly


def test_slices_and_indices_agree_with_a_bytearray(make):
    choose = random.Random(7)
    with make(1000) as mapping:
        model = bytearray(1000)
        for _ in range(300):
            key = slice(
                *(choose.choice([None, choose.randint(-1100, 1100)]) for _ in range(2)),
                choose.choice([None, 1, 2, 7, -1, -3]),
            )
            new = choose.randbytes(len(model[key]))
            if len(range(*key.indices(1000))):
                mapping[key] = new
                model[key] = new
            assert mapping[key] == bytes(model[key])
            index = choose.randrange(-1000, 1000)
            mapping[index] = model[index] = choose.randrange(256)
            assert mapping[index] == model[index]
        assert mapping.read() == bytes(model)


def test_a_range_outside_is_refused_and_changes_nothing(make):
    with make(100) as mapping:
        for wrong in (100, -101, 1 << 40):
            with pytest.raises(IndexError):
                mapping[wrong]
            with pytest.raises(IndexError):
                mapping[wrong] = 1
        for offset, size in ((-1, 1), (0, 101), (100, 1), (101, 0), (0, -1)):
            with pytest.raises(ValueError):
                mapping.read(offset, size)
            with pytest.raises(ValueError):
                mapping.flush(offset, size)
        with pytest.raises(ValueError):
            mapping.write(b"ab", 99)
        with pytest.raises(ValueError):
            mapping[0:2] = b"abc"
        with pytest.raises(ValueError):
            mapping[0] = 256
        with pytest.raises(TypeError):
            del mapping[0]
        assert mapping.read(100, 0) == b"" and mapping[:] == bytes(100)


def test_numpy_and_memoryview_share_the_bytes(make):
    with make() as mapping:
        array = np.frombuffer(mapping, np.uint32)
        array[5] = 0x01020304
        with mapping.view as view:
            assert view[20:24] == b"\x04\x03\x02\x01" and not view.readonly
            view[24] = 9
        assert array[6] == 9 and mapping.exports == 1
        del array
        assert mapping.exports == 0


def test_read_only_refuses_every_way_to_write(make):
    with make() as mapping:
        mapping[0:3] = b"abc"
        with again(mapping, access="read") as reader:
            assert reader.readonly and reader[:3] == b"abc"
            with pytest.raises(TypeError):
                reader[0] = 1
            with pytest.raises(TypeError):
                reader[0:1] = b"x"
            with pytest.raises(TypeError):
                reader.write(b"x")
            with reader.view as view, pytest.raises(TypeError):
                view[0] = 1
            array = np.frombuffer(reader, np.uint8)
            assert not array.flags.writeable
            with pytest.raises(ValueError):
                array.setflags(write=True)
            del array
            mapping[0] = ord("z")
            assert reader[:3] == b"zbc"


def test_a_private_copy_keeps_its_changes_to_itself(make):
    with make() as mapping, again(mapping, access="copy") as copy:
        mapping[0:4] = b"base"
        copy[0] = ord("X")
        assert copy[0:4] == b"Xase" and mapping[0:4] == b"base"
        assert os.pread(mapping.fileno(), 4, 0) == b"base"


def test_close_waits_for_no_view_but_refuses_while_one_lives(make):
    mapping = make()
    first, second = mapping.view, np.frombuffer(mapping, np.uint8)
    with pytest.raises(BufferError, match="2 views"):
        mapping.close()
    first.release()
    with pytest.raises(BufferError, match="1 views"), mapping:
        pass
    assert second[0] == 0 and not mapping.closed
    del second
    mapping.close()
    mapping.close()
    assert mapping.closed


def test_a_slice_of_a_view_keeps_the_memory_after_the_mapping_is_forgotten(make):
    mapping = make()
    mapping[10] = 42
    part = mapping.view[10:11]
    del mapping
    assert part[0] == 42


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m[0],
        lambda m: m[0:1],
        lambda m: m.__setitem__(0, 1),
        lambda m: m.__setitem__(slice(0, 1), b"a"),
        lambda m: m.view,
        lambda m: m.read(),
        lambda m: m.write(b"a"),
        lambda m: m.flush(),
        lambda m: m.advise("normal"),
        lambda m: m.resize(1 << 20),
        lambda m: m.fileno(),
        lambda m: m.__enter__(),
        lambda m: m.zero_tail,
        lambda m: m.past_end,
        lambda m: m.__reduce__(),
        lambda m: np.frombuffer(m, np.uint8),
    ],
)
def test_use_after_close_is_a_value_error(make, use):
    mapping = make()
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        use(mapping)
    assert "closed" in repr(mapping) and mapping.truncated is False


def test_an_index_that_closes_the_mapping_is_no_crash(make):
    class Closing:
        def __index__(self):
            mapping.close()
            return 0

    for use in (
        lambda m: m[Closing()],
        lambda m: m.__setitem__(0, Closing()),
        lambda m: m.__setitem__(Closing(), 0),
        lambda m: m.read(Closing()),
        lambda m: m.read(0, Closing()),
        lambda m: m[2 : Closing()],
        lambda m: m[Closing() : 5],
        lambda m: m[:: Closing()],
        lambda m: m.__setitem__(slice(Closing(), 2), b"ab"),
        lambda m: m.resize(Closing()),
    ):
        mapping = make()
        with pytest.raises(ValueError):
            use(mapping)


def test_an_instance_made_around_the_constructors_is_only_closed():
    with pytest.raises(TypeError, match=r"Mapping\.file"):
        Mapping()
    with pytest.raises(ValueError, match="closed"):
        Mapping.__new__(Mapping)[0]


@pytest.mark.parametrize("offset", [0, 2 * PAGE])
def test_mirrored_bytes_appear_in_both_copies(make, offset):
    with make(4 * PAGE, mirrored=True, offset=offset) as mapping:
        size = mapping.size
        assert len(mapping) == 2 * size and mapping.mirrored and mapping.mapped == size
        mapping[size - 3 : size + 3] = b"abcdef"
        assert mapping[:3] == b"def" and mapping[2 * size - 3 :] == b"abc"
        assert os.pread(mapping.fileno(), 3, offset) == b"def"
        with again(mapping, access="read", mirrored=True) as reader:
            assert reader[size - 3 : size + 3] == b"abcdef" and reader.readonly
        mapping.flush(size - PAGE, 2 * PAGE)


def test_the_descriptor_is_the_mappings_own(make):
    with make() as mapping:
        fd = os.dup(mapping.fileno())
        other = Mapping.from_fd(fd)
        os.close(fd)
        with other:
            other[1] = 77
            assert mapping[1] == 77 and other.size == mapping.size


def test_nothing_stays_open_or_mapped(make):
    def counts():
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return len(os.listdir("/proc/self/fd")), sum(1 for _ in maps)

    make().close()
    before = counts()
    for how in ({}, {"mirrored": True}, {"access": "read"}):
        mapping = make(**how)
        del mapping  # without close: the object itself gives everything back
        make(**how).close()
    with pytest.raises(ValueError):
        make(5, mirrored=True)
    assert counts() == before
