"""The plots of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .rows import size_text
from .shapes import SHAPES
from .summary import QUANTILES, Results, median, series, spread

COLOURS = {
    "native": "#222222",
    "native_lamport": "#999999",
    "shmring": "#d62728",
    "mp_queue": "#1f77b4",
    "mp_pipe": "#2ca02c",
    "mqueue": "#9467bd",
}


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Every plot there are figures for."""
    drawn = []
    if results.entries("oneway"):
        drawn.append(_save(throughput(results), folder / "throughput.png"))
    if results.entries("pingpong-spin") or results.entries("pingpong-park"):
        drawn.append(_save(latency(results), folder / "latency.png"))
    return drawn


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def throughput(results: Results) -> plt.Figure:
    """Messages/s and GB/s against message size, one send and one recv each, and shmring's batches; bands are
    quartiles.
    """
    figure, (messages, volume) = plt.subplots(1, 2, figsize=(12, 4.8))
    for name, label in results.contenders().items():
        if name not in COLOURS:  # has no ring
            continue
        _lines(results, "oneway", name, label, "-", messages, volume)
        if name == "shmring":
            _lines(results, "oneway-many", name, f"{label}, batches", "--", messages, volume)
    for axes, title in ((messages, "messages per second"), (volume, "GB per second")):
        axes.set(xscale="log", yscale="log", xlabel="message size", title=title)
        sizes = sorted({entry["case"]["size"] for entry in results.entries("oneway")})
        axes.set_xticks(sizes, [size_text(size) for size in sizes], rotation=45)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    messages.legend(fontsize=8)
    return figure


def _lines(
    results: Results, shape: str, name: str, label: str, style: str, messages: Axes, volume: Axes
) -> None:
    entries = [entry for entry in results.entries(shape) if entry["contender"] == name and entry["runs"]]
    if not entries:
        return
    sizes = [entry["case"]["size"] for entry in entries]
    middle = [median(series(entry)) for entry in entries]
    quartiles = [spread(series(entry)) for entry in entries]
    for axes, scale in ((messages, [1e9] * len(sizes)), (volume, sizes)):
        axes.plot(
            sizes,
            [k / ns for k, ns in zip(scale, middle, strict=True)],
            style,
            marker=".",
            color=COLOURS[name],
            label=label,
        )
        low = [k / high for k, (_, high) in zip(scale, quartiles, strict=True)]
        high = [k / low for k, (low, _) in zip(scale, quartiles, strict=True)]
        axes.fill_between(sizes, low, high, color=COLOURS[name], alpha=0.12, linewidth=0)


def latency(results: Results) -> plt.Figure:
    """Percentiles of the round trips and of the wake-up."""
    shapes = [shape for shape in ("pingpong-spin", "pingpong-park", "wakeup") if results.entries(shape)]
    figure, all_axes = plt.subplots(1, len(shapes), figsize=(4.6 * len(shapes), 4.4), squeeze=False)
    for axes, shape in zip(all_axes[0], shapes, strict=True):
        for entry in results.entries(shape):
            if entry["runs"]:
                heights = [median(series(entry, name)) / 1e3 for name in QUANTILES]
                axes.plot(
                    list(QUANTILES),
                    heights,
                    marker="o",
                    color=COLOURS[entry["contender"]],
                    label=entry["label"],
                )
        axes.set(yscale="log", title=SHAPES[shape].partition(",")[0] + f"\n({shape})", ylabel="µs")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
