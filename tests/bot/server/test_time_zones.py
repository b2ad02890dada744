"""Whose clock a server's hours are by, and what people may type for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bot.server.time_zones import find_zone, like_zones, machine_zone, zone_name, zone_of

NOW = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _forget_the_machine() -> Iterator[None]:
    machine_zone.cache_clear()
    yield
    machine_zone.cache_clear()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        ("asia/tokyo", "Asia/Tokyo"),
        (" tokyo ", "Asia/Tokyo"),
        ("new york", "America/New_York"),
        ("utc", "UTC"),
        ("Louisville", None),  # there are two
        ("Atlantis", None),
        ("", None),
        ("../../etc/passwd", None),
        ("東京", None),
    ],
)
def test_a_zone_is_found_by_its_name_or_its_city(typed: str, found: str | None) -> None:
    assert find_zone(typed) == found


def test_names_like_what_was_typed_are_suggested() -> None:
    assert like_zones("berln")[0] == "Europe/Berlin"
    assert like_zones("東京") == []


def test_a_choice_goes_first_then_the_language_then_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "America/Lima")
    assert zone_name(zone_of("Europe/Berlin", "ja")) == "Europe/Berlin"
    assert zone_name(zone_of("automatic", "ja")) == "Asia/Tokyo"
    assert zone_name(zone_of("automatic", "en")) == "America/Lima"
    assert isinstance(machine_zone(), ZoneInfo), "no other kind knows the hours that come twice"


def test_a_machine_whose_zone_has_no_name_has_an_offset_at_least(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    with caplog.at_level(logging.WARNING):
        zone = zone_of("automatic", "en")
    assert NOW.astimezone(zone).utcoffset() is not None
    assert zone_name(zone)
    assert len(caplog.records) == 1


def test_a_chosen_zone_that_the_machine_does_not_know_any_more_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert NOW.astimezone(zone_of("Mars/Base", "en")).utcoffset() == timedelta(0)
    assert [one.args for one in caplog.records] == [("Mars/Base",)]
