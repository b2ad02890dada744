"""The file of settings: it comes back as it was, and each mistake in it is told."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.server.file import (
    MAX_BYTES,
    NOT_JSON,
    TOO_LARGE,
    Places,
    Snapshot,
    changed_fields,
    read_file,
    write_file,
)
from bot.server.rules import Bounds
from core.errors import Refusal
from core.server_settings import CHOICES, Retrainers, ServerSettings

ROLE, GENERAL, GAMES = 101, 201, 202
PLACES = Places(
    {ROLE: "Trainers", 102: "twice", 103: "twice"},
    {GENERAL: "general", GAMES: "games"},
    frozenset({"tiny", "gpt2"}),
)
WIDE = Bounds(review_new_answers=False)
NOW = Snapshot(ServerSettings(), "tiny", frozenset({GENERAL}))
snapshots = st.builds(
    Snapshot,
    settings=st.builds(
        ServerSettings,
        **{name: st.sampled_from(list(kind)) for name, kind in CHOICES.items()}
        | {"retrainers": st.sampled_from([*Retrainers, ROLE])}
        | {"time_zone": st.sampled_from(["automatic", "UTC", "Asia/Tokyo"])},
    ),
    model=st.sampled_from(["tiny", "gpt2"]),
    channels=st.frozensets(st.sampled_from([GENERAL, GAMES])),
)


@given(snapshots)
def test_a_file_says_all_and_comes_back_as_it_was(one: Snapshot) -> None:
    assert read_file(write_file(one, PLACES), NOW, PLACES, WIDE) == one


def test_the_file_is_readable() -> None:
    one = Snapshot(ServerSettings(retrainers=ROLE), "tiny", frozenset({GENERAL}))
    assert json.loads(write_file(one, PLACES)) == {
        "model": "tiny",
        "language": "automatic",
        "liveliness": "model",
        "length": "long",
        "buttons": "all",
        "teaching": "unreviewed",
        "known_at_once": "on",
        "canary": "off",
        "retrainers": {"role": {"id": "101", "name": "Trainers"}},
        "nightly": "off",
        "new_lessons": 10,
        "time_zone": "automatic",
        "answer_everything_in": [{"id": "201", "name": "general"}],
    }


def test_what_is_not_mentioned_stays() -> None:
    wanted = read_file(b'\xef\xbb\xbf{"length": "short"}', NOW, PLACES, WIDE)
    assert wanted.model == "tiny"
    assert wanted.channels == NOW.channels
    assert list(changed_fields(NOW.settings, wanted.settings)) == ["length"]
    assert read_file(b"{}", NOW, PLACES, WIDE) == NOW


def test_a_file_of_another_server_is_read_by_names() -> None:
    elsewhere = Places({9: "Trainers"}, {8: "games"}, frozenset({"tiny"}))
    one = Snapshot(ServerSettings(retrainers=ROLE), "tiny", frozenset({GAMES}))
    read = read_file(write_file(one, PLACES), NOW, elsewhere, WIDE)
    assert (read.settings.retrainers, read.channels) == (9, {8})


def test_a_role_that_is_gone_lets_only_administrators_retrain() -> None:
    one = Snapshot(ServerSettings(retrainers=999), "tiny", frozenset())
    assert json.loads(write_file(one, PLACES))["retrainers"] == "administrators"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"colour": "blue"}, "“colour” is not a setting: they are model, language,"),
        ({"length": "endless"}, "“length” is endless, but it must be one of short, normal, long."),
        ({"length": 7}, "“length” is 7, but it must be one of short, normal, long."),
        ({"length": None}, "“length” is null, but"),
        ({"known_at_once": True}, "“known_at_once” is true, but it must be one of on, off."),
        (
            {"teaching": "unreviewed"},
            "“teaching” is “unreviewed”, which the operator’s settings do not allow: it may be "
            "review-others, review-all, managers.",
        ),
        ({"nightly": 4}, "“nightly” is 4, but it must be one of off, 00:00, 01:00,"),
        ({"nightly": "24:00"}, "“nightly” is 24:00, but"),
        ({"new_lessons": 7}, "“new_lessons” is 7, but it must be one of 1, 5, 10, 25, 50, 100."),
        ({"new_lessons": True}, "“new_lessons” is true, but"),
        ({"new_lessons": "10"}, "“new_lessons” is 10, but"),
        ({"time_zone": "Mars/Base"}, "“Mars/Base” is no time zone that I know, or more than one:"),
        ({"time_zone": 9}, "“9” is no time zone that I know"),
        ({"time_zone": "Asia/Tokio"}, "write its name, such as Asia/Tokyo, "),
        ({"model": "gpt9"}, "There is no model gpt9 here; `/model list` shows them."),
        ({"model": ["tiny"]}, 'There is no model ["tiny"] here;'),
        ({"retrainers": "everybody"}, "“retrainers” is everybody, but"),
        (
            {"retrainers": {"role": {"id": "7", "name": "Gone"}}},
            "There is no role Gone in this server, or more than one.",
        ),
        ({"retrainers": {"role": {"name": "twice"}}}, "There is no role twice in this server"),
        ({"retrainers": {"role": 7}}, "There is no role 7 in this server"),
        ({"answer_everything_in": "general"}, "“answer_everything_in” must be a list of channels."),
        ({"answer_everything_in": [{"name": "gone"}]}, "There is no channel gone in this server"),
        ({"answer_everything_in": [GENERAL]}, "There is no channel 201 in this server"),
    ],
)
def test_each_mistake_is_told_in_one_sentence(content: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refusal, match=re.escape(sentence)) as refused:
        read_file(json.dumps(content).encode(), NOW, PLACES, Bounds())
    assert str(refused.value).startswith("Nothing was changed.\n")
    assert len(str(refused.value).splitlines()) == 2


def test_all_mistakes_are_told_but_not_too_many() -> None:
    many = json.dumps({f"{n}": "x" * 500 for n in range(30)}).encode()
    with pytest.raises(Refusal, match=r"And 20 more\.$") as refused:
        read_file(many, NOW, PLACES, WIDE)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"length: short", b"[]", b'"short"', b"[" * 90_000, b'{"length": "short"'],
)
def test_what_is_no_file_of_settings_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal, match=re.escape(str(NOT_JSON))):
        read_file(data, NOW, PLACES, WIDE)


def test_what_is_there_twice_is_refused() -> None:
    twice = b'{"length": "short", "length": "long"}'
    with pytest.raises(Refusal, match="“length” is in the file twice"):
        read_file(twice, NOW, PLACES, WIDE)


def test_a_large_file_is_not_read() -> None:
    with pytest.raises(Refusal, match=re.escape(str(TOO_LARGE))):
        read_file(b" " * (MAX_BYTES + 1), NOW, PLACES, WIDE)
