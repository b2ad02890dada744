"""What a reply must not say: how it is found, and which filters are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat import filters as filtering
from bot.chat.filters import (
    MAX_FILTER_CHARS,
    MAX_FILTERS,
    MAX_PATTERNS,
    Blocked,
    Filters,
    OutputGuard,
)
from core.errors import Refusal
from core.records import Filter, FilterKind
from data.storage.storage import Storage
from model.sampling import SamplingParams

GUILD, ADA = 7, 99


def word(text: str) -> Filter:
    return Filter(FilterKind.WORD, text)


def pattern(text: str) -> Filter:
    return Filter(FilterKind.PATTERN, text)


def passes(guard: OutputGuard, text: str) -> bool:
    try:
        guard.check(text)
    except Blocked:
        return False
    return True


# --- finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a bad day",
        "BAD!",
        "ba\u200bd",
        "b\u00adad",
        "ｂａｄ",
        "𝐛𝐚𝐝",
        "it is b\u2060a\ufeffd",
        "b\u034fad",
        "(bad)",
        "Straße",
        "STRASSE",
        "これは馬鹿だ",
        "これはbadです",
    ],
)
def test_words_are_found_in_any_writing(text: str) -> None:
    assert not passes(OutputGuard(["bad", "straße", "馬鹿"]), text)


@pytest.mark.parametrize("text", ["", "badge", "a baddie", "forbad", "b a d", "strassen", "\ud800"])
def test_words_are_whole(text: str) -> None:
    assert passes(OutputGuard(["bad", "straße"], ["^never$"]), text)


@given(
    st.sampled_from(["bad", "c++", "é", "two words"]),
    st.lists(st.sampled_from(["\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad"]), max_size=9),
    st.booleans(),
)
def test_signs_that_nobody_sees_hide_no_word(word: str, signs: list[str], upper: bool) -> None:
    shown = "".join(char + sign for char, sign in zip(word, [*signs, *[""] * 9], strict=False))
    assert not passes(OutputGuard([word]), f"so {shown.upper() if upper else shown}, you see")


def test_patterns_are_looked_for_as_written_and_as_seen() -> None:
    guard = OutputGuard([], [r"\d{3}-\d{4}", "^secret"])
    assert not passes(guard, "call 555-1234")
    assert not passes(guard, "call ５５５-1234")
    assert not passes(guard, "SECRET plans")
    assert passes(guard, "no secret, 55-1234")


def test_no_guard_stops_nothing() -> None:
    assert passes(OutputGuard([]), "anything at all")


def test_a_pattern_cannot_run_away() -> None:
    """With `re` this would not end before the sun does."""
    guard = OutputGuard([], ["(a+)+$", "(a|aa)+$", "(.*a){20}b"])
    assert not passes(guard, "a" * 4000)
    assert passes(guard, "a" * 4000 + "!")


def test_words_are_not_even_drawn() -> None:
    params = OutputGuard(["one", "two"]).with_banned_words(
        SamplingParams(seed=3, banned_words=("one",))
    )
    assert params == SamplingParams(seed=3, banned_words=("one", "two"))


# --- which are taken ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(abc", r"cannot be read: missing \)"),
        (r"fine then \q", r"invalid escape sequence at character 11, “\\q”"),
        ("x**", r"bad repetition operator at character 2, “\*\*”"),
        ("(?<=a)b", r"invalid perl operator at character 1, “\(\?<=”"),
        ("日本[z-a]", "invalid character class range at character 4, “z-a”"),
        ("x{1001}", "invalid repetition size"),
        (r"(\pL{9}){99}", "too big"),
        (".*", "fits every text"),
        ("x|", "fits every text"),
    ],
)
async def test_a_wrong_pattern_is_told_what_and_where(
    storage: Storage, text: str, reason: str
) -> None:
    filters = Filters(storage.filters)
    with pytest.raises(Refusal, match=reason):
        await filters.add(GUILD, pattern(text), ADA)
    assert await storage.filters.all(GUILD) == []


@pytest.mark.parametrize("text", [" ", "\u200b\u200d"])
async def test_a_word_must_be_seen(storage: Storage, text: str) -> None:
    with pytest.raises(Refusal, match="no letter or sign"):
        await Filters(storage.filters).add(GUILD, word(text), ADA)


async def test_there_are_not_too_many_nor_too_long(storage: Storage) -> None:
    filters = Filters(storage.filters)
    with pytest.raises(Refusal, match="at most 100 characters"):
        await filters.add(GUILD, word("x" * (MAX_FILTER_CHARS + 1)), ADA)
    for n in range(MAX_PATTERNS):
        assert await filters.add(GUILD, pattern(f"number {n}"), ADA)
    with pytest.raises(Refusal, match="20 patterns, the most"):
        await filters.add(GUILD, pattern("one more"), ADA)
    for n in range(MAX_FILTERS - MAX_PATTERNS):
        assert await filters.add(GUILD, word(f"word {n}"), ADA)
    with pytest.raises(Refusal, match="100 filters, the most"):
        await filters.add(GUILD, word("one more"), ADA)
    assert await filters.add(GUILD + 1, word("one more"), ADA)


async def test_patterns_are_not_too_much_work_together(storage: Storage) -> None:
    filters = Filters(storage.filters)
    assert await filters.add(GUILD, pattern("[^a]{500}"), ADA)
    with pytest.raises(Refusal, match="too much work"):
        await filters.add(GUILD, pattern("[^b]{500}"), ADA)


# --- the guards of servers ---------------------------------------------------------------------


async def test_a_change_counts_at_once_and_only_there(storage: Storage) -> None:
    filters = Filters(storage.filters, ["operator's"])
    assert passes(await filters.guard(GUILD), "a bad word")
    assert await filters.add(GUILD, word("bad"), ADA)
    assert not await filters.add(GUILD, word("bad"), ADA)
    assert not passes(await filters.guard(GUILD), "a bad word")
    assert not passes(await filters.guard(GUILD), "the operator's word")
    may_say = await filters.may_say(GUILD)
    assert [may_say(text) for text in ("a bad word", "a word")] == [False, True]
    assert passes(await filters.guard(GUILD + 1), "a bad word")
    assert await filters.remove(GUILD, word("bad"))
    assert not await filters.remove(GUILD, word("bad"))
    assert passes(await filters.guard(GUILD), "a bad word")


async def test_guards_are_kept_but_not_all_of_them(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "MAX_CACHED_GUARDS", 2)
    filters = Filters(storage.filters)
    first = await filters.guard(1)
    await filters.guard(2)
    assert await filters.guard(1) is first
    second = await filters.guard(3)  # now 2 goes
    assert await filters.guard(1) is first
    assert await filters.guard(3) is second
    assert len(filters._guards) == 2


async def test_the_store_keeps_filters_in_order_for_each_scope(storage: Storage) -> None:
    for one in (word("b"), pattern("z"), word("a")):
        assert await storage.filters.add(GUILD, one, ADA)
    assert not await storage.filters.add(GUILD, word("a"), ADA + 1)
    assert await storage.filters.all(GUILD) == [pattern("z"), word("a"), word("b")]
    assert await storage.filters.all(GUILD + 1) == []
    assert not await storage.filters.remove(GUILD, pattern("a"))
    assert await storage.filters.remove(GUILD, word("a"))
    assert await storage.filters.all(GUILD) == [pattern("z"), word("b")]
