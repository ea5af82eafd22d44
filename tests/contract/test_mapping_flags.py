"""Every flag a user may choose, by its effect as the kernel shows it."""

from __future__ import annotations

import mmap
import os
import resource

import pytest
from mapping_backings import BACKINGS, PAGE, address_of, smaps_entry

from shmring import Mapping, errors, hugepages
from shmring.options import ADVICE, IGNORED_FLAGS, REFUSED_ADVICE, REFUSED_FLAGS


@pytest.fixture(params=BACKINGS, ids=lambda backing: backing.kind)
def make(request, tmp_path):
    yield lambda size=3 * PAGE, **how: request.param.make(tmp_path, size, **how)
    request.param.forget(tmp_path)


def faults_of_touching(mapping: Mapping) -> int:
    with mapping.view as view:
        places = range(0, len(view), PAGE)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if mapping.readonly:
            for place in places:
                view[place]
        else:
            for place in places:
                view[place] = 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("how", [{}, {"mirrored": True}, {"access": "copy"}], ids=str)
def test_populate_leaves_no_fault_for_later(make, how):
    pages = 512
    with make(pages * PAGE, **how) as lazy:
        assert faults_of_touching(lazy) >= pages // 16  # the kernel maps up to 16 pages per fault
    with make(pages * PAGE, populate=True, **how) as ready:
        assert faults_of_touching(ready) <= 16  # the interpreter's own


def test_populate_read_only(make):
    with (
        make(512 * PAGE) as mapping,
        Mapping.from_fd(mapping.fileno(), access="read", populate=True) as reader,
    ):
        assert faults_of_touching(reader) <= 16


def test_lock_keeps_the_pages_in_memory(make):
    with make(16 * PAGE, lock=True) as mapping:
        entry = smaps_entry(address_of(mapping))
        assert entry["Locked"] == f"{16 * PAGE // 1024} kB" and "lo" in entry["VmFlags"].split()
    with make(16 * PAGE) as mapping:
        assert "lo" not in smaps_entry(address_of(mapping))["VmFlags"].split()


def test_noreserve_sets_nothing_aside(make):
    with make(noreserve=True) as mapping:
        assert "nr" in smaps_entry(address_of(mapping))["VmFlags"].split()
        assert os.fstat(mapping.fileno()).st_blocks == 0


@pytest.mark.parametrize("reserve", [True, False])
def test_reserve_allocates_the_pages_at_creation(make, reserve):
    with make(64 * PAGE, reserve=reserve) as mapping:
        allocated = os.fstat(mapping.fileno()).st_blocks * 512
        assert allocated >= 64 * PAGE if reserve else allocated == 0
        assert "nr" not in smaps_entry(address_of(mapping))["VmFlags"].split()


@pytest.mark.parametrize(
    "access, expected", [("write", {"sh", "rd", "wr"}), ("read", {"sh", "rd"}), ("copy", {"rd", "wr"})]
)
def test_access_is_what_the_kernel_enforces(make, access, expected):
    with make() as mapping, Mapping.from_fd(mapping.fileno(), access=access) as other:
        flags = set(smaps_entry(address_of(other))["VmFlags"].split())
        assert flags & {"sh", "rd", "wr"} == expected
    with pytest.raises(ValueError, match="access must be"):
        make(access="execute")


@pytest.mark.parametrize("mirrored", [False, True])
def test_huge_pages_are_used_or_the_error_says_how_to_configure_them(make, mirrored):
    size = 2 * hugepages.default_page()
    try:
        mapping = make(size, huge=True, mirrored=mirrored)
    except errors.HugePagesUnavailable as error:
        assert "nr_hugepages" in str(error) and "shmem_enabled" in str(error) and error.errno
        return
    with mapping:
        entry = smaps_entry(address_of(mapping))
        flags = entry["VmFlags"].split()
        assert address_of(mapping) % hugepages.default_page() == 0
        assert ("ht" in flags) if mapping.huge == "hugetlb" else ("hg" in flags and mapping.huge == "advised")
        mapping[size - 2 : size] = b"zz"
        assert mapping[-2:] == b"zz"
        if mapping.huge == "advised" and hugepages.is_tmpfs(mapping.fileno()):
            assert smaps_entry(address_of(mapping))["ShmemPmdMapped"] == f"{size // 1024} kB"


