"""The loss curve of a run, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from i18n.catalogue import ENGLISH
from i18n.reader import say, use_language
from training.plots.fonts import font_families


def draw_loss_curve(
    history: Sequence[Mapping[str, float]], path: Path, *, title: str, language: str = ENGLISH
) -> None:
    """Plot the loss (nats a token) over the optimiser steps, raw and smoothed."""
    with use_language(language), mpl.rc_context({"font.family": font_families()}):
        _figure(history, title).savefig(path)


def _figure(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    steps = [entry["step"] for entry in history]
    losses = [entry["loss"] for entry in history]
    figure = Figure(figsize=(7, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#5865F2", alpha=0.35, linewidth=1, label=say("each step"))
    axes.plot(steps, _smooth(losses), color="#5865F2", linewidth=2, label=say("smoothed"))
    axes.set(xlabel=say("step"), ylabel=say("loss (nats a token)"), ylim=(0, None))
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3)."""
    out, average = [], 0.0
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**n))
    return out
