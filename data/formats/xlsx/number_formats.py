"""How a cell shows its number: as a date, a duration, a share or with leading zeros (18.8.30).

Thousands separators, units, currencies and colours are not shown: 1,200 kg is 1200.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

GENERAL = "General"
JAPANESE_DATE_FORMAT_IDS = frozenset((*range(27, 37), *range(50, 59)))
"""Built-in formats that are dates in a Japanese Excel (ECMA-376, part 1, 18.8.30)."""
_A_DATE = "yyyy-mm-dd"
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"\[(h+|m+|s+)\](?:[^hms.;]*(m+))?(?:[^hms.;]*(s+))?(?:\.(0+))?", re.IGNORECASE
)
_ZEROS = re.compile(r"0{2,}")
_SHARE = re.compile(r"0(?:\.(0+))?%")


def format_code(id_: int, custom: dict[int, str]) -> str:
    """The code of a number format by its id."""
    if id_ in custom:
        return custom[id_]
    return _A_DATE if id_ in JAPANESE_DATE_FORMAT_IDS else BUILTIN_FORMATS.get(id_, GENERAL)


@dataclass(frozen=True, slots=True)
class NumberFormats:
    """The format codes of the cell styles, by id, and whether day 0 is in 1904."""

    codes: Sequence[str] = ()
    uses_1904_epoch: bool = False

    def text(self, raw: str, style: str) -> str:
        """The number as the cell shows it.

        Raises:
            ValueError: it is no number.
        """
        number = float(raw)
        at = int(style) if style.isdecimal() else 0
        code = self.codes[at] if at < len(self.codes) else GENERAL
        if duration := _DURATION.search(code):
            return _duration(number, duration)
        if is_date_format(code):
            return _date(number, self.uses_1904_epoch)
        if share := _SHARE.fullmatch(code):
            return f"{100 * number:.{len(share[1] or '')}f}%"
        if _ZEROS.fullmatch(code) and number.is_integer():
            return f"{int(number):0{len(code)}d}"
        # as in the format "General": with up to 15 digits
        return raw if raw.isdecimal() else f"{number:.15g}"


def _duration(days: float, code: re.Match[str]) -> str:
    """`[h]:mm:ss`: the first unit counts on beyond a day, the others are what is left over."""
    shown, minutes, seconds, fraction = code.groups()
    digits = len(fraction or "")
    units = [unit for unit in (shown, minutes, seconds) if unit]
    smallest = 10**digits if units[-1][0].lower() == "s" else 1
    left = round(abs(days) * 86_400 * smallest)
    if smallest == 1 and not seconds and units[-1][0].lower() != "s":
        left -= left % _SECONDS[units[-1][0].lower()]  # Excel cuts, it does not round
    pieces = []
    for unit in units:
        length = _SECONDS[unit[0].lower()] * smallest
        pieces.append(f"{left // length:0{len(unit)}d}")
        left %= length
    after = f".{left:0{digits}d}" if digits else ""
    return ("-" if days < 0 else "") + ":".join(pieces) + after


def _date(days: float, from_1904: bool) -> str:
    try:
        moment = from_excel(days, CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900)
    except (OverflowError, ValueError):
        return f"{days:.15g}"
    is_midnight = isinstance(moment, datetime) and moment.time() == time()
    return str(moment.date() if is_midnight else moment)