def test_a_hugetlb_memfd_is_whole_huge_pages():
    page = hugepages.default_page()
    if hugepages.pool_bytes(page) < 2 * page:
        pytest.skip("no hugetlb pages are set aside: echo 8 > /proc/sys/vm/nr_hugepages")
    with Mapping.memfd(5000, huge=True) as mapping:
        assert mapping.huge == "hugetlb" and mapping.page_size == mapping.mapped == page
        assert mapping.wasted == page - 5000
        mapping[4999] = 1
        mapping.resize(page + 1)
        assert mapping[4999] == 1 and mapping.mapped == 2 * page
    with Mapping.memfd(2 * page, huge=page, mirrored=True, populate=True, offset=0) as mapping:
        mapping[2 * page - 1 : 2 * page + 1] = b"ab"
        assert mapping[0] == ord("b") and mapping[-1] == ord("a")
    with pytest.raises(errors.BadGeometry, match=f"ask for {page}"):
        Mapping.memfd(PAGE, huge=True, mirrored=True)


def test_an_impossible_huge_page_size_is_refused():
    with pytest.raises(errors.BadGeometry, match="power of two"):
        Mapping.memfd(PAGE, huge=12345)
    with pytest.raises(errors.HugePagesUnavailable):
        Mapping.memfd(PAGE, huge=1 << 45)


@pytest.mark.parametrize("name", IGNORED_FLAGS)
def test_flags_that_linux_ignores_change_nothing(make, name):
    with make(flags=IGNORED_FLAGS[name]) as mapping, make() as plain:
        assert getattr(mmap, name, IGNORED_FLAGS[name]) == IGNORED_FLAGS[name]
        assert smaps_entry(address_of(mapping))["VmFlags"] == smaps_entry(address_of(plain))["VmFlags"]


@pytest.mark.parametrize("name", REFUSED_FLAGS)
def test_flags_that_have_no_place_here_are_refused_with_a_reason(make, name):
    bit, instead = REFUSED_FLAGS[name]
    assert getattr(mmap, name, bit) == bit
    with pytest.raises(errors.BadGeometry, match=name) as caught:
        make(flags=bit)
    assert instead in str(caught.value)
    with pytest.raises(errors.BadGeometry, match="unknown"):
        make(flags=1 << 30)


@pytest.mark.parametrize("advice, flag", [("sequential", "sr"), ("random", "rr"), ("dontdump", "dd")])
def test_advice_reaches_the_kernel(make, advice, flag):
    with make() as mapping:
        mapping.advise(advice)
        assert flag in smaps_entry(address_of(mapping))["VmFlags"].split()
        mapping.advise("dodump" if flag == "dd" else "normal")
        assert flag not in smaps_entry(address_of(mapping))["VmFlags"].split()
        mapping.advise(ADVICE["willneed"], PAGE + 1, 10)


def test_advice_that_could_crash_or_is_unknown_is_refused(make):
    with make() as mapping:
        for advice in (*REFUSED_ADVICE, "faster", 100, 12345):
            with pytest.raises(errors.BadGeometry):
                mapping.advise(advice)


def test_flush_with_wait_leaves_nothing_dirty(tmp_path):
    with Mapping.file(tmp_path / "f", 8 * PAGE, create=True) as mapping:
        if not _has_device(tmp_path):
            pytest.skip("the temporary folder is in memory: nothing is ever written back")
        mapping[:] = b"x" * len(mapping)
        address = address_of(mapping)
        dirty = ("Shared_Dirty", "Private_Dirty")
        assert any(smaps_entry(address)[key] != "0 kB" for key in dirty)
        mapping.flush(wait=False)
        mapping.flush(5 * PAGE + 1, 2)
        assert any(smaps_entry(address)[key] != "0 kB" for key in dirty)
        mapping.flush()
        assert all(smaps_entry(address)[key] == "0 kB" for key in dirty)
        assert (tmp_path / "f").read_bytes() == b"x" * len(mapping)


def _has_device(folder) -> bool:
    return os.stat(folder).st_dev >> 8 != 0  # tmpfs and overlays have no major number
