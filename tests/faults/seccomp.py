"""A seccomp filter by ctypes: system calls that the kernel refuses to a child, by number and, if wanted, by an argument.

Source: seccomp(2), linux/filter.h; the offsets are those of struct seccomp_data.
"""

from __future__ import annotations

import platform
import struct

import pytest

# What a program gets to say which calls it will be refused from then on. Numbers: asm/unistd.h.
NUMBERS = {
    "x86_64": {"futex": 202, "futex_waitv": 449, "membarrier": 324, "clock_nanosleep": 230, "clock_gettime": 228},
    "aarch64": {"futex": 98, "futex_waitv": 449, "membarrier": 283, "clock_nanosleep": 115, "clock_gettime": 113},
}.get(platform.machine())

REFUSE = """
import ctypes, errno, struct
LOAD, EQUAL, ANY, RETURN = 0x20, 0x15, 0x45, 0x06         # BPF_LD | W | ABS, BPF_JMP | JEQ | K, BPF_JMP | JSET | K, BPF_RET | K
ALLOW, ERRNO, KILL = 0x7fff0000, 0x00050000, 0x80000000

def refuse(rules):
    \"\"\"rules: (number, answer) or (number, argument, test, value, answer); what no rule is for is allowed.\"\"\"
    code = []
    for number, *argument, answer in rules:
        body = []
        if argument:
            index, test, value = argument
            body = [(LOAD, 0, 0, 16 + 8 * index), (test, 0, 1, value)]
        code += [(LOAD, 0, 0, 0), (EQUAL, 0, len(body) + 1, number), *body, (RETURN, 0, 0, answer)]
    code.append((RETURN, 0, 0, ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = lambda *words: libc.prctl(*map(ctypes.c_ulong, words))
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter.
    if prctl(38, 1, 0, 0, 0) != 0 or prctl(22, 2, ctypes.addressof(head)) != 0:
        say("no seccomp:", os.strerror(ctypes.get_errno()))
        os._exit(0)
"""

needs_seccomp = pytest.mark.skipif(
    NUMBERS is None or struct.calcsize("P") != 8, reason=f"no system call numbers for {platform.machine()}"
)


def hear_filtered(peer) -> None:
    """The program says "filtered" when its filter is in place; a kernel without seccomp skips the test."""
    heard = peer.hear()
    if heard.startswith("no seccomp"):
        pytest.skip(heard)
    assert heard == "filtered", heard
