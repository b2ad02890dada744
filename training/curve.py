"""The loss curve of a run, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw(history: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Plot the loss (nats a token) over the optimiser steps, raw and smoothed."""
    steps = [entry["step"] for entry in history]
    losses = [entry["loss"] for entry in history]
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#5865F2", alpha=0.35, linewidth=1, label="each step")
    axes.plot(steps, _smooth(losses), color="#5865F2", linewidth=2, label="smoothed")
    axes.set(xlabel="step", ylabel="loss (nats a token)", title=title, ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


def _smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3)."""
    out, average = [], 0.0
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**n))
    return out
