"""Decodes text files: UTF-8, UTF-16 with a BOM, or the Shift_JIS of Japanese Windows.

A few broken bytes in UTF-8 stay in the text as lone surrogates: only their rows are refused.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from core.errors import ImportRefused
from i18n.phrase import phrase

_KANA = re.compile("[ぁ-ヿ]")
_NOT_ASCII = re.compile(rb"[^\n]*[\x80-\xff][^\n]*")


def read_text(path: Path, name: str) -> str:
    """The text of a file.

    Raises:
        ImportRefused: it is in no encoding that we know, or in several.
    """
    return decode(path.read_bytes(), name)


def decode(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_mostly_utf8(data) or _decode_shift_jis(data, name)


def _decode_mostly_utf8(data: bytes) -> str | None:
    """The text, if most of the lines that are not ASCII are valid UTF-8."""
    broken = [_is_invalid_utf8(line[0]) for line in _NOT_ASCII.finditer(data)]
    if sum(broken) * 2 > len(broken):
        return None
    return data.decode(errors="surrogateescape")


def _is_invalid_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _decode_shift_jis(data: bytes, name: str) -> str:
    """Requires kana: without them, bytes of another encoding only happen to decode."""
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
