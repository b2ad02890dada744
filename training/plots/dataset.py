"""Draws the chart of a data set: `python -m training.plots.dataset OUT.png`, with JSON on stdin.

    {"language": "en", "lengths_user": [12, …], "lengths_bot": [40, …],
     "by_source": {"teach": 3}, "by_status": {}}

Lengths are in characters; sources and statuses are labelled by their keys. It runs in a child
process, as the bot's never imports matplotlib.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and hasattr(os, "nice"):
    os.nice(12)  # replies go first; before the imports, which take longest

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.cells import cell_len, set_cell_size

from core.limits import limit_resources
from i18n.phrase import phrase, phrases
from i18n.reader import say, use_language
from training.plots.fonts import font_families

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, DPI = (12.0, 6.0), 100
BACKGROUND_COLOUR, TEXT_COLOUR, MUTED_COLOUR = "#2b2d31", "#f2f3f5", "#b5bac1"
USER, BOT, BAR = "#f0b232", "#7d8bf7", "#7d8bf7"
"""A background of its own is readable in Discord's dark and light themes."""
BINS = 30
MAX_BARS, MAX_NAME_COLUMNS = 8, 24
"""The sources with a bar, and the width of their names in columns."""
MAX_PERCENTILE = 99.0
"""The axis ends at this percentile of the lengths; longer ones are counted in the last bin."""


MAX_MEMORY_BYTES, MAX_CPU_S, MAX_FILE_BYTES = 2**30, 30.0, 10**7
"""What drawing may take; it takes a tenth for a million examples."""


class ChartData(TypedDict):
    """What is drawn; `by_status` counts the examples that wait, are accepted and so on."""

    language: str
    lengths_user: Sequence[int]
    lengths_bot: Sequence[int]
    by_source: Mapping[str, int]
    by_status: Mapping[str, int]


def draw_chart(numbers: ChartData, path: Path) -> None:
    """A histogram of the lengths beside bars of the sources, 1200 by 600 pixels."""
    with use_language(numbers["language"]), mpl.rc_context({"font.family": font_families()}):
        _figure(numbers).savefig(path, format="png")


def _figure(numbers: ChartData) -> Figure:
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor=BACKGROUND_COLOUR)
    figure.get_layout_engine().set(w_pad=0.25, h_pad=0.2, wspace=0.04)  # type: ignore[union-attr, call-arg]
    lengths, sources = figure.subplots(1, 2, width_ratios=(1.35, 1))
    figure.suptitle(_title(numbers), color=TEXT_COLOUR, fontsize=15, x=0.5, parse_math=False)
    for axes in (lengths, sources):
        _style_axes(axes)
    _histogram(lengths, numbers["lengths_user"], numbers["lengths_bot"])
    _bars(sources, numbers["by_source"])
    return figure


def _title(numbers: ChartData) -> str:
    count = len(numbers["lengths_user"])
    title = say(phrases("{count:,} example", "{count:,} examples", count))
    counted = {state: many for state, many in numbers["by_status"].items() if many}
    states = [say("{count:,} {state}", count=n, state=state) for state, n in counted.items()]
    return _truncate(" · ".join([title, *states]), 100)


def _style_axes(axes: Axes) -> None:
    axes.set_facecolor(BACKGROUND_COLOUR)
    axes.tick_params(colors=MUTED_COLOUR, labelsize=12, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _histogram(axes: Axes, user: Sequence[int], bot: Sequence[int]) -> None:
    axes.set_title(say("How long they are"), color=TEXT_COLOUR, fontsize=14, loc="left", pad=12)
    both = np.concatenate([np.asarray(user, float), np.asarray(bot, float)])
    if not both.size:
        _draw_placeholder(axes)
        return
    top = max(10, int(np.ceil(np.percentile(both, MAX_PERCENTILE))))
    edges = np.linspace(0, top + 1, min(BINS, top + 1) + 1).tolist()
    for values, colour, what in ((user, USER, phrase("questions")), (bot, BOT, phrase("answers"))):
        shown = np.minimum(np.asarray(values, float), top)
        half = float(np.median(values)) if len(values) else 0.0
        half_of_them = phrase("{what}, half of them up to {half:,.0f}", what=what, half=half)
        label = say(half_of_them if len(values) else what)
        style = {"color": colour, "linewidth": 2}
        axes.hist(shown, edges, color=colour, alpha=0.4, label=label)
        axes.hist(shown, edges, histtype="step", **style)  # type: ignore[arg-type]
    longer = int((both > top).sum())
    unit = say("characters")
    if longer:
        unit = say("characters ({count:,} longer ones in the last bar)", count=longer)
    axes.set_xlabel(unit, color=MUTED_COLOUR, fontsize=12)
    axes.set_ylabel(say("examples"), color=MUTED_COLOUR, fontsize=12)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color=MUTED_COLOUR, alpha=0.18)
    axes.set_axisbelow(True)
    axes.margins(y=0.18)
    axes.legend(frameon=False, labelcolor=TEXT_COLOUR, fontsize=12, loc="upper right")


def _bars(axes: Axes, by_source: Mapping[str, int]) -> None:
    axes.set_title(say("Where they come from"), color=TEXT_COLOUR, fontsize=14, loc="left", pad=12)
    rows = _largest(by_source)
    if not rows:
        _draw_placeholder(axes)
        return
    places = range(len(rows))
    most = max(count for _, count in rows)
    bars = axes.barh(places, [count for _, count in rows], height=0.62, color=BAR)
    axes.bar_label(
        bars, [f"{count:,}" for _, count in rows], padding=6, color=TEXT_COLOUR, fontsize=12
    )
    axes.set_yticks(places, [name for name, _ in rows], color=TEXT_COLOUR, parse_math=False)
    axes.set(ylim=(max(5, len(rows)) - 0.4, -0.6), xlim=(0, most * 1.25), xticks=[])


def _largest(by_source: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest sources, and the others as one row; empty ones are left out."""
    filled = [(name, count) for name, count in by_source.items() if count]
    rows = sorted(filled, key=lambda row: (-row[1], row[0]))
    shown, others = rows[:MAX_BARS], rows[MAX_BARS:]
    if others:
        name = say(phrases("{count:,} other", "{count:,} others", len(others)))
        shown.append((name, sum(count for _, count in others)))
    return [(_truncate(name or say("unknown"), MAX_NAME_COLUMNS), count) for name, count in shown]


def _draw_placeholder(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, say("no examples yet"), color=MUTED_COLOUR, fontsize=14, ha="center")


def _truncate(text: str, most: int) -> str:
    """At most `most` columns of the text; a Japanese letter takes two."""
    line = " ".join(text.split())
    return line if cell_len(line) <= most else f"{set_cell_size(line, most - 1).rstrip()}…"


def main() -> None:
    """Read the numbers from stdin and draw them."""
    limit_resources(memory=MAX_MEMORY_BYTES, cpu_s=MAX_CPU_S, file_bytes=MAX_FILE_BYTES)
    draw_chart(json.load(sys.stdin), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
