"""Draws the chart of a data set: `python -m training.plots.dataset OUT.png`, with JSON on stdin.

    {"language": "en", "lengths_user": [12, …], "lengths_bot": [40, …],
     "by_source": {"teach": 3}, "by_status": {}}

Lengths are in characters; sources and statuses are labelled by their keys. It runs in a child
process, as the bot's never imports matplotlib.
"""

from __future__ import annotations

from core.subprocesses import lower_priority

if __name__ == "__main__":
    lower_priority(12)  # replies go first; before the imports, which take longest

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from i18n.phrase import phrase, phrases
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

USER, BOT, BAR = "#f0b232", "#7d8bf7", "#7d8bf7"
BINS = 30
MAX_BARS, MAX_NAME_COLUMNS = 8, 24
"""The sources with a bar, and the width of their names in columns."""
MAX_PERCENTILE = 99.0
"""The axis ends at this percentile of the lengths; longer ones are counted in the last bin."""


class ChartData(TypedDict):
    """What is drawn; `by_status` counts the examples that wait, are accepted and so on."""

    language: str
    lengths_user: Sequence[int]
    lengths_bot: Sequence[int]
    by_source: Mapping[str, int]
    by_status: Mapping[str, int]


def draw_chart(numbers: ChartData, path: Path) -> None:
    """A histogram of the lengths above bars of the sources."""
    with use_language(numbers["language"]), mpl.rc_context({"font.family": font_families()}):
        _figure(numbers).savefig(path, format="png")


def _figure(numbers: ChartData) -> Figure:
    figure, (lengths, sources) = panels(_title(numbers))
    _histogram(lengths, numbers["lengths_user"], numbers["lengths_bot"])
    _bars(sources, numbers["by_source"])
    return figure


def _title(numbers: ChartData) -> str:
    count = len(numbers["lengths_user"])
    title = say(phrases("{count:,} example", "{count:,} examples", count))
    counted = {state: many for state, many in numbers["by_status"].items() if many}
    states = [say("{count:,} {state}", count=n, state=state) for state, n in counted.items()]
    return truncate(" · ".join([title, *states]), 100)


def _histogram(axes: Axes, user: Sequence[int], bot: Sequence[int]) -> None:
    axes.set_title(say("How long they are"), color=TEXT_COLOUR, fontsize=14, loc="left", pad=12)
    both = np.concatenate([np.asarray(user, float), np.asarray(bot, float)])
    if not both.size:
        draw_placeholder(axes, say("no examples yet"))
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
        draw_placeholder(axes, say("no examples yet"))
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
    return [(truncate(name or say("unknown"), MAX_NAME_COLUMNS), count) for name, count in shown]


if __name__ == "__main__":
    draw_from_stdin(draw_chart)
