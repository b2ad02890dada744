"""Output filters: the operator's banned words, and each server's own words and patterns.

Knows the stored filters and caches them per scope. Does not know how a reply is made or shown.
Patterns are RE2 regular expressions (`data.judgement.patterns`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cachetools import LRUCache

from core.errors import Refusal
from core.japanese import LATIN_WORD_END, LATIN_WORD_START
from core.records import Filter, FilterKind
from data.judgement.patterns import MAX_PROGRAM_SIZE, compile_pattern
from data.storage.tables.filters import FilterTable
from i18n.phrase import phrase
from model.sampling import SamplingParams

REPLY_WITHHELD = phrase("I would have said something that is not wanted here.")
MAX_FILTERS, MAX_PATTERNS = 100, 20
"""Filters of one server, and how many of them may be patterns."""
MAX_FILTER_CHARS = 100
MAX_CACHED_GUARDS = 100
INVISIBLE_CHARS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible characters outside the category Cf, such as the Hangul fillers."""


class Blocked(Exception):
    """A text matches a filter."""


class OutputGuard:
    """The filters of one scope: `words`, matched as whole words, and RE2 `patterns`."""

    def __init__(self, words: Sequence[str], patterns: Iterable[str] = ()) -> None:
        self._words = tuple(words)
        self._word_regex = re.compile(
            "|".join(filter(None, map(_whole_word_regex, words))) or r"(?!)"
        )
        self._patterns = [compile_pattern(pattern) for pattern in patterns]

    def with_banned_words(self, params: SamplingParams) -> SamplingParams:
        """The settings with which the words are not even drawn."""
        if params.banned_words == self._words:
            return params
        return replace(params, banned_words=self._words)

    def check(self, text: str) -> None:
        """Check a reply, or the part of it that is about to be shown.

        A partial text is checked as if it ended there. It may be blocked although the full text
        would pass (“bad” of “badge”), but what people have read could not be withheld later.

        Raises:
            Blocked: it matches a filter.
        """
        text = text.encode(errors="replace").decode()  # RE2 rejects a lone surrogate
        visible = normalize_visible(text)
        if self._word_regex.search(visible.casefold()):
            raise Blocked
        # Both forms: a pattern may name characters that normalization changes.
        for form in {text, visible}:
            if any(pattern.search(form) for pattern in self._patterns):
                raise Blocked


class Filters:
    """The guards of all scopes. Every change is made here, so it applies to the next reply."""

    def __init__(self, table: FilterTable, words: Sequence[str] = ()) -> None:
        self._table = table
        self._words = tuple(words)
        self._guards: LRUCache[int, OutputGuard] = LRUCache(MAX_CACHED_GUARDS)
        self._version = 0

    async def guard(self, scope: int) -> OutputGuard:
        """The operator's and the scope's own filters, from the cache if possible."""
        if (cached := self._guards.get(scope)) is not None:
            return cached
        version = self._version
        filters = await self._table.all(scope)
        words = [one.pattern for one in filters if one.kind is FilterKind.WORD]
        patterns = [one.pattern for one in filters if one.kind is FilterKind.PATTERN]
        guard = OutputGuard([*self._words, *words], patterns)
        if version == self._version:  # a change during the read may be missing from it
            self._guards[scope] = guard
        return guard

    async def may_say(self, scope: int) -> Callable[[str], bool]:
        """Whether a text passes the filters of a scope as they are now."""
        guard = await self.guard(scope)

        def passes(text: str) -> bool:
            try:
                guard.check(text)
            except Blocked:
                return False
            return True

        return passes

    async def add(self, scope: int, new: Filter, added_by: int) -> bool:
        """Add a filter; False if the scope has it already.

        Raises:
            Refusal: it is not a usable word or pattern, or the server has too many.
        """
        existing = await self._table.all(scope)
        if new in existing:
            return False
        _validate_filter(new, existing)
        added = await self._table.add(scope, new, added_by)
        self._invalidate(scope)
        return added

    async def remove(self, scope: int, old: Filter) -> bool:
        """Remove a filter; False if the scope does not have it."""
        removed = await self._table.remove(scope, old)
        self._invalidate(scope)
        return removed

    def _invalidate(self, scope: int) -> None:
        self._version += 1
        self._guards.pop(scope, None)


def _validate_filter(new: Filter, existing: Sequence[Filter]) -> None:
    if len(existing) >= MAX_FILTERS:
        raise Refusal(
            phrase(
                "This server has {most} filters, the most there can be: remove one first.",
                most=MAX_FILTERS,
            )
        )
    if len(new.pattern) > MAX_FILTER_CHARS:
        raise Refusal(
            phrase(
                "That is too long: a filter has at most {most} characters.", most=MAX_FILTER_CHARS
            )
        )
    if new.kind is FilterKind.WORD:
        if not normalize_visible(new.pattern).strip():
            raise Refusal(phrase("There is no letter or sign in that word."))
        return
    compiled = compile_pattern(new.pattern)
    if compiled.search(""):
        raise Refusal(phrase("That pattern fits every text, so I could never say anything."))
    patterns = [one.pattern for one in existing if one.kind is FilterKind.PATTERN]
    if len(patterns) >= MAX_PATTERNS:
        raise Refusal(
            phrase(
                "This server has {most} patterns, the most there can be: remove one first.",
                most=MAX_PATTERNS,
            )
        )
    program_sizes = (compile_pattern(pattern).programsize for pattern in patterns)
    if compiled.programsize + sum(program_sizes) > MAX_PROGRAM_SIZE:
        raise Refusal(
            phrase(
                "That is too much work for me with every reply: simplify the pattern, for example "
                "with smaller numbers in braces, or remove another one first."
            )
        )


def normalize_visible(text: str) -> str:
    """The text as people see it: NFKC for look-alikes, and no invisible characters, which could
    otherwise hide a word from its filter."""
    shown = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", INVISIBLE_CHARS.sub("", shown))


def _whole_word_regex(word: str) -> str:
    """A regex for a whole word in case-folded text; "" for a blank word.

    Only Latin words have boundaries: Japanese is written without spaces.
    """
    plain = normalize_visible(word).strip().casefold()
    if not plain:
        return ""
    before = LATIN_WORD_START if plain[0].isascii() else ""
    after = LATIN_WORD_END if plain[-1].isascii() else ""
    return f"{before}{re.escape(plain)}{after}"
