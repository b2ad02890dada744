"""How a cell shows its number: as a date, a duration, a share or with leading zeros (18.8.30).

Thousands separators, units, currencies and colours are not shown: 1,200 kg is 1200.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import ROUND_HALF_UP, Decimal
from operator import eq, ge, gt, le, lt, ne

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

GENERAL = "General"
JAPANESE_DATE_FORMAT_IDS = frozenset((*range(27, 37), *range(50, 59)))
"""Built-in formats that are dates in a Japanese Excel (ECMA-376, part 1, 18.8.30)."""
_A_DATE = "yyyy-mm-dd"
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_NOON_S, _DAY_S = 43_200, 86_400
_TOO_MANY_DAYS = 10**12
_SECTION = re.compile(r'(?:[^;"\\]|"[^"]*"|\\.)+')
_CONDITION = re.compile(r"\[(<=|<>|>=|<|=|>)(-?\d+(?:\.\d+)?)\]")
_HOLDS = {"<": lt, "<=": le, "=": eq, "<>": ne, ">": gt, ">=": ge}
_NOT_SHOWN = re.compile(r'("[^"]*"|\\.)|[_*].|\[(?!(?:h+|m+|s+)\])[^\]]*\]', re.IGNORECASE)
"""Spaces as wide as a character, fillers, colours and conditions; literals are kept."""
_LITERAL = re.compile(r'"([^"]*)"|\\(.)')
_DURATION = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_DURATION_PART = re.compile(r'"([^"]*)"|\\(.)|(AM/PM|A/P)|\[?(([hms])\5*)\]?|\.(0+)', re.IGNORECASE)
_HALF_OF_DAY = re.compile("AM/PM|A/P", re.IGNORECASE)
_ZEROS = re.compile(r'(?:[0 ()/-]|\\[^0]|"[^"0]*")+')
_SHARE = re.compile(r'(?:#,##)?0(?:\.(0+))?(\\? |" ")?%')


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
        at = whole_number(style)
        code = self.codes[at] if at < len(self.codes) else GENERAL
        if not math.isfinite(number):
            raise ValueError(raw)
        shown = None if code == GENERAL else self._shown(number, _section(code, number))
        # as in the format "General": with up to 15 digits
        return shown or (raw if raw.isdecimal() else f"{number:.15g}")

    def _shown(self, number: float, code: str) -> str | None:
        bare = _LITERAL.sub("", code)
        if _DURATION.search(bare):
            return _duration(number, code) if abs(number) < _TOO_MANY_DAYS else None
        if is_date_format(code):
            if (wrap_s := _wraps_after_s(bare)) and abs(number) < _TOO_MANY_DAYS:
                return _duration(number, code, wrap_s)
            return _date(number, self.uses_1904_epoch)
        if (share := _SHARE.fullmatch(code)) and abs(number) < 10**15:
            return _share(number, share)
        if _ZEROS.fullmatch(code) and bare.count("0") > 1 and number.is_integer():
            return _with_zeros(int(number), code)
        return None


def _section(code: str, number: float) -> str:
    """The section of a code that shows the number: the first, or the first whose condition holds.

    The section for negative numbers is not looked at: they get a minus sign instead.
    """
    for section in _SECTION.findall(code):
        condition = _CONDITION.search(section)
        if not condition or _HOLDS[condition[1]](number, float(condition[2])):
            return _NOT_SHOWN.sub(r"\1", section).strip()
    return GENERAL


def _wraps_after_s(bare: str) -> int:
    """Seconds after which a time starts again at 0: `h:mm` after a day, `mm:ss` after an hour. 0:
    the code shows a day, month or year."""
    units = _HALF_OF_DAY.sub("", bare).lower()
    if re.search("[ydeg]", units) or not re.search("[hs]", units):
        return 0
    return _DAY_S if "h" in units else 3600 if "m" in units else 60


def _share(number: float, code: re.Match[str]) -> str:
    places, space = code.groups()
    percent = 100 * Decimal(f"{number:.15g}")
    rounded = percent.quantize(Decimal(1).scaleb(-len(places or "")), ROUND_HALF_UP)
    return f"{rounded + 0:f}{' ' if space else ''}%"  # + 0: no minus sign before a zero


def _with_zeros(number: int, code: str) -> str:
    """`000-0000`: a digit for each zero; the first also stands for all before it."""
    code = _LITERAL.sub(lambda found: found[1] or found[2] or "", code)
    places = code.count("0")
    digits = f"{abs(number):0{places}d}"
    first = digits[: len(digits) - places + 1]
    others = iter(digits[len(first) :])
    start, _, rest = code.partition("0")
    filled = "".join(next(others) if char == "0" else char for char in rest)
    return ("-" if number < 0 else "") + start + first + filled


def _duration(days: float, code: str, wrap_s: int = 0) -> str:
    """`[h]:mm:ss`: the first unit counts on, unless it wraps; the others are what is left over."""
    parts = list(_DURATION_PART.finditer(code))
    smallest = [part[5].lower() for part in parts if part[5]][-1]
    digits = max(len(part[6] or "") for part in parts) if smallest == "s" else 0
    left = round(abs(days) * _DAY_S * 10**digits)
    if wrap_s:
        left %= wrap_s * 10**digits
    is_12_hour, is_afternoon = any(part[3] for part in parts), left >= _NOON_S * 10**digits
    if smallest != "s":
        left -= left % _SECONDS[smallest]  # Excel cuts, it does not round

    def shown(part: re.Match[str]) -> str:
        nonlocal left
        if part[6]:
            return f".{left:0{digits}d}" if digits else part[0]
        if part[3]:
            morning, afternoon = part[3].upper().split("/")
            return str(afternoon if is_afternoon else morning)
        if not part[5]:
            return part[1] or part[2] or ""
        count, left = divmod(left, _SECONDS[part[5].lower()] * 10**digits)
        if is_12_hour and part[5].lower() == "h":
            count = count % 12 or 12
        return f"{count:0{len(part[4])}d}"

    return ("-" if days < 0 else "") + _DURATION_PART.sub(shown, code)


def _date(days: float, from_1904: bool) -> str:
    try:
        at = from_excel(days, CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900)
    except (OverflowError, ValueError):
        return f"{days:.15g}"
    is_midnight = isinstance(at, datetime) and at.time() == time()
    return str(at.date() if is_midnight else at)


def whole_number(text: str | None) -> int:
    """A whole number from 1 in an attribute, or else 0."""
    return int(text) if text and text.isdecimal() else 0
