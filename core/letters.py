"""Letters in their usual form: rare forms of the same letter become it."""

from __future__ import annotations

import re
from unicodedata import normalize

COMPATIBILITY_FORMS = re.compile(
    "[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+"  # full-width digits and Latin letters
    "|[\uff61-\uff9f]+"  # half-width katakana, with its marks and punctuation
    "|[\ufb00-\ufb06\U0001d400-\U0001d7ff]+"  # Latin ligatures; bold, script and the like
)


def normalize_letters(text: str) -> str:
    """NFC, and NFKC for full-width Latin, half-width katakana, ligatures and mathematical letters.

    Each byte of a rare form costs a token, and means nothing to a model that learned the usual
    form. NFKC for everything would change meanings (10², ①, ™, …, ㋿) and the width of Japanese
    punctuation."""
    if text.isascii():
        return text
    text = COMPATIBILITY_FORMS.sub(lambda match: normalize("NFKC", match[0]), text)
    return normalize("NFC", text)
