"""The fonts of plots: matplotlib's own has no Japanese letters, so one comes along that has."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib import font_manager

FALLBACK_FONTS = ["Noto Sans CJK JP", "Noto Emoji", "Segoe UI Symbol"]
"""For names in other letters, where one of these is installed."""


def font_families() -> list[str]:
    """For `font.family`: each letter is drawn in the first of these that has it."""
    with mpl.rc_context():  # importing it would make its font that of all plots
        from matplotlib_fontja.matplotlib_fontja import FONT_NAME
    there = set(font_manager.get_font_names())
    return ["DejaVu Sans", FONT_NAME, *(name for name in FALLBACK_FONTS if name in there)]
