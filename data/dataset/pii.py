"""Masks personal data and secrets: addresses, numbers and keys become `[their kind]`. Pure.

Prefers a miss to a false positive: prices, dates, times, versions and Discord ids stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from core.japanese import JAPANESE_LETTERS
from i18n.phrase import phrase

PII_HINT, KEY_MARKERS = re.compile(r"[0-9@\uff20]"), ("PRIVATE KEY", "AKIA", "ASIA")
"""A quick pre-check: everything that is masked contains one of these; most messages don't."""
MANY_DIGITS = re.compile(r"(?:[0-9][^0-9]{0,9}){7}")
"""A pre-check for card and phone numbers: at least seven digits, close together."""
MIN_DISTINCT_DIGITS = 4
"""Fewer distinct digits, as in +1000000000, are no phone number."""

SIGN_TO_ASCII = dict(zip("\uff0d\u30fc\u2212\u2010\uff08\uff09", "----()", strict=True))
"""Hyphens and brackets as a Japanese keyboard types them in numbers."""
BETWEEN_DIGITS = re.compile(rf"(?<=[0-9])[{''.join(SIGN_TO_ASCII)}](?=[0-9])")
JAPANESE = re.compile(f"[{JAPANESE_LETTERS}]")


def mask_pii(text: str) -> tuple[str, Counter[str]]:
    """The text with `[e-mail address]` and the like, and how many of each kind were masked."""
    found: Counter[str] = Counter()
    while PII_HINT.search(text) or any(key in text for key in KEY_MARKERS):
        before = found.total()
        for kind in PII_KINDS if MANY_DIGITS.search(text) else PII_KINDS_WITHOUT_NUMBERS:
            text = _mask_kind(kind, text, found)
        if found.total() == before:  # otherwise repeat: a mask may have uncovered its neighbour
            break
    return text, found


def is_webhook_url(address: str) -> bool:
    """Whether it is a webhook's address, which is a secret: anyone who has it can post there."""
    return WEBHOOK.match(address) is not None


@dataclass(frozen=True, slots=True)
class PiiKind:
    """`pattern` finds candidates, `is_valid` accepts or rejects them."""

    name: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] = lambda _: True


def _mask_kind(kind: PiiKind, text: str, found: Counter[str]) -> str:
    parts, done = [], 0
    for match in kind.pattern.finditer(_isolate_japanese(text)):
        if kind.is_valid(match["it"]):
            found[kind.name] += 1
            start, end = match.span("it")
            parts += [text[done:start], f"[{kind.name}]"]
            done = end
    return "".join([*parts, text[done:]])


def _isolate_japanese(text: str) -> str:
    """Replace Japanese letters by commas, and signs between digits by ASCII; same length. Japanese
    has no spaces, so without this a number beside it would seem part of a word."""
    if text.isascii():
        return text
    return JAPANESE.sub("\u3001", BETWEEN_DIGITS.sub(lambda sign: SIGN_TO_ASCII[sign[0]], text))


def _pattern(text: str) -> re.Pattern[str]:
    """A verbose pattern with a group `it`, by default all of it: the part to mask."""
    return re.compile(text if "?P<it>" in text else f"(?P<it>{text}\n)", re.VERBOSE)


def _passes_luhn(text: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, Luhn)."""
    digits = [int(one) for one in reversed(text) if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_personal_ip(text: str) -> bool:
    """Whether it is an IP address other than loopback or 0.0.0.0, and not a version number."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    is_ipv6 = address.version == 6
    looks_real = re.search("[0-9a-fA-F]{3}", text) if is_ipv6 else len(text) > len("1.2.3.4")
    return bool(looks_real) and not (address.is_loopback or address.is_unspecified)


def _is_phone(text: str) -> bool:
    """7 to 15 digits (ITU-T E.164), and not a count such as 01 02 03 04 05."""
    digits = re.sub("[^0-9]", "", text)
    counting = re.fullmatch(r"(?:0[0-9][ .-]){4}0[0-9]", text)
    return 7 <= len(digits) <= 15 and len(set(digits)) >= MIN_DISTINCT_DIGITS and not counting


