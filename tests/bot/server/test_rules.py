"""What of a server's choice counts within the operator's bounds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bot.server.rules import Bounds, ServerRules
from bot.settings import load_settings
from core.server_settings import (
    CHOICES,
    ButtonsUnder,
    Liveliness,
    ReplyLength,
    Retrainers,
    ServerLanguage,
    ServerSettings,
    Switch,
    Teaching,
)
from data.storage.storage import Storage, open_storage
from model.sampling import SamplingParams

SERVER, OTHER = 1, 2
WIDE = Bounds(review_new_answers=False)


def test_without_a_choice_the_operators_settings_count() -> None:
    strict = Bounds(reply_buttons=False, known_at_once=False)
    narrow = strict.narrow(ServerSettings())
    assert narrow.buttons is ButtonsUnder.NONE
    assert narrow.teaching is Teaching.REVIEW_RIVALS
    assert narrow.known_at_once is Switch.OFF
    assert WIDE.narrow(ServerSettings()) == ServerSettings()


def test_the_bounds_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(
        gpt2bot_home=tmp_path,
        max_new_tokens=30,
        temperature=0.5,
        reply_buttons=False,
        review_new_answers=False,
        known_at_once=False,
    )
    assert Bounds.of(settings, one_language=True) == Bounds(30, 0.5, False, False, False, True)


@pytest.mark.parametrize(
    ("bounds", "chosen", "counts"),
    [
        (
            Bounds(reply_buttons=False),
            ServerSettings(buttons=ButtonsUnder.LAST),
            {"buttons": ButtonsUnder.NONE},
        ),
        (
            Bounds(),
            ServerSettings(teaching=Teaching.AT_ONCE),
            {"teaching": Teaching.REVIEW_RIVALS},
        ),
        (Bounds(), ServerSettings(teaching=Teaching.MANAGERS), {"teaching": Teaching.MANAGERS}),
        (
            Bounds(known_at_once=False),
            ServerSettings(known_at_once=Switch.ON),
            {"known_at_once": Switch.OFF},
        ),
        (
            Bounds(temperature=0.7),
            ServerSettings(liveliness=Liveliness.LIVELY),
            {"liveliness": Liveliness.MODEL},
        ),
        (
            Bounds(temperature=0.7),
            ServerSettings(liveliness=Liveliness.NORMAL),
            {"liveliness": Liveliness.NORMAL},
        ),
        (
            Bounds(one_language=True),
            ServerSettings(language=ServerLanguage.JAPANESE),
            {"language": ServerLanguage.AUTOMATIC},
        ),
    ],
)
def test_a_choice_never_exceeds_the_bounds(
    bounds: Bounds, chosen: ServerSettings, counts: dict[str, object]
) -> None:
    narrow = bounds.narrow(chosen)
    assert {name: getattr(narrow, name) for name in counts} == counts
    [name] = counts
    assert (getattr(chosen, name) in bounds.allowed(name)) == (
        counts[name] is getattr(chosen, name)
    )


def test_everything_is_open_where_the_operator_closes_nothing() -> None:
    assert not any(WIDE.is_closed(name) for name in CHOICES)
    assert [name for name in CHOICES if Bounds().is_closed(name)] == ["teaching"]


async def test_length_and_temperature_of_a_reply(storage: Storage) -> None:
    rules = ServerRules(storage.server_settings, Bounds(max_new_tokens=60))
    usual = SamplingParams(max_new_tokens=60, temperature=0.4)
    assert rules.shape(SERVER, usual) is usual
    await rules.choose(SERVER, "length", ReplyLength.SHORT)
    await rules.choose(SERVER, "liveliness", Liveliness.LIVELY)
    shaped = rules.shape(SERVER, usual)
    assert (shaped.max_new_tokens, shaped.temperature) == (20, 1.0)
    assert rules.shape(OTHER, usual) is usual
    assert [Bounds(max_new_tokens=1).tokens(one) for one in ReplyLength] == [1, 1, 1]


async def test_choices_survive_a_restart_each_field_for_itself(path: Path) -> None:
    async with open_storage(path) as storage:
        one, other = (ServerRules(storage.server_settings, WIDE) for _ in range(2))
        await one.choose(SERVER, "buttons", ButtonsUnder.LAST)
        await other.choose(SERVER, "retrainers", 77)
        await one.choose(OTHER, "language", ServerLanguage.JAPANESE)
    async with open_storage(path) as storage:
        rules = ServerRules(storage.server_settings, WIDE)
        await rules.load()
        assert rules.of(SERVER) == ServerSettings(buttons=ButtonsUnder.LAST, retrainers=77)
        assert rules.language(OTHER) == "ja"
        assert rules.language(SERVER) is None
        await rules.forget(SERVER)
        assert rules.of(SERVER) == ServerSettings()
        assert {row[0] for row in await storage.server_settings.all()} == {OTHER}


async def test_a_choice_counts_again_once_the_operator_allows_it(storage: Storage) -> None:
    table = storage.server_settings
    await ServerRules(table, WIDE).choose(SERVER, "teaching", Teaching.AT_ONCE)
    for bounds, counts in ((Bounds(), Teaching.REVIEW_RIVALS), (WIDE, Teaching.AT_ONCE)):
        rules = ServerRules(table, bounds)
        await rules.load()
        assert rules.of(SERVER).teaching is counts


async def test_what_another_version_stored_is_passed_over(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.server_settings.set(SERVER, "colour", "blue")
    await storage.server_settings.set(SERVER, "length", "endless")
    await storage.server_settings.set(SERVER, "retrainers", Retrainers.MANAGERS)
    rules = ServerRules(storage.server_settings, WIDE)
    with caplog.at_level(logging.WARNING):
        await rules.load()
    assert rules.of(SERVER) == ServerSettings(retrainers=Retrainers.MANAGERS)
    assert [one.args for one in caplog.records] == [
        (SERVER, "colour", "blue"),
        (SERVER, "length", "endless"),
    ]
