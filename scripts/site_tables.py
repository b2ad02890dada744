"""Wide tables of the site, for phones (a hook of mkdocs; `docs/site.css` has the other half).

A table of sentences in four or more columns does not fit. On a phone each of its rows is a card, a
cell below the other, and every cell says which column it is of: here it is told its heading. Tables
of figures stay tables, since they are compared down the columns.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LEAST_COLUMNS, LEAST_LETTERS = 4, 40
"""Of a table that becomes cards, and of the longest cell in it."""
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
HEADING = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
CELL = re.compile(r"<td([^>]*)>(.*?)</td>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    return TABLE.sub(lambda table: as_cards(table[0]), html)


def as_cards(table: str) -> str:
    """The table with its headings at its cells, if it is one of sentences."""
    headings = [TAG.sub("", one).strip() for one in HEADING.findall(table)]
    longest = max((_width(TAG.sub("", text)) for _, text in CELL.findall(table)), default=0)
    if len(headings) < LEAST_COLUMNS or longest < LEAST_LETTERS:
        return table
    return ROW.sub(
        lambda row: _labelled(row[0], headings), table.replace("<table", "<table data-cards")
    )


def _width(text: str) -> int:
    """The width in Latin letters: a Japanese one is as wide as two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _labelled(row: str, headings: list[str]) -> str:
    column = count()
    return CELL.sub(
        lambda cell: f'<td{cell[1]} data-label="{headings[next(column)]}">{cell[2]}</td>', row
    )
