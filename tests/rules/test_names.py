"""Names: what `shmring` exports, what files are called, how long they are, and what `import shmring` brings along."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from sources import ROOT

import shmring

# docs/design.md: the fixed names.
DESIGN = {
    "create", "open", "anonymous", "unlink", "wait",
    "Error", "RingExists", "RingNotFound", "LayoutMismatch", "CorruptRing", "RingTruncated", "MessageTooLarge",
    "ProducerTaken", "TooManyParticipants", "ShutDown", "Lapped",
}
ADDED = {
    **dict.fromkeys(("Ring", "Producer", "Consumer", "Claim", "View", "Stats"), "classes of what is returned, for annotations"),
    "Mapping": "the mmap facility under the ring",
    "WaitPolicy": "what wait= takes",
    **dict.fromkeys(("Observer", "ObservedView"), "what consumer(lossy=True) and its peek return"),
    **dict.fromkeys(("Queue", "JoinableQueue", "SimpleQueue"), "the queues of multiprocessing, over a ring"),
    "MemberTaken": "remove_group finds members; as ProducerTaken",
    "ProducerDied": "end_with_producers: the other end",
    "ProducersGone": "end_with_producers: the good end, for who calls recv",
    **dict.fromkeys(("ArrayView", "ObjectView"), "what peek_array and peek_obj return"),
    **dict.fromkeys(("ConsumerStats", "Pin"), "what Consumer.stats returns"),
    "BorrowedTooLong": "as TooManyViews, for arrays that outlived their views",
    "TooManyViews": "as TooManyParticipants, for what one member holds",
    "UntrustedRing": "a name that another user took first, or a link: PermissionError",
    "TooManyGroups": "as TooManyParticipants, for groups",
    "ClaimOpen": "a send while a claim is open",
    "WrongProcess": "a handle used in a forked child",
    **dict.fromkeys(("CodecError", "UnknownCodec"), "bytes that are no message of their codec; a codec that is not there"),
    **dict.fromkeys(("ArrayRing", "ArrayProducer", "ArrayConsumer", "ArrayObserver"), "create(dtype=...) and its handles"),
    **dict.fromkeys(("ArrayClaim", "RecordsView"), "what reserve and borrow of those return"),
    "get_include": "the headers, for extensions that cimport shmring",
}

# The interface of the handles, as the design has it; more may be there.
METHODS = {
    "Ring": "producer consumer shutdown close stats repair remove_group name capacity producers align max_participants "
            "max_groups max_message closed",
    "Producer": "send try_send send_many reserve close closed",
    "Claim": "view commit abort",
    "Consumer": "recv try_recv recv_many recv_into peek lag lost close closed __iter__",
    "View": "data sequence redelivered release",
    "ArrayRing": "dtype ring max_block producer consumer shutdown close stats repair remove_group name capacity align closed",
    "ArrayProducer": "write try_write reserve dtype close closed",
    "ArrayClaim": "array nrecords commit abort",
    "ArrayConsumer": "read try_read read_into borrow lag lost group dtype close closed __iter__",
    "ArrayObserver": "read try_read read_into borrow latest lag lost lost_blocks close closed __iter__",
    "RecordsView": "array sequence redelivered valid release",
}

# Modules that take long to load, and that a ring does not need.
NOT_LOADED = (
    "argparse", "asyncio", "concurrent", "ctypes", "dataclasses", "hdrh", "importlib.metadata", "inspect", "logging",
    "multiprocessing", "numpy", "pathlib", "pickle", "posix_ipc", "re", "rich", "selectors", "socket", "subprocess",
    "tempfile", "threading", "typing", "uuid",
)
# Ours that come when they are used.
LATE = (
    "shmring.aio", "shmring.array_ring", "shmring.cli", "shmring.codecs", "shmring.consumer", "shmring.objects",
    "shmring.participant", "shmring.producer", "shmring.queue", "shmring.sleeper", "shmring.snapshot", "shmring.stats",
    "shmring.waitv", "shmring.watch",
)

MAX_LINES = 450
LONGER = {"tests/model/test_ring_model.py": 600}  # one state machine, whose rules belong together


def test_the_package_exports_the_designs_names_and_the_declared_additions():
    assert set(shmring.__all__) == DESIGN | set(ADDED)
    assert sorted(shmring.__all__) == shmring.__all__ and len(set(shmring.__all__)) == len(shmring.__all__)
    assert all(getattr(shmring, name) is not None for name in shmring.__all__)
    assert set(shmring.__all__) <= set(dir(shmring))


@pytest.mark.parametrize("name", METHODS)
def test_handles_have_the_designs_methods(name):
    missing = [method for method in METHODS[name].split() if not hasattr(getattr(shmring, name), method)]
    assert not missing


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        shmring.no_such_name  # noqa: B018


def listed_files():
    """Files of the project as version control has them, or as they lie there."""
    result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 0 and result.stdout:
        return [ROOT / name for name in result.stdout.splitlines() if (ROOT / name).is_file()]
    folders = ("shmring", "tests", "bench", "examples", "docs")
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in TEXT]


TEXT = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c", ".toml", ".md", ".txt", ".yml", ".json", ""}


def test_no_module_is_a_grab_bag():
    stems = {path.stem.lower() for path in listed_files()} | {part for path in listed_files() for part in path.parts}
    assert not stems & {"utils", "util", "common", "helpers", "helper", "misc", "stuff"}


def test_files_stay_short():
    for path in listed_files():
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".h", ".c"}:
            lines = path.read_text().count("\n")
            most = LONGER.get(str(path.relative_to(ROOT)), MAX_LINES)
            assert lines <= most, f"{path.relative_to(ROOT)} has {lines} lines"


def test_no_file_knows_the_machine_it_was_written_on():
    private = re.compile(r"/(?:home|root|work|Users|tmp/venv|tmp/wt)[-/]\w")
    for path in listed_files():
        if path.suffix in TEXT and path.name != "test_names.py":
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                assert not private.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_import_brings_nothing_that_a_ring_does_not_need():
    code = "import sys; old = {*sys.modules}; import shmring; print(*({*sys.modules} - old))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split()
    unwanted = [name for name in found if any(name == each or name.startswith(each + ".") for each in (*NOT_LOADED, *LATE))]
    assert not unwanted
