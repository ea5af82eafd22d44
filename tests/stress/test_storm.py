"""Storms: producers, members and observers of one small ring are killed, stopped and continued at random, leave and join, and
are replaced; then the books are checked. The storm itself is tests/programs/storm.py, the workers are in storm_workers.py, the
rules in storm_check.py. A failure prints the configuration, seed included: `python tests/programs/storm.py CONFIG` repeats it.

Producers tell of a message after send returned; members tell of it before they release it (loose ones, which receive by copy:
after). Told is certain; what a killed one did last may have happened untold. Per group, these are the allowed outcomes:

- Every message that its producer told of, or that anybody saw, arrives: at least once. Excepted are what a killed loose member
  had received and not told of (one call's worth for each), and what `redeliver=False` dropped (as many as stats() says).
- A message arrives first as not redelivered, once. It arrives again only if a member that had it died, or left with its view,
  before it and those that it took earlier were released; and `view.redelivered` says so. In a group of which nobody died or
  left so: exactly once. With `redeliver=False`: at most once, whoever dies.
- A message is done with twice only if a member was killed while it took over what another dead one held: rare.
- A member has the messages of a producer in order, and all messages in the order of the ring; redelivered ones excepted.

And for all: nothing arrives that nobody sent or that was given up; every message is whole; of a producer there are no holes,
and untold are at most those of the call in which it was killed. All groups have the messages at the same places, no two at
one. Observers have whole messages, in order; received and lost are all that were sent, and no more than was begun. Nobody
hangs: neither at rage nor at the end. The dead are counted, once each. Nothing stays: no slot, no group but the lasting ones,
no byte in use, no descriptor, no name.
"""

from __future__ import annotations

import json
import os
import time

import pytest

import shmring

LASTING = {"members": 2, "redeliver": True, "loose": False}
ALL = ["producer", "member", "observer"]
NORMAL = {
    "capacity": 4096,
    "align": 16,
    "producers": "multi",
    "writers": 3,
    "observers": 2,
    "groups": [{"name": "a", **LASTING}, {"name": "b", **LASTING, "loose": True}],
    "ephemeral": 0,
    "doomed": ALL,
    "all_doomed": False,
    "end": "shutdown",
    "gives_up": True,
    "fuses": 0.3,
    "sizes": [200, 1200],
}

VARIANTS = {
    "smallest ring": {"kills": 400},
    "everybody is doomed": {"kills": 400, "all_doomed": True, "end": "phase", "align": 64},
    "nearly always empty": {
        "kills": 320,
        "capacity": 1 << 16,
        "writers": 2,
        "groups": [{"name": "a", **LASTING, "members": 4}],
    },
    "at most once": {
        "kills": 320,
        "capacity": 8192,
        "groups": [{"name": "a", **LASTING, "redeliver": False}, {"name": "b", **LASTING}],
        "all_doomed": True,
    },
    "passing groups": {"kills": 320, "capacity": 16384, "ephemeral": 4, "groups": [{"name": "a", **LASTING}], "end": "phase"},
    "one producer": {"kills": 320, "producers": "single", "writers": 1, "all_doomed": True},
    "one producer at a time": {"kills": 160, "producers": "single", "writers": 2, "all_doomed": True, "end": "phase"},
    "only producers die": {"kills": 160, "doomed": ["producer"]},
    "only members die": {"kills": 160, "doomed": ["member"], "end": "phase", "capacity": 8192},
    "what was begun is sent": {"kills": 160, "doomed": ["member"], "gives_up": False, "capacity": 16384},
}


def storm(peer, name, folder, seed, variant):
    config = NORMAL | VARIANTS[variant] | {"name": name, "folder": str(folder), "seed": seed}
    members = sum(group["members"] for group in config["groups"]) + config["ephemeral"]
    others = config["writers"] + config["observers"] + 1  # one that counts
    config["max_participants"] = members + others + 3  # some whose claims wait for a member
    config["max_groups"] = len(config["groups"]) + (config["ephemeral"] + 1) // 2 + 1
    folder.mkdir()
    text = json.dumps(config)
    answer = json.loads(peer("storm.py", text).hear())
    if not answer.pop("ok"):
        pytest.fail(f"storm {variant!r}, seed {seed}: storm.py '{text}'\n{answer['error']}\n{answer['scene']}", pytrace=False)
    assert os.path.exists(f"/dev/shm/{name}")
    shmring.unlink(name)
    print(f"{variant}, seed {seed}: {answer}")
    return answer


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_sent_arrives_whoever_is_killed(unique_name, peer, tmp_path, variant):
    assert sum(each["kills"] for each in VARIANTS.values()) >= 1000
    facts = storm(peer, unique_name, tmp_path / "storm", 1, variant)
    assert facts["kills"] >= VARIANTS[variant]["kills"] and facts["messages"] > 0


@pytest.mark.soak
def test_storms_for_hours(unique_name, peer, tmp_path):
    until = time.monotonic() + 3600 * float(os.environ.get("SHMRING_SOAK_HOURS", "1"))
    totals: dict[str, int] = {}
    seed = 1
    while seed == 1 or time.monotonic() < until:
        for variant in VARIANTS:
            facts = storm(peer, f"{unique_name}-{seed}", tmp_path / f"{seed}", seed, variant)
            totals = {key: totals.get(key, 0) + facts.get(key, 0) for key in totals | facts}
            seed += 1
    print(f"{seed - 1} storms: {totals['kills']} kills, {totals['messages']} messages, {totals['redelivered']} redelivered")
