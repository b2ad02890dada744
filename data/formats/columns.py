"""Finds out what each column of a table holds, by its headings in English or Japanese. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.errors import ImportRefused
from i18n.phrase import phrase

HEADER_SEARCH_ROWS = 10
"""How many rows are searched for headings, not counting blank ones."""


class Field(StrEnum):
    """What a column can hold; the values are the headings of written files."""

    USER = "user"
    BOT = "bot"
    CONVERSATION = "conversation"
    TURN = "turn"
    SOURCE = "source"
    LINES = "lines"
    PROBLEM = "problem"
    OTHER = "other"


PROBLEM_PREFIX = f"{Field.PROBLEM}: "
"""How the first cell of the problem column begins in a table without headings."""
UTTERANCE_FIELDS = (Field.USER, Field.BOT)

_HEADING_SYNONYMS = {
    Field.USER: "user users usertext human question q input prompt instruction "
    "ユーザー ユーザ 利用者 人間 質問 質問文 問い 問 入力 発話",
    Field.BOT: "bot bottext assistant answer a output response reply completion "
    "ボット 回答 回答文 答え 答 返答 返事 応答 出力 アシスタント",
    Field.CONVERSATION: "conversation conversationid dialog dialogue dialogid thread "
    "会話 会話id 会話番号 対話 スレッド",
    Field.TURN: "turn turnnumber number no order 番号 順番 順序 ターン",
    Field.SOURCE: "source origin 出典 出所 引用元 ソース",
    Field.LINES: "lines 改行",
    Field.PROBLEM: "problem 問題点",
}
_FIELD_OF = {name: field for field, names in _HEADING_SYNONYMS.items() for name in names.split()}


def field_of(heading: str) -> Field | None:
    """The field that a heading names, or None.

    Case, width, spaces and a final number don't matter, and a heading may name the same field in
    two languages: "Bot 2", "user / ユーザー".
    """
    parts = (
        re.sub(r"[\s_.:)-]+|\d+[\s:)]*$", "", unicodedata.normalize("NFKC", part).casefold())
        for part in re.split(r"[/|・\n(（]", heading)
    )
    found = {_FIELD_OF[part] for part in parts if part in _FIELD_OF}
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Layout:
    """The field of each column, None for one that is not read.

    `header_row` is the number of the row of headings (0: none), `first_row` that of the first row
    that is not blank.
    """

    fields: tuple[Field | None, ...]
    header_row: int
    first_row: int

    def field_at(self, column: int) -> Field | None:
        """The field of a column; cells beyond the last one continue it if it is an utterance."""
        if column < len(self.fields):
            return self.fields[column]
        return self.fields[-1] if self.fields[-1] in UTTERANCE_FIELDS else None


SampleRows = Sequence[tuple[int, Sequence[str]]]
"""Row numbers and cells of the first rows that are not blank."""


def layout_from_header(sample: SampleRows) -> Layout | None:
    """The layout from the row of headings in the sample; None if there is none.

    Only titles (rows with one cell) may precede it. A column without a heading continues the
    utterance to its left.

    Raises:
        ImportRefused: the headings name only one of the two speakers.
    """
    for number, cells in sample:
        named = [field_of(cell) for cell in cells]
        if Field.USER in named and Field.BOT in named:
            return Layout(tuple(_fill_unheaded(cells, named)), number, number)
        if len(set(named) - {None}) > 1:
            raise ImportRefused(
                phrase(
                    "The headings name only some of the columns: write “user” above what people "
                    "say, and “bot” above what the bot answers."
                )
            )
        if sum(map(bool, map(str.strip, cells))) > 1:  # a title has one cell
            return None
    return None


def _fill_unheaded(cells: Sequence[str], named: Sequence[Field | None]) -> list[Field | None]:
    spread: list[Field | None] = []
    for cell, field in zip(cells, named, strict=True):
        if cell.strip():
            first = field in UTTERANCE_FIELDS or field not in spread
            spread.append((field or Field.OTHER) if first else Field.OTHER)
        else:
            before = spread[-1] if spread else None
            spread.append(before if before in UTTERANCE_FIELDS else None)
    return spread


def default_layout(sample: SampleRows) -> Layout:
    """Without headings: the first non-empty column is the user's, all others the bot's."""
    filled = (n for _, cells in sample for n, cell in enumerate(cells) if cell.strip())
    first = min(filled, default=0)
    fields: list[Field | None] = [None] * first + [Field.USER, Field.BOT]
    for column, cell in enumerate(sample[0][1] if sample else ()):
        marked = cell == Field.PROBLEM or cell.startswith(PROBLEM_PREFIX)
        if column > first + 1 and marked:
            fields += [Field.BOT] * (column - len(fields)) + [Field.PROBLEM]
            break
    return Layout(tuple(fields), 0, sample[0][0] if sample else 1)
