"""How fast people may ask and how much is said: pure, with a clock of the test's own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat.errors import NotAdmitted
from bot.chat.rate_limit import (
    MIN_COOLDOWN_S,
    WINDOW_S,
    RateLimit,
    RateLimits,
)
from bot.chat.request import MAX_REPLY_CHARS, truncate_reply

ADA, BEN, GUILD, HERE, THERE = range(1, 6)
STEPS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0, 9.0, 31.0, 65.0]), max_size=80)


@dataclass
class Watch:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def manners(watch: Watch, member: int = 2, server: int = 3) -> RateLimits:
    return RateLimits(member_per_minute=member, server_per_minute=server, clock=watch)


def refused(
    manners: RateLimits, member: int, guild: int | None, channel: int = HERE
) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as caught:
        manners.admit(member, guild, channel)
    return caught.value


@given(STEPS, st.integers(1, 5))
def test_no_minute_has_more_uses_than_it_may(steps: list[float], most: int) -> None:
    watch = Watch()
    pace, used = RateLimit(most, watch), []
    for step in steps:
        watch.now += step
        if not pace.retry_after(1):
            pace.record_use(1)
            used.append(watch.now)
    for n, first in enumerate(used):
        assert sum(time - first < WINDOW_S for time in used[n:]) <= most


@given(STEPS, st.integers(1, 5))
def test_who_comes_back_when_they_were_told_to_is_let_in(steps: list[float], most: int) -> None:
    watch = Watch()
    pace = RateLimit(most, watch)
    for step in steps:
        watch.now += step
        if wait := pace.retry_after(1):
            assert wait <= WINDOW_S + MIN_COOLDOWN_S
            watch.now += wait
        assert not pace.retry_after(1)
        pace.record_use(1)


@given(STEPS, st.integers(1, 3))
def test_the_sentence_is_rare_however_long_somebody_keeps_writing(
    steps: list[float], most: int
) -> None:
    watch = Watch()
    pace, told = RateLimit(most, watch), []
    for step in steps:
        watch.now += step
        if not pace.retry_after(1):
            pace.record_use(1)
        elif not pace.mark_notified(1, HERE):
            told.append(watch.now)
    assert all(after - before >= MIN_COOLDOWN_S for before, after in itertools.pairwise(told))


def test_what_is_idle_for_a_minute_is_forgotten(watch: Watch) -> None:
    pace = RateLimit(3, watch)
    for key in range(500):
        pace.record_use(key)
    watch.now += 30
    pace.record_use(7)
    assert len(pace._usage) == 500
    watch.now += 30
    assert not pace.retry_after(1000)
    assert len(pace._usage) == 1


def test_the_sentence_says_when_to_come_back_and_comes_once(watch: Watch) -> None:
    both = manners(watch)
    both.admit(ADA, GUILD, HERE)
    watch.now += 48
    both.admit(ADA, GUILD, HERE)
    held = refused(both, ADA, GUILD)
    assert (str(held), held.already_notified) == (
        "You are quicker than I am: ask me again in 12 seconds.",
        False,
    )
    watch.now += 11
    held = refused(both, ADA, GUILD, THERE)
    assert (str(held), held.already_notified) == (
        "You are quicker than I am: ask me again in 1 second.",
        True,
    )
    both.admit(BEN, GUILD, HERE)
    watch.now += 1
    both.admit(ADA, GUILD, HERE)


def test_a_server_that_is_too_quick_is_told_once_in_each_channel(watch: Watch) -> None:
    all_of_them = manners(watch)
    for member in range(10, 13):
        all_of_them.admit(member, GUILD, HERE)
    told = [
        refused(all_of_them, ADA, GUILD, where).already_notified for where in (HERE, HERE, THERE)
    ]
    assert told == [False, True, False]
    assert "All of you together" in str(refused(all_of_them, ADA, GUILD))
    all_of_them.admit(ADA, None, THERE)  # a direct message
    all_of_them.admit(ADA, GUILD + 1, THERE)  # what was refused did not count for the member
    refused(all_of_them, ADA, None)


def test_zero_is_no_limit(watch: Watch) -> None:
    free = manners(watch, member=0, server=0)
    for _ in range(300):
        free.admit(ADA, GUILD, HERE)


@given(st.text(max_size=50), st.integers(0, 400))
def test_a_reply_never_becomes_many_messages(text: str, times: int) -> None:
    reply = text * times
    shown = truncate_reply(reply)
    assert len(shown) <= MAX_REPLY_CHARS
    assert shown == reply or (shown.endswith(" …") and reply.startswith(shown[:-2]))
