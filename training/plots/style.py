"""How the charts for Discord look, and how a child process draws one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.cells import cell_len, set_cell_size

from core.limits import limit_resources

SIZE, DPI = (6.0, 7.2), 150
"""Narrow enough for its letters to be read on a phone, which shows 300 points of width."""
BACKGROUND_COLOUR, TEXT_COLOUR, MUTED_COLOUR = "#2b2d31", "#f2f3f5", "#b5bac1"
"""A background of its own is readable in Discord's dark and light themes."""
MAX_MEMORY_BYTES, MAX_CPU_S, MAX_FILE_BYTES = 2**30, 30.0, 10**7
"""What drawing may take; it takes a tenth for a million examples."""


def panels(title: str) -> tuple[Figure, tuple[Axes, Axes]]:
    """A picture of 900 by 1080 pixels with two charts below each other."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor=BACKGROUND_COLOUR)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15, hspace=0.04)  # type: ignore[union-attr, call-arg]
    # figures of their own, so that long labels of one take no width from the other
    grid = figure.add_gridspec(2, 1)
    parts = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    upper, lower = (one.subplots() for one in parts)
    figure.suptitle(title, color=TEXT_COLOUR, fontsize=15, x=0.5, parse_math=False)
    for part, axes in zip(parts, (upper, lower), strict=True):
        part.set_facecolor(BACKGROUND_COLOUR)
        _style(axes)
    return figure, (upper, lower)


def _style(axes: Axes) -> None:
    axes.set_facecolor(BACKGROUND_COLOUR)
    axes.tick_params(colors=MUTED_COLOUR, labelsize=12, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def draw_placeholder(axes: Axes, text: str) -> None:
    """What is said where there is nothing to draw."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, color=MUTED_COLOUR, fontsize=14, ha="center", parse_math=False)


def truncate(text: str, most: int) -> str:
    """At most `most` columns of the text; a Japanese letter takes two."""
    line = " ".join(text.split())
    return line if cell_len(line) <= most else f"{set_cell_size(line, most - 1).rstrip()}…"


def draw_from_stdin(draw: Callable[[Any, Path], None]) -> None:
    """Read the numbers from stdin and draw them to the file that the command line names."""
    limit_resources(memory=MAX_MEMORY_BYTES, cpu_s=MAX_CPU_S, file_bytes=MAX_FILE_BYTES)
    draw(json.load(sys.stdin), Path(sys.argv[1]))