WEBHOOK = _pattern(
    r"""
    (?i:https?://)? (?:
        (?:[a-z]+\.)? (?i:discord(?:app)?\.com)/api/(?:v[0-9]+/)?webhooks/[0-9]{15,20}/[\w-]{20,}
        | hooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]{20,}
    )
    """
)
DISCORD_TOKEN = _pattern(
    r"""
    (?<![\w-]) (?: [MNO][\w-]{22,27}\.[\w-]{6}\.[\w-]{27,} | mfa\.[\w-]{80,} ) (?![\w-])
    """
)
SECRET_KEY = _pattern(
    r"""
    -----BEGIN[ ](?:[A-Z]+[ ])*PRIVATE[ ]KEY----- (?s:.*?)
        (?: -----END[ ](?:[A-Z]+[ ])*PRIVATE[ ]KEY----- | \Z )
    | (?<![\w-]) (?:
        sk-(?=[\w-]*[0-9])[\w-]{20,}                       # OpenAI, Anthropic
        | gh[oprsu]_[A-Za-z0-9]{36,} | github_pat_\w{22,}  # GitHub
        | glpat-[\w-]{20,}                                 # GitLab
        | hf_[A-Za-z0-9]{30,}                              # Hugging Face
        | (?:AKIA|ASIA)[A-Z0-9]{16}                        # Amazon
        | AIza[\w-]{35}                                    # Google
        | xox[abeoprs]-[0-9][\w-]{10,}                     # Slack
        | [rs]k_(?:live|test)_\w{16,}                      # Stripe
        | npm_[A-Za-z0-9]{36} | pypi-AgEI[\w-]{50,}        # npm, PyPI
        | [0-9]{8,10}:AA[\w-]{33}                          # Telegram
        | dop_v1_[0-9a-f]{64}                              # DigitalOcean
        | eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}         # JSON Web Token
    ) (?![\w-])
    """
)
EMAIL = _pattern(
    r"""
    (?<![\w.%+-]) (?!git@) [\w.%+-]++ [@\uff20] (?:[\w-]+\.)+ [^\W\d_]{2,}
    """
)
CARD = _pattern(
    r"""
    (?<![\w.+-])
    (?= 4 | 5[1-5] | 2[2-7] | 3[0456789] | 6[0-9] )  # who issues them (ISO/IEC 7812)
    (?:
        [0-9]{14,16} | [0-9]{4}(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}
        | [0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5}
    )
    (?! \w | [.,-][0-9] )
    """
)
IP_ADDRESS = _pattern(
    r"""
    (?<! [\w.:] ) (?<! [Vv]ersion[ ] ) (?:
        (?:[0-9]{1,3}\.){3}[0-9]{1,3} (?! \w | \.[0-9] )
        | (?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4} (?! [\w:] )
    )
    """
)
PHONE = _pattern(
    r"""
    (?<![\w+]) \+ [1-9] (?:[ .()/-]{0,2}[0-9]){8,14} (?!\w)          # +49 170 1234567
    | (?<![\w.,/+-]) (?:
        00[1-9][0-9]{0,2} [ /-] (?:[ .()/-]{0,2}[0-9]){7,12}         # 0049 170 1234567
        | (?:1[ .-])? (?:
            \([2-9][0-9]{2}\) [ ]? [0-9]{3} [ .-] [0-9]{4}           # (555) 123-4567
            | [2-9][0-9]{2} (?P<gap>[.-]) [0-9]{3} (?P=gap) [0-9]{4} # 555-123-4567
        )
        | 0[1-9][0-9]{1,3} [ /-] [0-9]{3,8} (?:[ -][0-9]{2,4}){0,2}  # 0170 1234567
        | 0[1-9] (?:[ .-][0-9]{2}){4}                                # 06 12 34 56 78
        | 0[1-9]-[0-9]{4}-[0-9]{4}                                   # 03-1234-5678
        | 0[1-9][0-9] (?: [0-9]-[0-9] | [0-9]{2}- ) [0-9]-[0-9]{4}   # 0466-22-1234
        | 0[1-9] (?: \([0-9]{4}\) | [0-9]\([0-9]{3,4}\)             # 03(1234)5678
            | [0-9]{2}\([0-9]{2}\) | [0-9]{3}\([0-9]\) ) [0-9]{4}    # 0466(22)1234
        | \(0[1-9][0-9]{0,3}\) [ ]? [0-9]{3,4} [ -]? [0-9]{3,4}      # (03) 1234 5678
        | 0 (?:7[1-9] | [789]0 | 1[567]) [0-9]{8}                    # 09012345678, mobile
    ) (?! [ ]?[0-9] | \w | [.,:/-][0-9] )
    """
)
PHONE_AFTER_KEYWORD = _pattern(
    r"""
    (?i: \b (?:phone|telephone|tel|mobile|cell|whatsapp|handy|call[ ]me|text[ ]me) \b )
    (?i: [ ](?:number|no|nr|at|on|is) ){0,2} [ ]? [.:]? [ ]?
    (?P<it> [0-9](?:[ -]?[0-9]){6,14} ) (?! \w | [.,:/-]?[0-9] )     # call me at 5551234567
    """
)

PII_KINDS = (
    PiiKind(phrase("webhook address"), WEBHOOK),
    PiiKind(phrase("Discord token"), DISCORD_TOKEN),
    PiiKind(phrase("secret key"), SECRET_KEY),
    PiiKind(phrase("e-mail address"), EMAIL),
    PiiKind(phrase("card number"), CARD, _passes_luhn),
    PiiKind(phrase("IP address"), IP_ADDRESS, _is_personal_ip),
    PiiKind(phrase("phone number"), PHONE, _is_phone),
    PiiKind(phrase("phone number"), PHONE_AFTER_KEYWORD, _is_phone),
)
"""In search order: a text that one kind masked is hidden from the next ones."""
PII_KINDS_WITHOUT_NUMBERS = tuple(
    kind for kind in PII_KINDS if kind.pattern not in (CARD, PHONE, PHONE_AFTER_KEYWORD)
)
