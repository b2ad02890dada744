"""Whether a model can write a text, by its tokenizer: what it spells in bytes it can hardly learn.

A byte-level vocabulary has tokens for every text, but a letter that takes several of them has to be
written without a mistake in any, and was rarely seen in training. Loads no model.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from core.japanese import has_japanese_letter

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer  # the bot starts without it

MAX_TOKENS_PER_LETTER = 1.5
"""A Japanese vocabulary needs less than one, gpt2's about 1.5, one of bytes 3."""
UNKNOWN_TOKENS = 4
"""What a letter that has no token counts as: the most bytes that a letter takes."""
MAX_CACHED = 8
"""Tokenizers that are kept in memory."""


class Script(Enum):
    """What a model can hardly write."""

    JAPANESE = auto()
    SIGNS = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Speller:
    """A tokenizer; the id of what it does not know, if any, and the `space` that it may put before
    a text."""

    tokenizer: FastTokenizer
    unknown_id: int | None
    space: str

    def hard_script(self, text: str) -> Script | None:
        """What of a text the model can hardly write; None if it can write all of it."""
        if text.isascii():
            return None
        runs = list(_foreign_runs(text))
        letters = [run for kind, run in runs if kind == "L"]
        tokens = sum(map(self._count, letters))
        if tokens > MAX_TOKENS_PER_LETTER * sum(map(len, letters)):
            return Script.JAPANESE if any(map(has_japanese_letter, letters)) else Script.OTHER
        signs = {sign for kind, run in runs if kind == "S" for sign in run}
        return Script.SIGNS if any(map(self._is_spelt, signs)) else None

    def _is_spelt(self, sign: str) -> bool:
        """Whether a sign is written byte by byte."""
        return self._count(sign) >= len(sign.encode())

    def _count(self, text: str) -> int:
        """The tokens of a text, without a space that the tokenizer puts before it."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        tokens = zip(found.ids, found.tokens, found.offsets, strict=True)
        return sum(
            UNKNOWN_TOKENS * (end - start) if number == self.unknown_id else piece != self.space
            for number, piece, (start, end) in tokens
        )


def _foreign_runs(text: str) -> Iterator[tuple[str, str]]:
    """Runs of letters ("L") and of signs such as emoji ("S") that are neither ASCII nor Latin:
    accented letters are few, and two bytes at most."""
    for kind, run in groupby(text, key=_kind):
        if kind:
            yield kind, "".join(run)


def _kind(char: str) -> str:
    if char.isascii() or "LATIN" in unicodedata.name(char, ""):
        return ""
    category = unicodedata.category(char)
    return "L" if category[0] == "L" else "S" if category == "So" else ""


def open_speller(source: str) -> Speller | None:
    """The speller of a folder or Hub id; None if it has no tokenizer on this machine that can be
    read safely. Blocks; a tokenizer is read once."""
    from model.convert.artifact import TOKENIZER_FILE
    from model.convert.sentencepiece import find_sentencepiece
    from model.convert.validation import resolve_source

    try:
        folder = resolve_source(source, download=False)
    except (OSError, ValueError):
        return None
    file = folder / TOKENIZER_FILE
    found = file if file.is_file() else find_sentencepiece(folder)
    return _open(found, found.stat().st_mtime_ns) if found else None


@lru_cache(MAX_CACHED)
def _open(file: Path, _changed_ns: int) -> Speller | None:
    from model.convert.sentencepiece import load_sentencepiece
    from model.tokenizer import SENTENCEPIECE_SPACE, has_regex, open_fast_tokenizer

    try:
        fast = open_fast_tokenizer(file) if file.suffix == ".json" else load_sentencepiece(file, {})
    except (OSError, ValueError):
        return None
    parts = json.loads(fast.to_str())
    if has_regex(parts):
        return None  # a stranger's pattern may run for ever, and this is the bot's process
    unknown = parts["model"].get("unk_token")
    unknown_id = fast.token_to_id(unknown) if unknown else parts["model"].get("unk_id")
    return Speller(fast, unknown_id, SENTENCEPIECE_SPACE)
