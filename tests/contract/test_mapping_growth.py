"""Mappings that grow, files that grow under them, and the ends of files."""

from __future__ import annotations

import os

import pytest
from mapping_backings import BACKINGS, PAGE, run_elsewhere

from shmring import Mapping, errors


@pytest.fixture(params=BACKINGS, ids=lambda backing: backing.kind)
def backing(request, tmp_path):
    yield request.param
    request.param.forget(tmp_path)


@pytest.fixture
def make(backing, tmp_path):
    return lambda size=3 * PAGE, **how: backing.make(tmp_path, size, **how)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"mirrored": True},
        {"offset": PAGE},
        {"populate": True},
        {"lock": True},
        {"mirrored": True, "offset": PAGE},
    ],
    ids=str,
)
def test_resize_grows_the_mapping_and_its_file(make, how):
    with make(2 * PAGE, **how) as mapping:
        mapping[0:3] = b"abc"
        mapping[2 * PAGE - 1] = 9
        mapping.resize(64 * PAGE)
        copies = 2 if mapping.mirrored else 1
        assert mapping.size == mapping.mapped == 64 * PAGE and len(mapping) == copies * 64 * PAGE
        assert mapping[0:3] == b"abc" and mapping[2 * PAGE - 1] == 9
        assert mapping[2 * PAGE : 64 * PAGE] == bytes(62 * PAGE)
        assert os.fstat(mapping.fileno()).st_size == mapping.offset + 64 * PAGE
        mapping[64 * PAGE - 1] = 7
        assert os.pread(mapping.fileno(), 1, mapping.offset + 64 * PAGE - 1) == b"\x07"
        if mapping.mirrored:
            assert mapping[64 * PAGE : 64 * PAGE + 3] == b"abc"


def test_resize_refuses_while_a_view_lives_and_then_changes_nothing(make):
    with make() as mapping:
        with mapping.view as view:
            with pytest.raises(BufferError, match="resize"):
                mapping.resize(10 * PAGE)
            view[0] = 5
        assert len(mapping) == 3 * PAGE and mapping[0] == 5
        mapping.resize(10 * PAGE)


def test_resize_only_grows(make):
    with make() as mapping:
        mapping.resize(3 * PAGE)
        for size in (3 * PAGE - 1, 0, -1):
            with pytest.raises(errors.BadGeometry):
                mapping.resize(size)
        assert len(mapping) == 3 * PAGE


def test_resize_by_a_few_bytes_needs_no_whole_page(make):
    with make(10) as mapping:
        mapping.resize(11)
        assert (len(mapping), mapping.wasted) == (11, PAGE - 11)


def test_other_mappings_stay_as_they_are_until_they_resize_too(make):
    with make() as mapping, Mapping.from_fd(mapping.fileno()) as other:
        mapping.resize(5 * PAGE)
        mapping[5 * PAGE - 1] = 3
        assert len(other) == 3 * PAGE
        mapping[0] = 1
        assert other[0] == 1
        other.resize(5 * PAGE)
        assert other[5 * PAGE - 1] == 3


def test_a_private_copy_keeps_its_changes_when_it_grows(make):
    with make() as mapping, Mapping.from_fd(mapping.fileno(), access="copy") as copy:
        copy[0:2] = b"me"
        mapping.resize(9 * PAGE)
        mapping[9 * PAGE - 1] = 8
        copy.resize(9 * PAGE)
        assert copy[0:2] == b"me" and mapping[0:2] == b"\0\0" and copy[9 * PAGE - 1] == 8


def test_a_resize_that_fails_leaves_the_mapping_as_it_was(make):
    with make() as mapping:
        mapping[1] = 1
        with pytest.raises(errors.MappingError):
            mapping.resize(1 << 55)
        assert len(mapping) == 3 * PAGE and mapping[1] == 1 and mapping.exports == 0


