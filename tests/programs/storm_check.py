"""What may be found after a storm, and what may not: the rules are listed in tests/stress/test_storm.py."""

from __future__ import annotations

from collections import Counter, defaultdict

import storm_books as books
from storm_books import MOST_AT_ONCE

import shmring

FRESH, AGAIN, PLAIN, SETTLED_FRESH, SETTLED_AGAIN = (1 << 8 * index for index in range(5))  # counts in one number
BYTE = 255
TAKEN = {books.FRESH: FRESH, books.AGAIN: AGAIN, books.PLAIN: PLAIN}


class Deliveries:
    """What the members of one group had: per message how often, and how; and where it lay."""

    def __init__(self):
        self.counts: dict[int, int] = defaultdict(int)  # by producer << 32 | sequence
        self.places: dict[int, int] = {}
        self.behind = 0  # received by copy after a later one of the same producer

    def read(self, path: str) -> None:
        counts, places = self.counts, self.places
        taken: list[list] = []  # [key, what, is_released], in the order in which they were taken
        highest: dict[int, int] = {}
        for position, producer, sequence, what, _ in books.read_log(path):
            key = producer << 32 | sequence
            if what == books.RELEASED:
                next(each for each in taken if each[0] == key and not each[2])[2] = True
                while taken and taken[0][2]:
                    settled, how, _ = taken.pop(0)
                    counts[settled] += SETTLED_FRESH if how == books.FRESH else SETTLED_AGAIN
                continue
            counts[key] += TAKEN[what]
            if what == books.PLAIN:
                if sequence <= highest.get(producer, -1):
                    self.behind += 1
                else:
                    highest[producer] = sequence
                continue
            assert places.setdefault(key, position) == position, f"{show(key)} lies at {places[key]} and at {position}"
            taken.append([key, what, False])


def show(key: int) -> str:
    return f"message {key & 0xFFFFFFFF} of producer {key >> 32}"


def spell(count: int) -> str:
    names = "fresh", "redelivered", "by copy", "fresh and released", "redelivered and released"
    return ", ".join(f"{count >> 8 * index & BYTE} {name}" for index, name in enumerate(names))


def check(storm, rest) -> dict:
    config, table, lives = storm.config, storm.table, storm.ended
    stats = storm.ring.stats()
    producers = {life.number: life for life in lives if life.job["role"] == "producer"}
    committed = {number: table.get(number, books.COMMITTED) for number in producers}
    deliveries: dict[str, Deliveries] = defaultdict(Deliveries)
    for life in lives:
        if life.log_path:
            deliveries[life.job["group"]].read(life.log_path)
    for name, path in rest.items():
        deliveries[name].read(path)

    expected = {number << 32 | sequence for number in producers for sequence in range(committed[number])}
    certain = len(expected)
    for each in deliveries.values():
        expected.update(each.counts)
    check_origin(expected, producers, committed)
    check_places(deliveries)

    facts = Counter()
    for group in config["groups"]:
        members = [life for life in lives if life.job.get("group") == group["name"]]
        found = next(each for each in stats.groups if each.name == group["name"])
        facts += check_group(group, deliveries[group["name"]], expected, members, found, table)
    check_counting_observer(lives, table, certain, stats)
    check_repairs(lives, stats)
    return {
        **sum((Counter(table.moved(life.number)) for life in lives), Counter()),
        "kills": storm.kills,
        "stops": storm.stops,
        "sessions": sum(table.get(life.number, books.SESSIONS) for life in lives),
        "messages": certain,
        "unlogged": len(expected) - certain,
        "lapped": sum(table.get(life.number, books.LOST) for life in lives),
        "repairs": stats.repairs,
        "aborted": stats.aborted,
        **facts,
    }


def check_origin(expected, producers, committed) -> None:
    """Every message was sent; what came from a producer has no holes; only the killed may have sent more than they told of."""
    numbers = Counter()
    highest = {}
    for key in expected:
        producer, sequence = key >> 32, key & 0xFFFFFFFF
        assert producer in producers, f"nobody sent {show(key)}"
        numbers[producer] += 1
        highest[producer] = max(highest.get(producer, -1), sequence)
    for producer, life in producers.items():
        most = committed[producer] + (MOST_AT_ONCE if life.was_killed else 0)
        came = numbers[producer]
        assert came <= most, f"producer {producer} sent {committed[producer]}, {came} came"
        assert highest.get(producer, -1) == came - 1, f"hole: producer {producer}, {came} came up to {highest[producer]}"


