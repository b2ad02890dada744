"""A Japanese near miss asks the same of something else."""

from __future__ import annotations

from random import Random

import pytest

from core.japanese import is_japanese
from data.questions.likeness import is_like
from data.questions.near_misses_ja import near_miss

TAUGHT = ["料理会はいつですか？", "サーバーの管理人は誰ですか？", "賞品はどこでもらえますか？"]


@pytest.mark.parametrize("question", TAUGHT)
def test_one_word_is_another_and_the_rest_is_the_same(question: str) -> None:
    drawn = [near_miss(question, Random(seed)) or "" for seed in range(30)]
    assert len(set(drawn)) > 10
    for text in drawn:
        assert is_japanese(text)
        assert text[-4:] == question[-4:]
        assert text != question
        assert not is_like(text, question)
    assert near_miss(question, Random(0)) == drawn[0]


def test_nothing_to_replace() -> None:
    assert near_miss("えっと？", Random(0)) is None


@pytest.mark.parametrize(
    ("question", "others"),
    [
        (
            "一番目のルールは何ですか？",
            {"二番目のルールは何ですか？"},
        ),
        ("犬の名前は何ですか？", {"猫の名前は何ですか？"}),
        ("夏の合宿はいつですか？", {"冬の合宿はいつですか？"}),
        ("3番の部屋はどこ？", {"2番の部屋はどこ？"}),
        ("木曜日は何をしますか？", {"土曜日は何をしますか？"}),
        ("たけしさんは誰ですか？", {"あやさんは誰ですか？"}),
        ("料理会はいつですか？", {"読書会はいつですか？", "会費はいつですか？"}),
    ],
)
def test_words_of_a_kind_are_the_likeliest_to_be_confused(question: str, others: set[str]) -> None:
    assert others <= {near_miss(question, Random(seed), ["会費"]) for seed in range(400)}


@pytest.mark.parametrize("question", ["あやまるときはどうする？", "何時に行きますか？"])
def test_a_part_of_a_word_is_no_word(question: str) -> None:
    assert {near_miss(question, Random(seed)) for seed in range(50)} == {None}
