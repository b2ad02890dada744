"""The fonts of plots. Matplotlib's own has no Japanese letters, so a packaged one is added."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib import font_manager

FALLBACK_FONTS = ["Noto Sans CJK JP", "Noto Emoji", "Segoe UI Symbol"]
"""For names in other scripts, if one of these is installed."""


def font_families() -> list[str]:
    """The value of `font.family`: each letter is drawn in the first of these that has it."""
    with mpl.rc_context():  # importing the package changes the default font of all plots
        from matplotlib_fontja.matplotlib_fontja import FONT_NAME
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", FONT_NAME, *(name for name in FALLBACK_FONTS if name in installed)]
