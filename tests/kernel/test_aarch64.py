"""The kernel on aarch64, by qemu-user elsewhere: with exchanges in one instruction (LSE), and with exclusive accesses.

Functional only: qemu on x86 has the memory order of x86. What orders is looked for in tests/rules/test_aarch64_orders.py. The
16-byte exchange of the tail is casp in one, ldxp and stlxp in the other.
"""

from __future__ import annotations

import platform

import pytest
from kernel_build import compile_c, copy_kernel, needed, run_program, translate

pytest.importorskip("Cython", reason="pip install cython")

IS_NATIVE = platform.machine() == "aarch64"
COMPILER = "gcc" if IS_NATIVE else "aarch64-linux-gnu-gcc"
PROCESSORS = {
    "lse": (["-march=armv8.1-a"], "max"),
    "exclusives": (["-march=armv8-a", "-mno-outline-atomics"], "cortex-a53"),
}
PLAYS = {"single": ("2", "2000"), "many": ("12", "1000"), "churn": ("40", "300")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    needed(f"{COMPILER}:gcc-aarch64-linux-gnu libc6-dev-arm64-cross", *([] if IS_NATIVE else ["qemu-aarch64:qemu-user"]))
    copy = copy_kernel(tmp_path_factory.mktemp("aarch64"))
    return copy, translate(copy, "drive")


@pytest.fixture(scope="module", params=PROCESSORS)
def command(request, source):
    flags, processor = PROCESSORS[request.param]
    program = compile_c(*source, f"drive-{request.param}", COMPILER, "-O2", "-static", *flags)
    return [str(program)] if IS_NATIVE else ["qemu-aarch64", "-cpu", processor, str(program)]


@pytest.mark.slow
@pytest.mark.parametrize("play", PLAYS)
def test_every_message_whole_and_delivered(command, play):
    done = run_program([*command, play, *PLAYS[play], "1"])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("play", PLAYS)
def test_many_plays(command, play):
    for seed in range(1000, 1040):
        done = run_program([*command, play, PLAYS[play][0], "2000", str(seed)])
        assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
