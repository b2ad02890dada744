"""What a reply must not say: the operator's words, and a server's own words and patterns.

Knows the store's filters and keeps those of the servers in use in memory. Does not know how a reply
is made or shown. Patterns are the regular expressions of RE2, whose time grows with the text and
never runs away, whatever a person writes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import re2

from core.errors import Refusal
from core.japanese import LATIN_WORD_END, LATIN_WORD_START
from core.records import Filter, FilterKind
from data.storage.storage import Storage
from i18n.phrase import Phrase, phrase
from model.sampling import SamplingParams

REPLY_WITHHELD = phrase("I would have said something that is not wanted here.")
MAX_FILTERS, MAX_PATTERNS = 100, 20
"""Filters of a server, and how many of them may be patterns."""
MAX_FILTER_CHARS = 100
"""Characters of a filter."""
MAX_PROGRAM_SIZE = 5000
"""Steps of a server's patterns together, as RE2 counts them; a plain word has a dozen. The worst
ones that were found take half a second for a reply of 4,000 characters, usual ones 10 ms."""
PATTERN_MEMORY_BYTES = 1 << 18
"""Bytes that RE2 may take for a pattern; with less it is slower, never wrong."""
MAX_CACHED_GUARDS = 100
"""Servers whose filters are kept in memory."""
INVISIBLE_CHARS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Signs that take no place beside those of the category Cf, such as the fillers of Hangul."""
RE2_SYNTAX_HINT = phrase(
    "It is read by RE2: github.com/google/re2/wiki/Syntax shows what it understands."
)
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
"""What RE2 finds wrong (its regexp.cc)."""
TOO_BIG = phrase("That pattern is too big for me: use smaller numbers in braces.")


class Blocked(Exception):
    """A reply says what must not be said where it would be shown."""


class OutputGuard:
    """What must not be said in one place: `words` whole, in any writing, and RE2's `patterns`."""

    def __init__(self, words: Sequence[str], patterns: Iterable[str] = ()) -> None:
        self._words = tuple(words)
        self._word_regex = re.compile(
            "|".join(filter(None, map(_whole_word_regex, words))) or r"(?!)"
        )
        self._patterns = [compile_pattern(one) for one in patterns]

    def with_banned_words(self, params: SamplingParams) -> SamplingParams:
        """The settings with which the words are not even drawn."""
        return replace(params, banned_words=self._words)

    def check(self, text: str) -> None:
        """Let a text pass.

        Raises:
            Blocked: it says what must not be said.
        """
        text = text.encode(errors="replace").decode()  # half a surrogate pair is no text for RE2
        seen = normalize_visible(text)
        if self._word_regex.search(seen.casefold()):
            raise Blocked
        for form in {text, seen}:
            if any(one.search(form) for one in self._patterns):
                raise Blocked


class Filters:
    """The guards of all servers. Every change goes through here, so that it counts at once."""

    def __init__(self, storage: Storage, words: Sequence[str] = ()) -> None:
        self._storage = storage
        self._words = tuple(words)
        self._guards: OrderedDict[int, OutputGuard] = OrderedDict()
        self._version = 0

    async def guard(self, scope: int) -> OutputGuard:
        """What must not be said in a scope."""
        if scope in self._guards:
            self._guards.move_to_end(scope)
            return self._guards[scope]
        changes = self._version
        guard = self._build_guard(await self._storage.filters.all(scope))
        if changes == self._version:  # otherwise it may be the state of before
            self._guards[scope] = guard
            if len(self._guards) > MAX_CACHED_GUARDS:
                self._guards.popitem(last=False)
        return guard

    def _build_guard(self, filters: Sequence[Filter]) -> OutputGuard:
        words = [one.pattern for one in filters if one.kind is FilterKind.WORD]
        patterns = [one.pattern for one in filters if one.kind is FilterKind.PATTERN]
        return OutputGuard([*self._words, *words], patterns)

    async def add(self, scope: int, one: Filter, added_by: int) -> bool:
        """Forbid something from the next reply on; False if it was forbidden already.

        Raises:
            Refusal: it is no word or pattern, or the server has too many.
        """
        there = await self._storage.filters.all(scope)
        if one in there:
            return False
        _validate_filter(one, there)
        added = await self._storage.filters.add(scope, one, added_by)
        self._invalidate(scope)
        return added

    async def remove(self, scope: int, one: Filter) -> bool:
        """Allow it again; False if it was not forbidden."""
        removed = await self._storage.filters.remove(scope, one)
        self._invalidate(scope)
        return removed

    def _invalidate(self, scope: int) -> None:
        self._version += 1
        self._guards.pop(scope, None)


def _validate_filter(one: Filter, there: Sequence[Filter]) -> None:
    """Whether a filter may join those that are there."""
    if len(there) >= MAX_FILTERS:
        raise Refusal(
            phrase(
                "This server has {most} filters, the most there can be: remove one first.",
                most=MAX_FILTERS,
            )
        )
    if len(one.pattern) > MAX_FILTER_CHARS:
        raise Refusal(
            phrase(
                "That is too long: a filter has at most {most} characters.", most=MAX_FILTER_CHARS
            )
        )
    if one.kind is FilterKind.WORD:
        if not normalize_visible(one.pattern).strip():
            raise Refusal(phrase("There is no letter or sign in that word."))
        return
    if compile_pattern(one.pattern).search(""):
        raise Refusal(phrase("That pattern fits every text, so I could never say anything."))
    patterns = [two.pattern for two in there if two.kind is FilterKind.PATTERN]
    if len(patterns) >= MAX_PATTERNS:
        raise Refusal(
            phrase(
                "This server has {most} patterns, the most there can be: remove one first.",
                most=MAX_PATTERNS,
            )
        )
    if sum(compile_pattern(two).programsize for two in (one.pattern, *patterns)) > MAX_PROGRAM_SIZE:
        raise Refusal(
            phrase(
                "That is too much work for me with every reply: write the pattern simpler, such "
                "as with smaller numbers in braces, or remove another one first."
            )
        )


class Pattern(Protocol):
    """The part of a compiled pattern of RE2 that is used here."""

    programsize: int

    def search(self, text: str) -> Any: ...


def compile_pattern(pattern: str) -> Pattern:
    """A pattern, for upper and lower case alike.

    Raises:
        Refusal: it is wrong; the sentence says what and where.
    """
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_capture = True
    options.max_mem = PATTERN_MEMORY_BYTES
    try:
        made: Pattern = re2.compile(pattern.encode(errors="replace").decode(), options)
    except re2.error as e:
        raise Refusal(_pattern_error(pattern, e.args[0].decode(errors="replace"))) from e
    return made


def _pattern_error(pattern: str, reason: str) -> Phrase:
    """RE2's reason, such as `invalid escape sequence: \\q`, as a sentence."""
    if "too large" in reason:
        return TOO_BIG
    words, _, piece = reason.partition(": ")
    what = next((one for one in RE2_ERRORS if one == words), words)
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


def normalize_visible(text: str) -> str:
    """A text as people see it: letters that only look otherwise are the usual ones (NFKC), and
    signs that are not seen are gone."""
    shown = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", INVISIBLE_CHARS.sub("", shown))


def _whole_word_regex(word: str) -> str:
    """What finds a word in a text in small letters: whole, where its script has spaces."""
    plain = normalize_visible(word).strip().casefold()
    if not plain:
        return ""
    before = LATIN_WORD_START if plain[0].isascii() else ""
    after = LATIN_WORD_END if plain[-1].isascii() else ""
    return f"{before}{re.escape(plain)}{after}"
