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
