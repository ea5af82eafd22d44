"""The plots as pictures, for README and docs/benchmarks.md: the panels of the report page, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, NullLocator

from . import panels
from .panels import COLOURS, WIDE, Panel
from .rows import time_text
from .summary import Results

DASHES = {"dash": "--"}
MOST_CURVES = 16


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Every picture there are figures for."""
    drawn = {panel["id"]: panel for panel in panels.panels(results)}
    pictures = {
        "throughput": ("throughput-messages", "throughput-bytes"),
        "latency": ("percentiles-pingpong-spin", "percentiles-pingpong-park", "percentiles-wakeup"),
        "topologies": ("mpmc", "object"),
        "cost": ("cpu", "idle"),
    }
    paths = []
    for name, ids in pictures.items():
        if found := [drawn[panel_id] for panel_id in ids if panel_id in drawn]:
            paths.append(_save(picture(found), folder / f"{name}.png"))
    return paths


def picture(found: list[Panel]) -> plt.Figure:
    figure, all_axes = plt.subplots(1, len(found), figsize=(5.6 * len(found), 5.4), squeeze=False)
    for panel, axes in zip(found, all_axes[0], strict=True):
        _bars(panel, axes) if "bars" in panel else _curves(panel, axes)
        axes.set_title(panel["title"], fontsize=11)
        axes.set_ylabel("" if "bars" in panel else panel["y"]["title"])
        axes.grid(alpha=0.3)
    return figure


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
    return path


def _curves(panel: Panel, axes: Axes) -> None:
    for curve in panel["curves"][:MOST_CURVES]:
        axes.plot(
            curve["x"],
            curve["y"],
            DASHES.get(curve.get("dash", ""), "-"),
            marker="" if panel["y"].get("is_time") else ".",
            color=COLOURS[curve["name"]],
            linewidth=2.4 if curve["name"] in WIDE else 1.2,
            label=curve["label"],
        )
    axes.set(xscale="log", yscale="log" if panel["y"]["log"] else "linear", xlabel=panel["x"]["title"])
    if ticks := panel["x"].get("ticks"):
        axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks], rotation=45, fontsize=8)
        axes.xaxis.set_minor_locator(NullLocator())
    if panel["y"].get("is_time"):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda ns, _: time_text(ns)))
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.24))


def _bars(panel: Panel, axes: Axes) -> None:
    """Lying bars, one group per setting; the contender stands beside its bar."""
    lines = [
        (f"{bar['label']}, {group}" if group else bar["label"], bar["name"], value)
        for place, group in enumerate(panel["groups"])
        for bar in panel["bars"]
        if (value := bar["values"][place]) is not None
    ]
    lines.reverse()
    axes.barh(range(len(lines)), [value for *_, value in lines], color=[COLOURS[name] for _, name, _ in lines])
    axes.set_yticks(range(len(lines)), [label for label, *_ in lines], fontsize=7)
    axes.set(xlabel=panel["y"]["title"])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
