"""Decodes text files: UTF-8, UTF-16 with a BOM, or the Shift_JIS of Japanese Windows."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from core.errors import ImportRefused
from data.formats.texts import has_lone_surrogates
from i18n.phrase import phrase

_KANA = re.compile("[ぁ-ヿ]")


def read_text(path: Path, name: str) -> str:
    """The text of a file.

    Raises:
        ImportRefused: it is in an unknown encoding, or in several.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_mostly_utf8(data) or _decode_shift_jis(data, name)


def _decode_mostly_utf8(data: bytes) -> str | None:
    """The text, if at least half of the non-ASCII lines are valid UTF-8.

    Invalid bytes become lone surrogates, so that only their rows are refused.
    """
    text = data.decode(errors="surrogateescape")
    lines = [line for line in text.split("\n") if not line.isascii()]
    return text if 2 * sum(map(has_lone_surrogates, lines)) <= len(lines) else None


def _decode_shift_jis(data: bytes, name: str) -> str:
    """Requires kana, since many bytes of other encodings happen to decode as Shift_JIS."""
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError:
        text = ""
    if not _KANA.search(text):
        raise ImportRefused(
            phrase(
                "{name} is neither UTF-8 nor Shift_JIS throughout: save it as UTF-8 (in Excel "
                "as “CSV UTF-8”).",
                name=name,
            )
        )
    return text
