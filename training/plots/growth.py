"""Draws how the bot grew: `python -m training.plots.growth OUT.png`, with JSON on stdin.

    {"language": "en", "days": ["2026-01-02", …], "totals": [3, …],
     "checkpoints": [{"name": "tiny-1", "day": "2026-01-03", "base": 4.1, "new": 0.4,
                      "passed": true}, …]}

`totals` are the examples at the end of each day; the losses are those on what was taught, in nats a
token. It runs in a child process, as the bot's never imports matplotlib.
"""

from __future__ import annotations

from core.subprocesses import lower_priority

if __name__ == "__main__":
    lower_priority(12)  # replies go first; before the imports, which take longest

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from i18n.reader import say, use_language
from training.plots.fonts import font_families
from training.plots.style import (
    MUTED_COLOUR,
    TEXT_COLOUR,
    draw_from_stdin,
    draw_placeholder,
    panels,
    truncate,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAUGHT, BEFORE, AFTER, FAILED = "#7d8bf7", "#80848e", "#3ba55d", "#ed6a6d"
MAX_NAME_COLUMNS = 16


class TrainedCheckpoint(TypedDict):
    """A training's result; `base` is None where the base was not measured."""

    name: str
    day: str
    base: float | None
    new: float
    passed: bool


class GrowthData(TypedDict):
    """What is drawn, each list with the oldest first."""

    language: str
    days: Sequence[str]
    totals: Sequence[int]
    checkpoints: Sequence[TrainedCheckpoint]


def draw_growth(numbers: GrowthData, path: Path) -> None:
    """The data set over time above the losses of the checkpoints."""
    with use_language(numbers["language"]), mpl.rc_context({"font.family": font_families()}):
        _figure(numbers).savefig(path, format="png")


def _figure(numbers: GrowthData) -> Figure:
    figure, (taught, losses) = panels(say("How I grow"))
    _taught(taught, numbers)
    _losses(losses, numbers["checkpoints"])
    return figure


def _taught(axes: Axes, numbers: GrowthData) -> None:
    axes.set_title(say("What was taught"), color=TEXT_COLOUR, fontsize=14, loc="left", pad=12)
    if not numbers["days"]:
        draw_placeholder(axes, say("no examples yet"))
        return
    days = [_place(one) for one in numbers["days"]]
    totals = list(numbers["totals"])
    edges = [days[0] - 1, *days, days[-1] + 1]
    heights = [0, *totals, totals[-1]]
    axes.step(edges, heights, where="post", color=TAUGHT, linewidth=2.5)
    axes.fill_between(edges, heights, step="post", color=TAUGHT, alpha=0.25)
    for number, one in enumerate(numbers["checkpoints"]):
        label = say("a training") if number == 0 else None
        axes.axvline(_place(one["day"]), color=AFTER, linestyle="--", linewidth=1.2, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda day, _: date.fromordinal(int(day)).isoformat())
    axes.tick_params(axis="x", pad=10)  # the first one is below the 0 of the other axis
    axes.set_ylabel(say("examples"), color=MUTED_COLOUR, fontsize=12)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, max(totals) * 1.15)
    axes.grid(axis="y", color=MUTED_COLOUR, alpha=0.18)
    if numbers["checkpoints"]:
        axes.legend(frameon=False, labelcolor=TEXT_COLOUR, fontsize=12, loc="upper left")


def _place(day: str) -> int:
    """Where a day is on the axis, whose ticks are dates without names of months: matplotlib has
    them in English only."""
    return date.fromisoformat(day).toordinal()


def _losses(axes: Axes, checkpoints: Sequence[TrainedCheckpoint]) -> None:
    title = say("How surprising my lessons are to me (loss)")
    axes.set_title(title, color=TEXT_COLOUR, fontsize=14, loc="left", pad=12)
    if not checkpoints:
        draw_placeholder(axes, say("no training yet"))
        return
    places = list(range(len(checkpoints)))
    before = [one["base"] or 0.0 for one in checkpoints]
    after = [one["new"] for one in checkpoints]
    colours = [AFTER if one["passed"] else FAILED for one in checkpoints]
    lower = [place + 0.19 for place in places]
    upper = [place - 0.19 for place in places]
    axes.barh(upper, before, height=0.36, color=BEFORE, label=say("before"))
    bars = axes.barh(lower, after, height=0.36, color=colours, label=say("after"))
    axes.bar_label(bars, [f"{loss:.2f}" for loss in after], padding=5, color=TEXT_COLOUR)
    names = [truncate(one["name"], MAX_NAME_COLUMNS) for one in checkpoints]
    axes.set_yticks(places, names, color=TEXT_COLOUR, parse_math=False)
    axes.set(ylim=(max(4, len(checkpoints)) - 0.3, -0.7), xlim=(0, max([*before, *after]) * 1.5))
    axes.set_xlabel(say("nats a token; lower is better"), color=MUTED_COLOUR, fontsize=12)
    axes.grid(axis="x", color=MUTED_COLOUR, alpha=0.18)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, labelcolor=TEXT_COLOUR, fontsize=12, loc="lower right")


if __name__ == "__main__":
    draw_from_stdin(draw_growth)
