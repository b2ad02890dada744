"""Sentences that know how they were made."""

from __future__ import annotations

import copy
import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from i18n.phrase import Phrase, packed, phrase, phrases, together, unpacked, words
from i18n.reader import of_locale, of_terminal, say, speaking


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
    assert together(["{a}", phrase("{b}", b="}")], " {} ") == "{a} {} }"


def test_a_list_has_the_commas_of_its_language() -> None:
    listed = together([phrase("webhook address"), "a, b", "c"], ", ")
    assert listed == "webhook address, a, b, c"
    assert listed.to("ja") == "Webhookのアドレス、a, b、c"
    assert together(["only"], ", ").to("ja") == "only"
    assert together([], ", ").to("ja") == ""


def test_what_nobody_translated_is_said_in_english() -> None:
    with speaking("ja"):
        assert say("Nobody has translated {this}.", this="that") == "Nobody has translated that."
        assert say("Somebody’s own {words}") == "Somebody’s own {words}"


@given(st.text(), st.integers(), st.text())
def test_packed_and_unpacked_it_is_the_same(word: str, count: int, plain: str) -> None:
    inner = phrases("{count} of {word}", "{count} of {word}s", count, word=word)
    made = together([phrase("{a}: {b}", a=inner, b=1.5), plain], "\n")
    for again in (unpacked(packed(made)), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert isinstance(again, Phrase)
        assert (again, again.template, again.values) == (made, made.template, made.values)
    assert packed(plain) == plain
    assert unpacked(plain) == plain
    assert unpacked('{"text": ' + plain) == '{"text": ' + plain


def test_an_error_keeps_the_phrase_that_it_was_made_of() -> None:
    why = phrase("{who} is gone.", who="tiny")
    assert words(ValueError(why)) is why
    assert phrase("No: {why}", why=ValueError(why)).values["why"] is why
    assert [words(one) for one in (ValueError("odd", 1), OSError(2, "gone"), KeyError())] == [
        "('odd', 1)",
        "[Errno 2] gone",
        "",
    ]


def test_locales() -> None:
    known = ["ja", "ja_JP.UTF-8", "en-GB", "en_US", "C.UTF-8", "fr", "", None]
    assert list(map(of_locale, known)) == ["ja", "ja", "en", "en", None, None, None, None]


def test_the_language_of_the_terminal(monkeypatch) -> None:
    monkeypatch.delenv("LC_ALL")
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert of_terminal() == "ja"
    monkeypatch.setenv("LC_MESSAGES", "C")
    assert of_terminal() == "en"
