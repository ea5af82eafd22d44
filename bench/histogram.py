"""Latencies as HDR histograms: every sample is kept, to three digits, in a few kilobytes of text in the JSON."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hdrh.histogram import HdrHistogram

QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
LONGEST_NS = 120 * 10**9
DIGITS = 3


def empty() -> HdrHistogram:
    return HdrHistogram(1, LONGEST_NS, DIGITS)


def of(samples_ns: Iterable[float]) -> HdrHistogram:
    histogram = empty()
    values, counts = np.unique(np.clip(np.asarray(samples_ns, np.int64), 1, LONGEST_NS), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram


def quantiles(histogram: HdrHistogram) -> dict[str, float]:
    return {name: float(histogram.get_value_at_percentile(percentile)) for name, percentile in QUANTILES.items()}


def merged(texts: Iterable[str]) -> HdrHistogram:
    """One histogram of several encoded ones."""
    total = empty()
    for text in texts:
        total.decode_and_add(text)
    return total


def encoded(histogram: HdrHistogram) -> str:
    return histogram.encode().decode("ascii")


def points(text: str, most: int = 160) -> list[tuple[float, float]]:
    """(ns, share of the samples that took no longer) of an encoded histogram, thinned out to about `most` points,
    more of them where the tail is."""
    histogram = merged([text])
    tail = [1 - 10 ** (-4 * i / most) for i in range(most)]
    shares = [0.0, *tail, 1.0]
    return [(float(histogram.get_value_at_percentile(100 * share)), share) for share in shares]
