"""Patterns that people write, compiled by RE2: they match in linear time, so none hangs the bot."""

from __future__ import annotations

from typing import Any

import re2

from core.errors import Refusal
from i18n.phrase import Phrase, phrase

MAX_PROGRAM_SIZE = 5000
"""RE2's program size of the patterns that a text is searched for; a plain word has about twelve.
The worst ones that were found take half a second for a reply of 4,000 characters, usual ones
10 ms."""
PATTERN_MEMORY_BYTES = 1 << 18
"""RE2's memory limit for one pattern; a lower one makes it slower, never wrong."""
RE2_SYNTAX_HINT = phrase(
    "It is read by RE2: github.com/google/re2/wiki/Syntax shows what it understands."
)
PATTERN_TOO_BIG = phrase("That pattern is too big for me: use smaller numbers in braces.")
RE2_ERRORS = (
    phrase("bad repetition operator"),
    phrase("invalid UTF-8"),
    phrase("invalid character class"),
    phrase("invalid character class range"),
    phrase("invalid escape sequence"),
    phrase("invalid named capture group"),
    phrase("invalid perl operator"),
    phrase("invalid repetition size"),
    phrase("missing )"),
    phrase("missing ]"),
    phrase("no argument for repetition operator"),
    phrase("trailing \\"),
    phrase("unexpected )"),
)
"""RE2's error messages (its regexp.cc)."""


def compile_pattern(pattern: str) -> Any:
    """Compile a case-insensitive RE2 pattern (the library has no types).

    Raises:
        Refusal: it is invalid; the sentence says what is wrong, and where.
    """
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_capture = True
    options.max_mem = PATTERN_MEMORY_BYTES
    try:
        return re2.compile(pattern.encode(errors="replace").decode(), options)
    except re2.error as e:
        raise Refusal(_pattern_error(pattern, e.args[0].decode(errors="replace"))) from e


def _pattern_error(pattern: str, reason: str) -> Phrase:
    """RE2's reason, such as `invalid escape sequence: \\q`, as a sentence."""
    if "too large" in reason:
        return PATTERN_TOO_BIG
    error, _, piece = reason.partition(": ")
    what = next((known for known in RE2_ERRORS if known == error), error)  # translatable if known
    at = pattern.find(piece) + 1 if piece and piece != pattern else 0
    if not at:
        return phrase(
            "That pattern cannot be read: {what}. {hint}", what=what, hint=RE2_SYNTAX_HINT
        )
    return phrase(
        "That pattern cannot be read: {what} at character {at}, “{piece}”. {hint}",
        what=what,
        at=at,
        piece=piece,
        hint=RE2_SYNTAX_HINT,
    )
