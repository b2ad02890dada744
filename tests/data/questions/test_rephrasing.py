"""A question in other words, and a question that only looks like it."""

from __future__ import annotations

from random import Random

import pytest

from data.questions.near_misses import SIBLINGS, near_miss
from data.questions.near_misses_ja import same_words
from data.questions.rephrasing import AskedForm, Form, rephrase, words
from data.questions.synonyms import other_words

QUESTIONS = {
    "What is the code for the vault?": Form.IS,
    "Who's our healer?": Form.IS,
    "When does movie night start?": Form.DOES,
    "Who painted the logo?": Form.WHO_DOES,
    "How do I get the Ember role?": Form.HOW_TO,
    "Where do I post my drawings?": Form.WHERE_TO,
    "What happens if I swear?": Form.IF,
    "How many pets may I have?": Form.COUNT,
    "Can I bring a friend?": Form.MAY,
    "Why do we call Anders the Admiral?": Form.WHY,
    "Which boss do we skip?": Form.WHICH,
    "Is there a book club?": Form.THERE,
    "Are guests welcome on Monday?": Form.WHETHER,
    "Tell me about the teapot incident.": Form.TELL,
    "pizza": Form.OTHER,
}
JAPANESE = (
    ("ギルドマスターは誰ですか？", "マスター"),
    ("雑談チャンネルはどこ？", "雑談"),
    ("レイドはいつですか", "レイド"),
    ("このサーバーの合言葉は何？", "合言葉"),
)


@pytest.mark.parametrize(("text", "form"), QUESTIONS.items())
def test_the_form_of_a_question_is_recognised(text: str, form: Form) -> None:
    assert AskedForm.parse(text).form is form


@pytest.mark.parametrize("text", QUESTIONS)
def test_it_is_asked_in_many_ways_that_keep_a_word_that_matters(text: str) -> None:
    rng, keys = Random(1), AskedForm.parse(text).keys
    said = {rephrase(text, rng) for _ in range(60)}
    assert len(said) >= (5 if len(keys) > 1 else 3)
    stems = {key.lower()[:3] for key in keys}
    stems |= {part[:3] for word in keys for other in other_words(word) for part in words(other)}
    for other in said:
        assert stems & {one.lower()[:3] for one in words(other)}, other


@pytest.mark.parametrize(("text", "key"), JAPANESE)
def test_japanese_is_asked_in_many_ways(text: str, key: str) -> None:
    said = {rephrase(text, Random(seed)) for seed in range(60)}
    assert len(said) >= 8
    assert all(any(word in one for word in same_words(key)) for one in said)


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (
            "遅刻したらどうなりますか？",
            {"遅刻したらどうなるか教えて"},
        ),
        ("カレー事件とは何ですか？", {"カレー事件って何？", "カレー事件を教えて"}),
        ("なぜ呼ばれるのですか？", {"どうして呼ばれるの？", "なんで呼ばれるか知ってる？"}),
        ("参加費はいくらですか？", {"参加費は何円？"}),
        ("写真はどこに貼ればいいですか？", {"写真どこに貼ればいい？"}),
        ("参加できますか？", {"参加できるか教えて", "応募できるの？"}),
        ("何をしていますか？", {"何をしているの？"}),
        ("会議に参加しますか？", {"会議に参加するか教えて"}),
        ("何時に起きますか？", {"何時に起きますか？", "ねえ、何時に起きますか？"}),
        ("泳ぎますか？", {"泳ぎますか？", "泳ぎますか教えてください"}),
        ("調子はどうですか？", {"調子ってどう？", "調子はどんな感じ？"}),
    ],
)
def test_japanese_is_asked_as_it_is_spoken(text: str, ways: set[str]) -> None:
    said = {rephrase(text, Random(seed)) for seed in range(600)}
    assert ways <= said
    for wrong in ("とを", "のの", "りの", "くか", "ますの", "ますです", "ぎる", "どうすれば"):
        assert not [one for one in said if wrong in one]


def test_equal_seeds_ask_alike() -> None:
    once, again = ([rephrase(text, Random(3)) for text in QUESTIONS] for _ in range(2))
    assert once == again


@pytest.mark.parametrize("text", [one for one in QUESTIONS if one != "pizza"])
def test_a_near_miss_lacks_a_word_that_matters(text: str) -> None:
    form, rng = AskedForm.parse(text), Random(1)
    missed = [one for _ in range(60) if (one := near_miss(form, rng))]
    assert len(set(missed)) > 20
    for one in missed:
        left = {word.lower() for word in words(one)}
        assert any(key.lower() not in left for key in form.keys)


@pytest.mark.parametrize("text", ["What is the first rule?", "What is rule 1?", "Is it Monday?"])
def test_a_number_or_a_day_becomes_another(text: str) -> None:
    form, rng = AskedForm.parse(text), Random(2)
    kind = next(key.lower() for key in form.keys if key.isdigit() or key.lower() in SIBLINGS)
    drawn = {tuple(map(str.lower, words(one))) for _ in range(80) if (one := near_miss(form, rng))}
    others = {one for said in drawn for one in said} - {one.lower() for one in words(text)}
    expected = {str(n) for n in range(1, 10)} if kind.isdigit() else set(SIBLINGS[kind])
    assert len(others & expected) > 3
