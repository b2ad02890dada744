"""Where a line may end that has no spaces: between any two Japanese letters.

Rich ends lines at spaces alone, so a sentence in Japanese would fall apart at each name in it.
"""

from __future__ import annotations

import re

from rich.cells import cell_len

NO_LINE_END, NO_LINE_START = "「『（“", "、。」』）”：；！？…ーっゃゅょッャュョ"
"""What does not end a line, and what does not begin one (the usual of JIS X 4051)."""
PIECE = re.compile(rf"[{NO_LINE_END}]*(?:[!-~…]+|\S)[{NO_LINE_START}]*\s*")
"""A word in Latin letters, or one other letter, with the marks that belong to it."""


def wrap_japanese(text: str, width: int) -> str:
    """The text in lines of at most `width` cells, as far as its words allow that. Texts without
    wide letters are left to Rich."""
    if cell_len(text) == len(text):
        return text
    lines = [""]
    for piece in PIECE.findall(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
