"""Proper names, told by their capital letters."""

from __future__ import annotations

import pytest

from data.questions.meanings import names_agree, proper_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Who is Marlow?", {"marlow"}),
        ("When does Nadia's train leave for Port Ellen?", {"nadia", "port", "ellen"}),
        ("Marlow is our admin. Who else?", set()),
        ("who is marlow", set()),
        ("WHO IS MARLOW", set()),
        ("Who Feeds The Hamster?", set()),
        ("hi! So, I wonder who that is", set()),
        ("😀 Zebras are what I like", set()),
        ("which Émile do you mean", {"émile"}),
        ("", set()),
    ],
)
def test_what_is_a_name(text: str, names: set[str]) -> None:
    assert proper_names(text) == names


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("what does Joris eat", "what does Anders eat", False),
        ("why did Joris make Anders an Admiral", "why is Anders the Admiral of Port Ellen", False),
        ("why did joris call Anders an Admiral", "why is Anders the Admiral", True),
        ("what does joris eat", "what does Anders eat", True),
        ("what does Anders eat, asks Joris", "what does Anders eat", True),
        ("what do the Anderses eat at Christmas", "what does Anders eat", True),
        ("what does he eat", "what does Anders eat", True),
    ],
)
def test_whether_names_agree(one: str, other: str, agree: bool) -> None:
    assert names_agree(one, other) is names_agree(other, one) is agree