def check_places(deliveries) -> None:
    """A message lies at the same place for all groups, no two at one, and those of a producer in their order."""
    places: dict[int, int] = {}
    for each in deliveries.values():
        for key, position in each.places.items():
            assert places.setdefault(key, position) == position, f"{show(key)} lies at {places[key]} and at {position}"
    assert len(set(places.values())) == len(places), "two messages lie at one place"
    before = (-1, -1)
    for key in sorted(places):
        if key >> 32 == before[0]:
            assert places[key] > before[1], f"{show(key)} lies at {places[key]}, one before it at {before[1]}"
        before = key >> 32, places[key]


def check_group(group, got: Deliveries, expected, members, stats, table) -> Counter:
    name = group["name"]
    killed = sum(life.was_killed for life in members)
    abandoned = sum(table.get(life.number, books.ABANDONED) for life in members)
    missing = [key for key in expected if key not in got.counts]
    may_miss = killed * MOST_AT_ONCE if group["loose"] else 0
    if not group["redeliver"]:
        may_miss += stats.dropped
    assert len(missing) <= may_miss, (
        f"lost: group {name!r} misses {len(missing)} messages where {may_miss} may be missing: "
        f"{[show(key) for key in missing[:5]]}"
    )
    redelivered = doubled = 0
    for key, count in got.counts.items():
        fresh, again, plain = count & BYTE, count >> 8 & BYTE, count >> 16 & BYTE
        settled_fresh, settled_again = count >> 24 & BYTE, count >> 32 & BYTE
        problem = f"group {name!r}, {show(key)}: {spell(count)}"
        assert fresh <= 1, f"twice: {problem}"
        assert not settled_fresh or fresh + again + plain == 1, f"again after it was released: {problem}"
        if not group["redeliver"]:
            assert fresh + plain == 1 and again == 0, f"more than once: {problem}"
        if not killed and not abandoned:
            assert fresh + plain == 1 and again == 0, f"repeated, and nobody died: {problem}"
        redelivered += again
        doubled += settled_fresh + settled_again + plain > 1
    assert redelivered + got.behind <= stats.redelivered, (
        f"order: group {name!r} had {redelivered} messages redelivered and {got.behind} behind later ones, but counted only "
        f"{stats.redelivered} redeliveries"
    )
    # A range stands in two slots if who adopts it is killed between two stores: rare, and only then.
    assert doubled <= killed * MOST_AT_ONCE // 20, f"twice: group {name!r} was done {doubled} times, {killed} killed"
    return Counter(redelivered=redelivered, missing=len(missing), doubled=doubled, dropped=stats.dropped)


def check_counting_observer(lives, table, certain, stats) -> None:
    """Received or lost is everything that was committed, and nothing that nobody began."""
    observer = next(life for life in lives if life.job.get("counts"))
    received, lost = table.get(observer.number, books.RECEIVED), table.get(observer.number, books.LOST)
    given_up = sum(table.get(life.number, books.GIVEN_UP) for life in lives)
    killed = sum(life.was_killed and life.job["role"] == "producer" for life in lives)
    most = certain + given_up + killed * MOST_AT_ONCE
    assert certain <= received + lost <= most, (
        f"observer: it received {received} and lost {lost} = {received + lost}, but {certain} were sent, {given_up} given up, "
        f"{stats.aborted} aborted, {killed} producers killed"
    )


def check_repairs(lives, stats) -> None:
    killed = Counter(life.state_at_end for life in lives if life.was_killed and not life.job.get("readonly"))
    attached, uncertain = killed[books.ATTACHED], killed[books.CHANGING]
    assert attached <= stats.repairs <= attached + uncertain, (
        f"repairs: {stats.repairs}, but {attached} were killed while attached, {uncertain} while attaching or leaving"
    )


def check_room(storm) -> None:
    """Nothing is left of anybody, and all that was used can be used again."""
    ring, config = storm.ring, storm.config
    assert ring.repair() == 0
    stats = ring.stats()
    assert not stats.participants, f"left: {stats.participants}"
    assert {group.name for group in stats.groups} == {group["name"] for group in config["groups"]}, f"groups: {stats.groups}"
    assert all(group.lag == 0 for group in stats.groups) and stats.used == 0, f"used: {stats}"
    everybody = [ring.consumer(lossy=True) for _ in range(ring.max_participants)]
    try:
        ring.consumer(lossy=True).close()
        raise AssertionError("more participants than there is room for")
    except shmring.TooManyParticipants:
        pass
    for each in everybody:
        each.close()
    more = [ring.consumer(f"more {index}") for index in range(ring.max_groups - len(config["groups"]))]
    for each in more:
        each.close()
    for index in range(len(more)):
        ring.remove_group(f"more {index}")
    if config["end"] != "shutdown":
        with ring.producer() as tx:
            tx.send(bytes(ring.max_message), timeout=10)