@pytest.mark.parametrize("access", ["write", "read", "copy"])
def test_past_the_end_of_a_file_works_once_the_file_has_grown(tmp_path, access):
    path = tmp_path / "grows"
    path.write_bytes(b"a" * PAGE)
    with Mapping.file(path, 4 * PAGE, access=access) as mapping:
        assert mapping.past_end == 3 * PAGE and mapping[0] == ord("a")
        if access != "read":
            mapping[1] = ord("m")
        for touch in (
            lambda: mapping[2 * PAGE],
            lambda: mapping.read(PAGE - 1, 2),
            lambda: mapping[::PAGE],
            lambda: mapping.read(),
        ):
            with pytest.raises(errors.PastEndOfFile, match=f"{PAGE} bytes now and needs {4 * PAGE}"):
                touch()
        if access != "read":
            with pytest.raises(errors.PastEndOfFile):
                mapping[3 * PAGE] = 1
        assert not mapping.truncated and mapping[0] == ord("a")
        with mapping.view as view:
            assert view[2 * PAGE] == 0  # a view reads zeros; the next method call tells
        with pytest.raises(errors.PastEndOfFile):
            mapping[0]
        assert mapping[0] == ord("a")  # told once
        run_elsewhere(
            "import os, sys; f = open(sys.argv[1], 'r+b'); f.truncate(int(sys.argv[2])); "
            "f.seek(-1, 2); f.write(b'z')",
            path,
            4 * PAGE,
        )
        assert mapping.past_end == 0 and mapping[4 * PAGE - 1] == ord("z")
        assert mapping[2 * PAGE] == 0
        assert mapping[1] == ord("a" if access == "read" else "m")
        if access == "write":
            mapping[3 * PAGE] = 5
            assert path.read_bytes()[3 * PAGE] == 5


def test_populate_past_the_end_says_so(tmp_path):
    (tmp_path / "short").write_bytes(b"a" * PAGE)
    with pytest.raises(errors.PastEndOfFile):
        Mapping.file(tmp_path / "short", 4 * PAGE, populate=True)


def test_what_is_written_behind_the_end_of_the_file_is_not_stored(tmp_path):
    path = tmp_path / "odd"
    path.write_bytes(b"x" * 100)
    with Mapping.file(path, PAGE) as mapping:
        assert mapping.zero_tail == PAGE - 100 and mapping.past_end == 0
        assert mapping[100:] == bytes(PAGE - 100)
        mapping[100] = 1
        mapping.flush()
        assert path.stat().st_size == 100


def test_create_makes_grows_and_never_cuts(tmp_path):
    path = tmp_path / "file"
    with Mapping.file(path, 100, create=True, mode=0o640) as mapping:
        assert path.stat().st_size == 100 and path.stat().st_mode & 0o777 == 0o640 & ~_umask()
        mapping[99] = 1
    with Mapping.file(path, 5000, create=True) as mapping:
        assert path.stat().st_size == 5000 and mapping[99] == 1
    with Mapping.file(path, 10, create=True) as mapping:
        assert path.stat().st_size == 5000 and len(mapping) == 10
    with Mapping.file(path, offset=PAGE) as mapping:
        assert len(mapping) == 5000 - PAGE
    with pytest.raises(FileExistsError):
        Mapping.file(path, 10, create=True, exclusive=True)
    with pytest.raises(ValueError, match="create=True"):
        Mapping.file(path, 10, exclusive=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"size": 0}, "positive"),
        ({"size": -5}, "positive"),
        ({"size": 1 << 63}, "more than a file"),
        ({"size": 10, "offset": 1}, "page size"),
        ({"size": 10, "offset": -PAGE}, "negative"),
        ({"size": 10, "mirrored": True}, f"ask for {PAGE}"),
        ({"size": PAGE, "mirrored": True, "access": "copy"}, "private"),
    ],
)
def test_a_geometry_that_cannot_be_mapped_is_explained_and_leaves_no_name(tmp_path, backing, wrong, text):
    with pytest.raises(errors.BadGeometry, match=text) as caught:
        backing.make(tmp_path, **wrong)
    assert caught.value.errno == 22 and isinstance(caught.value, ValueError)
    assert not list(tmp_path.iterdir())
