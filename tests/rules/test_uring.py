"""The structs of _core/uring.pxd are Linux's, byte for byte, whatever headers the system has.

The table is that of linux/io_uring.h (Linux 6.7); it never changes, as programs rely on it.
"""

from __future__ import annotations

import shutil

import pytest
from kernel_build import compile_c, copy_kernel, translate
from sources import KERNEL, code_of

pytest.importorskip("Cython", reason="pip install cython")

# struct -> (size, {field: (offset, bytes)})
OFFSETS = {"head": (0, 4), "tail": (4, 4), "ring_mask": (8, 4), "ring_entries": (12, 4)}
GOLDEN = {
    "UringRequest": (64, {
        "opcode": (0, 1), "flags": (1, 1), "ioprio": (2, 2), "fd": (4, 4), "off": (8, 8), "addr": (16, 8), "len": (24, 4),
        "op_flags": (28, 4), "user_data": (32, 8), "buf_index": (40, 2), "personality": (42, 2), "file_index": (44, 4),
        "addr3": (48, 8), "reserved": (56, 8),
    }),
    "UringCompletion": (16, {"user_data": (0, 8), "result": (8, 4), "flags": (12, 4)}),
    "UringRequestOffsets": (40, {
        **OFFSETS, "flags": (16, 4), "dropped": (20, 4), "array": (24, 4), "reserved": (28, 4), "user_addr": (32, 8),
    }),
    "UringCompletionOffsets": (40, {
        **OFFSETS, "overflow": (16, 4), "cqes": (20, 4), "flags": (24, 4), "reserved": (28, 4), "user_addr": (32, 8),
    }),
    "UringParams": (120, {
        "sq_entries": (0, 4), "cq_entries": (4, 4), "flags": (8, 4), "sq_thread_cpu": (12, 4), "sq_thread_idle": (16, 4),
        "features": (20, 4), "wq_fd": (24, 4), "reserved": (28, 12), "sq_off": (40, 40), "cq_off": (80, 40),
    }),
}


def test_the_structs_are_those_of_linux(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to ask")
    copy = copy_kernel(tmp_path)
    (tmp_path / "ask.pyx").write_text(
        f"from shmring._core.uring cimport Uring, {', '.join(GOLDEN)}, uring_open\n"
        + "".join(f"cdef {struct} a_{struct}\n" for struct in GOLDEN)
        + "cdef Uring uring\nuring_open(&uring)\n"
    )
    source = translate(copy, "ask")
    lines = ["#include <stddef.h>"]
    for struct, (size, fields) in GOLDEN.items():
        mangled = f"struct __pyx_t_7shmring_5_core_5uring_{struct}"
        lines.append(f'_Static_assert(sizeof({mangled}) == {size}, "{struct}");')
        for field, (offset, length) in fields.items():
            lines.append(f'_Static_assert(offsetof({mangled}, {field}) == {offset}, "{struct}.{field}: offset");')
            lines.append(f'_Static_assert(sizeof((({mangled} *)0)->{field}) == {length}, "{struct}.{field}: bytes");')
    source.write_text("\n".join([source.read_text(), *lines, ""]))
    compile_c(copy, source, "ask.o", compiler, "-c")


@pytest.mark.parametrize("struct", GOLDEN)
def test_the_table_has_every_field(struct):
    lines = code_of((KERNEL / "uring.pxd").read_text()).split("\n")
    begin = next(number for number, line in enumerate(lines) if line.split() == ["cdef", "struct", f"{struct}:"]) + 1
    declared = []
    for line in lines[begin:]:
        if not line.startswith(" "):
            break
        declared.append(line.split()[1].partition("[")[0])
    assert declared == list(GOLDEN[struct][1])
