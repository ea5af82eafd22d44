"""`shmring metrics`: what a scraper wants to know, as OpenMetrics text.

The rings are read when somebody asks, and not in between. prometheus_client (the extra `shmring[cli]`) writes the text and
serves it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from shmring.cli import find
from shmring.cli.arguments import add_command, complete_ring
from shmring.cli.failure import CommandFailed, is_heard, with_filename
from shmring.cli.ls import look_at
from shmring.cli.summary import count_roles

DESCRIPTION = """\
Print the state of rings as OpenMetrics text, once, or serve it to Prometheus
and other scrapers. Without a NAME: all rings of this machine that "shmring ls"
lists and this user can read.

Rings are opened for reading only, at each scrape, and nobody notices."""

EPILOG = """\
metrics:
  shmring_ring_*         capacity, fill, position, participants, died, aborted
  shmring_group_*        lag in messages and bytes, members, again, dropped
  shmring_participant_*  messages, bytes, waits, full stalls and their seconds,
                         parks, wakes, repairs, lost
  shmring_ring_error     1 for a ring that cannot be read
Counters of a participant begin when it attaches, and go when it leaves; its pid
and slot are labels.

examples:
  shmring metrics
  shmring metrics quotes > /var/lib/node_exporter/shmring.prom
  shmring metrics --serve 9464
  curl -s localhost:9464/metrics

exit status:
  0 success (with --serve: Ctrl-C or SIGTERM), 1 failure, 2 wrong usage"""

RING_GAUGES = (
    ("capacity", "capacity_bytes", "Bytes of the data area"),
    ("used", "used_bytes", "Bytes that the slowest reader has not released"),
    ("fill", "fill_ratio", "used / capacity"),
    ("shutdown", "shutdown", "1: no more messages will come"),
)
RING_COUNTERS = (
    ("tail", "position_bytes", "Bytes written since the ring was made, headers included"),
    ("repairs", "died", "Participants found dead"),
    ("aborted", "aborted_messages", "Messages that dead producers had begun and nobody gets"),
)
GROUP_GAUGES = (
    ("lag", "lag_messages", "Messages that no member has taken"),
    ("lag_bytes", "lag_bytes", "Bytes that they take"),
)
GROUP_COUNTERS = (
    ("repaired", "members_died", "Members found dead"),
    ("redelivered", "redelivered_messages", "Messages that others got again after a death"),
    ("dropped", "dropped_messages", "Messages that nobody got after a death"),
)
PARTICIPANT_COUNTERS = (
    ("messages", "messages", "Messages sent or received"),
    ("bytes", "payload_bytes", "Bytes of payload sent or received"),
    ("waits", "waits", "Times it waited: for a message, or (a producer) for room"),
    ("stalls", "full_stalls", "Times a producer waited because the ring was full"),
    ("stalled_ns", "full_stalled_seconds", "How long those waits took, once they had ended"),
    ("parks", "parks", "Times it slept"),
    ("wakes", "wakes", "Times it woke somebody"),
    ("repairs", "repairs", "Dead participants that it cleaned up after"),
    ("lost", "lost_messages", "Messages that an observer was lapped out of"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `metrics` to the command line."""
    parser = add_command(commands, "metrics", run, "OpenMetrics text for a scraper", DESCRIPTION, EPILOG)
    name = parser.add_argument("names", metavar="NAME", nargs="*", help='rings; paths if they have a "/" in them')
    name.completer = complete_ring  # type: ignore[attr-defined]
    parser.add_argument("--serve", metavar="PORT", type=port, help="answer on this port until Ctrl-C (0: any free one)")
    parser.add_argument("--address", default="127.0.0.1", help="of the interface to answer on (default: 127.0.0.1)")


def port(text: str) -> int:
    """An argparse type: a TCP port."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Carry out `shmring metrics`."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.openmetrics.exposition import generate_latest
    except ImportError:
        raise CommandFailed("prometheus_client is missing; pip install 'shmring[cli]'") from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Rings(args.names))
    if args.serve is None:
        sys.stdout.write(generate_latest(registry).decode())
        return 0
    ended = threading.Event()
    with ExitStack() as stack:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if is_heard(signum):
                stack.callback(signal.signal, signum, signal.signal(signum, lambda *_: ended.set()))
        try:
            server, thread = start_http_server(args.serve, args.address, registry)
        except OSError as error:
            raise with_filename(error, f"{args.address}, port {args.serve}") from None
        print(f"shmring: metrics: http://{args.address}:{server.server_port}/metrics", file=sys.stderr, flush=True)
        ended.wait()
        server.shutdown()
        server.server_close()
        thread.join()
    return 0


class Rings:
    """A collector: looks at the rings when it is asked."""

    def __init__(self, names: list[str]) -> None:
        self._names = list(dict.fromkeys(names))  # each sample once

    def describe(self) -> list[Any]:
        """Nothing that would have to be looked up when it is registered."""
        return []

    def collect(self) -> Iterator[Any]:
        """Metric families with the samples of this moment."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found = list(find.given(self._names)) if self._names else find.everywhere()
        looked_at = [look_at(each) for each in found]
        for ring in looked_at:
            ring["name"] = ring["name"].encode(errors="backslashreplace").decode()  # a file's need not be UTF-8
        rings = [ring for ring in looked_at if not ring["error"]]
        error = GaugeMetricFamily("shmring_ring_error", "1: it cannot be read", labels=["ring", "state"])
        for ring in looked_at:
            if ring["error"] and ring["state"] != "unreadable":
                error.add_metric([ring["name"], ring["state"]], 1)
        yield error

        def family(
            kind: Any, prefix: str, name: str, text: str, labels: list[str], rows: list[tuple[list[str], float]]
        ) -> Any:
            made = kind(f"shmring_{prefix}_{name}", text, labels=labels)
            for values, number in rows:
                made.add_metric(values, number)
            return made

        for kind, metrics in (GaugeMetricFamily, RING_GAUGES), (CounterMetricFamily, RING_COUNTERS):
            for key, name, text in metrics:
                yield family(kind, "ring", name, text, ["ring"], [([ring["name"]], float(ring[key])) for ring in rings])
        roles = [
            ([ring["name"], role], float(n)) for ring in rings for role, n in count_roles(ring["participants"]).items()
        ]
        yield family(GaugeMetricFamily, "ring", "participants", "Who is attached", ["ring", "role"], roles)
        groups = [([ring["name"], group["name"]], group) for ring in rings for group in ring["groups"]]
        for kind, metrics in (GaugeMetricFamily, GROUP_GAUGES), (CounterMetricFamily, GROUP_COUNTERS):
            for key, name, text in metrics:
                rows = [(labels, float(group[key])) for labels, group in groups]
                yield family(kind, "group", name, text, ["ring", "group"], rows)
        rows = [(labels, float(len(group["members"]))) for labels, group in groups]
        yield family(GaugeMetricFamily, "group", "members", "Live members", ["ring", "group"], rows)
        users = [
            ([ring["name"], user["role"], user["group"] or "", str(user["pid"]), str(user["slot"])], user)
            for ring in rings
            for user in ring["participants"]
        ]
        for key, name, text in PARTICIPANT_COUNTERS:
            unit = 1e-9 if key.endswith("_ns") else 1
            rows = [(labels, user[key] * unit) for labels, user in users]
            yield family(CounterMetricFamily, "participant", name, text, ["ring", "role", "group", "pid", "slot"], rows)
