"""Storms: producers, members and observers of one small ring are killed, stopped and continued at random, leave and join, and
are replaced; then the books are checked. The storm itself is tests/programs/storm.py, the workers are in storm_workers.py, the
variants in storm_variants.py, the rules in storm_check.py. A failure prints the configuration, seed included:
`python tests/programs/storm.py CONFIG` repeats it. Each has half of its kills here. For hours, over every backing: `make soak`.

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

import pytest
from storm_variants import VARIANTS, configure

import shmring


def kills_of(variant):
    return VARIANTS[variant]["kills"] // 2


def storm(peer, name, folder, seed, variant):
    folder.mkdir()
    text = json.dumps(configure(variant, name, str(folder), seed, kills=kills_of(variant)))
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
    assert sum(map(kills_of, VARIANTS)) >= 1000
    facts = storm(peer, unique_name, tmp_path / "storm", 1, variant)
    assert facts["kills"] >= kills_of(variant) and facts["messages"] > 0
