"""How Japanese is wrapped in the table of the doctor."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from bot.cli.doctor.account import check_account
from bot.cli.doctor.command import findings_table, wrap_japanese
from bot.ops.checks.machine import check_memory
from bot.settings import Settings
from i18n.reader import use_language


async def test_the_columns_are_even(settings: Settings) -> None:
    with use_language("ja"):
        console = Console(file=StringIO(), width=70)
        with console.capture() as captured:
            console.print(
                findings_table([check_memory(settings), *await check_account(None)], console.width)
            )
    begin = len("ok  ") + cell_len("インテント") + 2
    lines = captured.get().splitlines()
    assert len(lines) > 7  # some of it takes more than a line
    for line in lines:
        assert cell_len(line) <= console.width
        name = set_cell_size(line, begin)
        assert line.startswith(name), line
        assert name.endswith("  "), line
        assert not line.removeprefix(name).startswith(" "), line


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("All of it in Latin letters is left to Rich.", 10, 1),
        ("短い", 10, 1),
        ("三文字。", 6, 2),
        ("（括弧）で始まる", 8, 2),
        ("長い名前 https://example.com/a/b が入る文", 12, 3),
    ],
)
def test_where_a_line_ends(text: str, width: int, lines: int) -> None:
    found = wrap_japanese(text, width).split("\n")
    assert len(found) == lines
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert not any(line.startswith(tuple("、。）")) for line in found)
    assert not any(line.endswith("（") for line in found)
