"""A ring's counters as OpenTelemetry metrics. Needs opentelemetry-sdk.

The process that exports attaches for reading only: it disturbs nobody, and may run anywhere on the machine. To send the metrics
to a collector, give MeterProvider a PeriodicExportingMetricReader with an OTLP exporter in place of the reader below.
"""

import os

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import shmring

NAME = f"otel-{os.getpid()}"


def watch(ring, meter):
    """Observable instruments: each collection reads the ring's statistics."""

    def groups(field):
        return lambda _: [Observation(getattr(each, field), {"group": each.name}) for each in ring.stats().groups]

    def participants(field, role):
        return lambda _: [
            Observation(getattr(each, field), {"slot": each.slot, "pid": each.pid})
            for each in ring.stats().participants
            if each.role == role
        ]

    meter.create_observable_gauge("shmring.fill", [lambda _: [Observation(ring.stats().fill)]], unit="1")
    meter.create_observable_gauge("shmring.group.lag", [groups("lag")], unit="{message}")
    meter.create_observable_counter("shmring.group.redelivered", [groups("redelivered")], unit="{message}")
    meter.create_observable_counter("shmring.deaths", [lambda _: [Observation(ring.stats().repairs)]], unit="{participant}")
    meter.create_observable_counter("shmring.sent", [participants("messages", "producer")], unit="{message}")
    meter.create_observable_counter("shmring.stalls", [participants("stalls", "producer")], unit="{wait}")
    meter.create_observable_counter("shmring.stalled", [participants("stalled_ns", "producer")], unit="ns")


with shmring.create(NAME, "1 MiB") as ring, ring.producer() as tx, ring.consumer("work") as rx:
    ring.remove_group("default")
    tx.send_many([b"job"] * 10)
    rx.recv_many(3)

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    with shmring.open(NAME, readonly=True) as seen:
        watch(seen, provider.get_meter("shmring"))
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                print(f"{metric.name}{dict(point.attributes)} {point.value}")
        provider.shutdown()
shmring.unlink(NAME)
