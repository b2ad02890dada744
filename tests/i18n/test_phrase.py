"""Sentences that know how they were made."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i18n.catalogue import load_catalogue
from i18n.phrase import (
    Phrase,
    _is_safe_template,
    deserialize_phrase,
    join_phrases,
    message_of,
    phrase,
    phrases,
    serialize_phrase,
)
from i18n.reader import language_of_locale, say, terminal_language, use_language
from scripts.messages import extract_messages


def test_a_phrase_is_its_english_sentence() -> None:
    made = phrase("{name} has {size:,} bytes.", name="tiny", size=1234567)
    assert made == "tiny has 1,234,567 bytes."
    assert json.dumps({"why": made}) == '{"why": "tiny has 1,234,567 bytes."}'


def test_one_and_many() -> None:
    assert phrases("{count} step", "{count:,} steps", 1) == "1 step"
    assert phrases("{count} step", "{count:,} steps", 2000) == "2,000 steps"


def test_braces_of_people_are_left_alone() -> None:
    assert phrase("{word} is no word.", word="{x}") == "{x} is no word."
    assert phrase("{ is a brace") == "{ is a brace"
    assert join_phrases(["{a}", phrase("{b}", b="}")], " {} ") == "{a} {} }"


def test_a_list_has_the_commas_of_its_language() -> None:
    listed = join_phrases([phrase("webhook address"), "a, b", "c"], ", ")
    assert listed == "webhook address, a, b, c"
    assert listed.translate_to("ja") == "Webhookのアドレス、a, b、c"
    assert join_phrases(["only"], ", ").translate_to("ja") == "only"
    assert join_phrases([], ", ").translate_to("ja") == ""


def test_what_nobody_translated_is_said_in_english() -> None:
    with use_language("ja"):
        assert say("Nobody has translated {this}.", this="that") == "Nobody has translated that."
        assert say("Somebody’s own {words}") == "Somebody’s own {words}"


@given(st.text(), st.integers(), st.text())
def test_packed_and_unpacked_it_is_the_same(word: str, count: int, plain: str) -> None:
    inner = phrases("{count} of {word}", "{count} of {word}s", count, word=word)
    made = join_phrases([phrase("{a}: {b}", a=inner, b=1.5), plain], "\n")
    for again in (
        deserialize_phrase(serialize_phrase(made)),
        pickle.loads(pickle.dumps(made)),
        copy.deepcopy(made),
    ):
        assert isinstance(again, Phrase)
        assert (again, again.template, again.values) == (made, made.template, made.values)
    assert serialize_phrase(plain) == plain
    assert deserialize_phrase(plain) == plain
    assert deserialize_phrase('{"text": ' + plain) == '{"text": ' + plain


def stored(template: object, plural: object = None, **values: object) -> str:
    return json.dumps({"text": template, "plural": plural, "values": values})


@pytest.mark.parametrize(
    "typed",
    [
        stored("{x:>999999999}", x=1),
        stored("{x:>99999999999999}", x=1),
        stored("{x.__class__.__mro__}", x=1),
        stored("{x[0]}", x="ab"),
        stored("{x!r:>99}", x=1),
        stored("{0}{}", x=1),
        stored("{x:{x}}", x=9),
        stored("{y}", y=json.loads(stored("{x:>999999999}", x=1))),
        stored("one", "{count:>999999999}", count=2),
        stored("one", "many", count="2"),
        stored("one", "many", count=1.5),
        stored("one", "many"),
        stored(5),
        stored("{x", x=1),
        '{"text": ' + "[" * 100_000,
        '{"text": "a"}',
    ],
)
def test_what_somebody_typed_is_no_template(typed: str) -> None:
    assert deserialize_phrase(typed) is typed
    for plain in (typed, stored("It looks {like} it.", like="just")):
        assert str(deserialize_phrase(serialize_phrase(plain))) == plain
        with use_language("ja"):
            assert say(deserialize_phrase(serialize_phrase(plain))) == plain


def test_every_template_of_the_code_can_be_stored() -> None:
    for key in extract_messages():
        for template in (key,) if isinstance(key, str) else key:
            if not template.isprintable() or '{"' in template or "{task." in template:
                continue  # without values, they are not filled in
            assert _is_safe_template(template), template


@pytest.mark.parametrize(
    "translation", ["{nome} です", "{0}", "{name.size}", "{name:d}", "{name", "{name[a]}"]
)
def test_a_translation_that_does_not_fit_leaves_the_english(
    monkeypatch: pytest.MonkeyPatch, translation: str
) -> None:
    monkeypatch.setattr(
        "i18n.phrase.translate",
        lambda language, template, *_: translation if language == "ja" else template,
    )
    with use_language("ja"):
        assert say("{name} is there.", name="tiny") == "tiny is there."


def test_a_catalogue_that_cannot_be_read_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ja").mkdir()
    (tmp_path / "ja" / "a.po").write_bytes(b'msgid "one"\nmsgstr "\xe4\xb8"\n')
    (tmp_path / "ja" / "b.po").mkdir()
    (tmp_path / "ja" / "c.po").write_text('msgid "two"\nmsgstr "二"\n', encoding="utf-8")
    monkeypatch.setattr("i18n.catalogue.CATALOGUES_FOLDER", tmp_path)
    catalogue = load_catalogue.__wrapped__("ja")
    assert [catalogue.gettext(one) for one in ("one", "two")] == ["one", "二"]
    assert [Path(one.args[0]).name for one in caplog.records] == ["a.po", "b.po"]


def test_an_error_keeps_the_phrase_that_it_was_made_of() -> None:
    why = phrase("{who} is gone.", who="tiny")
    assert message_of(ValueError(why)) is why
    assert phrase("No: {why}", why=ValueError(why)).values["why"] is why
    assert [message_of(one) for one in (ValueError("odd", 1), OSError(2, "gone"), KeyError())] == [
        "('odd', 1)",
        "[Errno 2] gone",
        "",
    ]


def test_locales() -> None:
    known = ["ja", "ja_JP.UTF-8", "en-GB", "en_US", "C.UTF-8", "fr", "", None]
    assert list(map(language_of_locale, known)) == ["ja", "ja", "en", "en", None, None, None, None]


def test_the_language_of_the_terminal(monkeypatch) -> None:
    monkeypatch.delenv("LC_ALL")
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert terminal_language() == "ja"
    monkeypatch.setenv("LC_MESSAGES", "C")
    assert terminal_language() == "en"
