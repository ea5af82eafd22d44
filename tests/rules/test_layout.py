"""The bytes stay where they are: the header, this golden table and docs/layout.md say the same.

A change here is a change of the layout: it bumps SHMRING_LAYOUT_VERSION, and docs/layout.md and the CHANGELOG say so.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from sources import HEADERS, ROOT

import shmring

VERSION = 4
SIGNATURE = 0x1B96B015
DOCUMENT = ROOT / "docs" / "layout.md"

# part of the document -> (struct, size, {field: (offset, bytes)})
GOLDEN = {
    "Identity": ("shmring_identity", 4096, {
        "magic": (0, 8), "layout_version": (8, 4), "signature": (12, 4), "ready": (16, 8), "capacity": (24, 8),
        "cookie": (32, 8), "align": (40, 4), "flags": (44, 4), "max_participants": (48, 4), "max_groups": (52, 4),
        "participants_offset": (56, 8), "data_offset": (64, 8), "segment_bytes": (72, 8), "uuid": (80, 16),
        "boot_id": (96, 16), "created_ns": (112, 8), "creator_pid": (120, 4), "page_bytes": (124, 4), "content": (128, 1024),
        "unused": (1152, 2944),
    }),
    "Positions and records": ("shmring_header", 16, {
        "stamp": (0, 8), "length": (8, 4), "participant": (12, 2), "previous": (14, 2),
    }),
    "Boundaries": ("shmring_boundary", 16, {"position": (0, 8), "number": (8, 8)}),
    "Producers' words": ("shmring_producers", 1024, {
        "tail": (0, 8), "number": (8, 8), "reserve": (128, 8), "shutdown": (256, 4), "sole": (260, 4), "moves": (264, 4),
        "slots_used": (268, 4), "producers_joined": (272, 4), "missed_pid": (276, 4), "repairs": (384, 8), "aborted": (392, 8),
        "boundaries": (512, 512),
    }),
    "Bells": ("shmring_bell", 384, {"armed": (0, 128), "parked": (128, 128), "sequence": (256, 4)}),
    "Groups": ("shmring_group", 512, {
        "state": (0, 4), "flags": (4, 4), "attention": (8, 4), "members": (12, 4), "generation": (16, 4), "unused": (20, 4),
        "name": (24, 64), "head": (128, 8), "passed": (136, 8), "sequence": (256, 4),
        "repaired": (384, 8), "redelivered": (392, 8), "dropped": (400, 8),
    }),
    "Claims": ("shmring_claim", 16, {"start": (0, 8), "end": (8, 8)}),
    "Participants": ("shmring_participant", 512, {
        "state": (0, 4), "role": (4, 4), "pid": (8, 4), "group": (12, 4), "start_time": (16, 8), "pid_namespace": (24, 8),
        "generation": (32, 8), "boot_id": (40, 16), "granted": (56, 8), "intent_start": (128, 8), "intent": (136, 8),
        "hold": (144, 8), "awaited": (152, 8), "messages": (160, 8), "bytes": (168, 8), "waits": (176, 8), "parks": (184, 8),
        "wakes": (192, 8), "repairs": (200, 8), "redelivered": (208, 8), "lost": (216, 8),
        "pondering": (224, 8), "moving": (232, 8), "stalls": (240, 8), "stalled_ns": (248, 8), "claims": (256, 256),
    }),
}

CONSTANTS = {
    "SHMRING_LAYOUT_VERSION": VERSION,
    "SHMRING_SIGNATURE": SIGNATURE,
    "SHMRING_MAGIC": int.from_bytes(b"shmring\0", "little"),
    "SHMRING_READY": int.from_bytes(b"ready\0\0\0", "little"),
    "SHMRING_IDENTITY_BYTES": 4096,
    "SHMRING_PRODUCERS_OFFSET": 4096,
    "SHMRING_DATA_BELL_OFFSET": 5120,
    "SHMRING_ROOM_BELL_OFFSET": 5504,
    "SHMRING_GROUPS_OFFSET": 8192,
    "SHMRING_HEADER_BYTES": 16,
    "SHMRING_MIN_CAPACITY": 4096,
    "SHMRING_MAX_CAPACITY": 1 << 46,
    "SHMRING_MAX_PARTICIPANTS": 1024,
    "SHMRING_MAX_GROUPS": 64,
    "SHMRING_CONTENT_BYTES": 1024,
    "SHMRING_GROUP_NAME_BYTES": 64,
    "SHMRING_BOUNDARIES": 32,
    "SHMRING_CHUNKS": 16,
    "SHMRING_CLAIMS": 16,
    "SHMRING_NONE": (1 << 64) - 1,
    "SHMRING_TENTATIVE": 1,
    "SHMRING_LOCK_REGISTRY": 0,
    "SHMRING_LOCK_PARTICIPANT": 4096,
    "SHMRING_FLAG_SINGLE_PRODUCER": 1,
    "SHMRING_COMMITTED": 1,
    "SHMRING_ABORTED": 2,
    "SHMRING_GROUP_FREE": 0,
    "SHMRING_GROUP_JOINING": 1,
    "SHMRING_GROUP_ACTIVE": 2,
    "SHMRING_GROUP_EPHEMERAL": 1,
    "SHMRING_GROUP_DROP": 2,
    "SHMRING_GROUP_EXCLUSIVE": 4,
    "SHMRING_SHARED": 1,
    "SHMRING_ORPHANS": 2,
    "SHMRING_SETTLED": 4,
    "SHMRING_SLOT_FREE": 0,
    "SHMRING_SLOT_ACTIVE": 1,
    "SHMRING_SLOT_LEFT": 2,
    "SHMRING_SLOT_ORPHAN": 3,
    "SHMRING_ROLE_PRODUCER": 1,
    "SHMRING_ROLE_CONSUMER": 2,
    "SHMRING_ROLE_OBSERVER": 3,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What a C compiler makes of the header: {name: number} for constants, struct sizes and fields."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to ask")
    lines = ['#include "shmring/layout.h"', "#include <stdio.h>", "int main(void) {"]
    lines += [f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in CONSTANTS]
    for struct, _, fields in GOLDEN.values():
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        for field in fields:
            member = f"((struct {struct} *)0)->{field}"
            lines.append(f'printf("{struct}.{field} %zu %zu\\n", offsetof(struct {struct}, {field}), sizeof({member}));')
    folder = tmp_path_factory.mktemp("layout")
    (folder / "ask.c").write_text("\n".join([*lines, "return 0; }"]))
    subprocess.run(
        [compiler, "-std=gnu11", f"-I{HEADERS.parent}", str(folder / "ask.c"), "-o", str(folder / "ask")], check=True
    )
    answers = subprocess.run([folder / "ask"], capture_output=True, text=True, check=True).stdout
    return {name: tuple(map(int, numbers)) for name, *numbers in map(str.split, answers.splitlines())}


def test_constants_are_the_golden_ones(compiled):
    assert {name: compiled[name][0] for name in CONSTANTS} == CONSTANTS


@pytest.mark.parametrize("part", GOLDEN)
def test_fields_are_where_they_were(compiled, part):
    struct, size, fields = GOLDEN[part]
    assert compiled[struct] == (size,)
    assert {field: compiled[f"{struct}.{field}"] for field in fields} == fields


@pytest.mark.parametrize("part", GOLDEN)
def test_the_golden_table_has_every_field_of_the_header(part):
    struct, _, fields = GOLDEN[part]
    body = re.search(rf"struct {struct} {{\n(.*?)\n}};", (HEADERS / "layout.h").read_text(), re.DOTALL)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    declared = re.findall(r"(\w+)(?:\[\w+(?: - \d+)?\])?;", body)
    assert declared == list(fields)


@pytest.mark.parametrize("part", GOLDEN)
def test_the_document_has_the_same_table(part):
    section = DOCUMENT.read_text().split(f"\n## {part}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", section, re.MULTILINE)
    assert {name: (int(offset), int(size)) for name, offset, size in rows} == GOLDEN[part][2]


def test_the_document_has_the_same_parts_and_numbers():
    text = DOCUMENT.read_text()
    assert f"Layout version {VERSION}, signature `{SIGNATURE:#010x}`" in text
    for row in ("identity | 0 | 4096", "producers | 4096 | 1024", "data bell | 5120 | 384", "room bell | 5504 | 384"):
        assert f"| {row} |" in text
    for name in ("SHMRING_MAGIC", "SHMRING_READY"):
        assert f"`{CONSTANTS[name]:#018x}`" in text


def test_this_build_writes_the_golden_version(tmp_path):
    with shmring.create(tmp_path / "ring", "4 KiB"):
        identity = (tmp_path / "ring").read_bytes()[:128]
    assert int.from_bytes(identity[8:12], "little") == VERSION
    assert int.from_bytes(identity[12:16], "little") == SIGNATURE
