"""The text that int8 is fitted to and checked on, as token ids.

`talk.en.txt` and `talk.ja.txt` are small talk in the languages of the embedded models: a line is
what one of two people says, and an empty line ends a talk. (English: chitchat-dataset, MIT.)
Does not know what is measured on it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from core.records import Conversation, Message, Role
from model.chat_template import encode_chat
from model.errors import RunawayModel
from model.tokenizer import Tokenizer

ROW_TOKENS = 128
"""Tokens that are read at once; a row begins where a talk does."""
ROWS = 8
"""Rows to fit to, and as many others to check on: 2,048 tokens together."""
MIN_DIFFERENT_TOKENS = 24
"""A tokenizer that makes fewer of all the talk does not know its language."""
_ROLES = (Role.USER, Role.ASSISTANT)


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """Rows of token ids: some to fit to, others to check on; there is at least one of each."""

    calibration: Sequence[Sequence[int]]
    check: Sequence[Sequence[int]]


def calibration_text(tokenizer: Tokenizer, positions: int, *, japanese: bool) -> CalibrationText:
    """Talk as the model reads it, in rows that fit its `positions`; for a tokenizer that makes
    nothing of it, tokens drawn at random."""
    length = min(ROW_TOKENS, positions)
    try:
        rows = list(itertools.islice(_talk_rows(tokenizer, length, japanese), _all_rows(length)))
    except (TemplateError, RunawayModel):
        rows = []  # whoever loads the model is told
    different = len({one for row in rows for one in row})
    if different < MIN_DIFFERENT_TOKENS or len(rows) < 2:
        rows = _random_rows(tokenizer, length)
    half = len(rows) // 2
    return CalibrationText(rows[:half], rows[half:])


def _all_rows(length: int) -> int:
    """As many tokens for a model with few positions, in more rows."""
    return 2 * ROWS * ROW_TOKENS // length


def _talk_rows(tokenizer: Tokenizer, length: int, japanese: bool) -> Iterator[list[int]]:
    row: list[int] = []
    for talk in read_talks(japanese):
        row += encode_chat(tokenizer, talk, add_generation_prompt=False)
        if len(row) >= length:
            yield row[:length]
            row = []


def read_talks(japanese: bool) -> list[Conversation]:
    """All that int8 is fitted to and checked on."""
    file = Path(__file__).with_name("talk.ja.txt" if japanese else "talk.en.txt")
    return [
        tuple(
            Message(role, line)
            for role, line in zip(itertools.cycle(_ROLES), talk.splitlines(), strict=False)
        )
        for talk in file.read_text(encoding="utf-8").split("\n\n")
    ]


def _random_rows(tokenizer: Tokenizer, length: int) -> list[list[int]]:
    ids = sorted(set(tokenizer.get_vocab().values()))
    draw = random.Random(0)
    return [draw.choices(ids, k=length) for _ in range(_all_rows(length))]
