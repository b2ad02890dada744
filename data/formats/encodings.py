"""Decodes text files: UTF-8, UTF-16, or the Shift_JIS of Japanese Windows."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from core.errors import ImportRefused
from data.formats.headings import JAPANESE_NAMES
from data.formats.texts import has_lone_surrogates
from i18n.phrase import phrase

_BOMS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_ASCII_SIGNS = frozenset(b"\n\r\t ,;:\"'{}[]<>-")
"""Bytes that stand between texts in any file of pairs; in UTF-16 each has a NUL beside it."""
_KANA = re.compile("[ぁ-ヿ]")
_HALF_WIDTH_KANA = re.compile("[\uff66-\uff9f]+")
_MARKED_KANA = re.compile("[ｳｶ-ﾄﾊ-ﾎ]ﾞ|[ﾊ-ﾎ]ﾟ|[ｱ-ｺｼ-ｿﾀﾁﾃﾄﾊ-ﾎ]ｰ")
_STRAY_MARK = re.compile(r"(?<![ｳｶ-ﾄﾊ-ﾎ])ﾞ|(?<![ﾊ-ﾎ])ﾟ|(?<![ｦ-ﾟ])ｰ|(?:^|(?<=[\s,;\"]))[､｡]")
"""A voiced, long or punctuation mark that stands where Japanese has none."""
MIN_EARLY_KANA_SHARE = 0.2
"""Of half-width kana, from ｱ to ｿ: Japanese has some 40%; in the encodings of Cyrillic and Greek
those bytes are no letters, or rare ones."""
SNIFFED_BYTES = 1 << 16
"""The beginning of a file, by which its encoding is recognised."""
_KANJI_LEAD_BYTES = frozenset(range(0x88, 0x99))
"""The first bytes, in Shift_JIS, of the usual kanji (level 1)."""
_RARE_LEAD_BYTES = frozenset((0x80, *range(0x99, 0xA1), *range(0xE0, 0x100)))
"""The first bytes, in Shift_JIS, of kanji of level 2 and beyond, and of what is no character."""
MAX_RARE_SHARE = 0.25
"""Of the characters beyond ASCII: other encodings read as Shift_JIS are full of rare kanji."""


def read_text(path: Path, name: str) -> str:
    """The text of a file.

    Raises:
        ImportRefused: it is in an unknown encoding, or in several.
    """
    data = path.read_bytes()
    if encoding := utf16_encoding(data):
        whole = data[: len(data) & ~1]  # half a character is no text
        return whole.decode(encoding, "surrogatepass").removeprefix("\ufeff")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_mostly_utf8(data) or _decode_shift_jis(data, name)


def utf16_encoding(data: bytes) -> str | None:
    """The byte order of UTF-16, by its mark or by the NULs beside ASCII; None if it is not UTF-16.

    A file in another encoding that holds some NULs is not taken for UTF-16: most of its commas,
    line ends and other signs have none beside them.
    """
    if marked := _BOMS.get(data[:2]):
        return marked
    even, odd = data[:SNIFFED_BYTES:2], data[1:SNIFFED_BYTES:2]
    for encoding, low, high in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if 0 in low or 0 not in high:
            continue
        signs = [beside for byte, beside in zip(low, high, strict=False) if byte in _ASCII_SIGNS]
        stray = sum(byte in _ASCII_SIGNS for byte in high)
        if 2 * signs.count(0) > len(signs) + stray:
            return encoding
    return None


def _decode_mostly_utf8(data: bytes) -> str | None:
    """The text, if at least half of the non-ASCII lines are valid UTF-8.

    Invalid bytes become lone surrogates, so that only their rows are refused.
    """
    text = data.decode(errors="surrogateescape")
    lines = [line for line in text.split("\n") if not line.isascii()]
    return text if 2 * sum(map(has_lone_surrogates, lines)) <= len(lines) else None


def _decode_shift_jis(data: bytes, name: str) -> str:
    """Requires a Japanese text: many bytes of other encodings happen to decode as Shift_JIS."""
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError:
        text = ""
    if not (_KANA.search(text) or JAPANESE_NAMES.search(text) or _is_plausible(data, text)):
        raise ImportRefused(
            phrase(
                "{name} is neither UTF-8 nor Shift_JIS throughout: save it as UTF-8 (in Excel "
                "as “CSV UTF-8”).",
                name=name,
            )
        )
    return text


def _is_plausible(data: bytes, text: str) -> bool:
    """Whether a text without full-width kana is Japanese: it has usual kanji, or half-width kana
    with voiced or long marks.

    What EUC-JP can be read as as well is not taken: it would be a guess.
    """
    beyond_ascii = [char.encode("cp932")[0] for char in text[:SNIFFED_BYTES] if not char.isascii()]
    rare = sum(byte in _RARE_LEAD_BYTES for byte in beyond_ascii)
    kana = _HALF_WIDTH_KANA.findall(text)
    if not beyond_ascii or rare > MAX_RARE_SHARE * len(beyond_ascii):
        return False
    if not all(len(run) > 1 for run in kana):
        return False
    if kana and not (_KANJI_LEAD_BYTES.intersection(beyond_ascii) or _is_kana(text, "".join(kana))):
        return False
    try:
        data.decode("euc_jp")
    except UnicodeDecodeError:
        return True
    return False


def _is_kana(text: str, kana: str) -> bool:
    """Whether half-width kana are Japanese, and not a one-byte encoding of another alphabet."""
    letters = [char for char in kana if char not in "ﾞﾟｰ"]
    early = sum("ｱ" <= char <= "ｿ" for char in letters)
    stray = len(_STRAY_MARK.findall(text))
    marked = len(_MARKED_KANA.findall(text))
    return marked > 10 * stray and early >= MIN_EARLY_KANA_SHARE * len(letters)
