"""A taught question is found however it is asked, and a near miss of it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.questions.likeness import Likeness, TaughtQuestions, compare, is_like

SAME = {
    "Who is our admin?": (
        "who is our admin",
        "WHO IS OUR ADMIN???",
        "whos our admin",
        "hey bot, who is the admin?",
        "do you know who our admin is?",
        "Hi! Can you tell me who the administrator is, please?",
    ),
    "What is rule one?": (
        "whats rule 1",
        "what's the first rule?",
        "rule 1",
        "tell me the 1st rule",
    ),
    "When is movie night?": (
        "what time is the movie night?",
        "when does movie night start",
        "movienight when",
    ),
    "Who won the last drawing contest?": (
        "who won the last drawing contset",
        "who won the last darwing contest",
        "who came first in the last drawing competition?",
    ),
    "How do I get the artist role?": (
        "how can we get the artist rank",
        "how to obtain the artist role",
    ),
    "What happens if I spam?": ("what if I spam", "If I spam, what happens?"),
    "Is swearing allowed?": ("can I swear?", "are we allowed to curse"),
    "What is the name of our mascot?": ("what's the mascot called?",),
    "How are you?": ("how r u", "Hey, how are you doing?"),
    "読書会の主催者は誰ですか？": (
        "読書会の主催者って誰",
        "読書会は誰が主催していますか？",
        "ねえ、読書会の主催者が誰か教えて",
    ),
    "ルール1は何ですか？": ("ルール１を教えてください", "ルール1って何？"),
    "映画の夜は何時からですか？": ("映画の夜はいつ始まりますか", "映画の夜の開始時間を教えて"),
}
NEAR_MISSES = {
    "Who is our admin?": (
        "Who is our admin's brother?",
        "When is our admin here?",
        "Who is not our admin?",
    ),
    "What is rule one?": ("What is rule two?", "What is rule 11?", "Why is rule one?"),
    "When is movie night?": ("When is game night?", "When is movie day?", "Who hosts movie night?"),
    "Who is Marlow?": ("Who is Marlon?", "Who is Harlow?", "Who is Denise?", "I love Marlow"),
    "What is your favorite color?": ("What is my favorite color?", "What is your favorite food?"),
    "Do you like pizza?": ("Do you like sushi?", "Do you make pizza?", "Do you not like pizza?"),
    "How are you?": ("How old are you?", "Who are you?"),
    "Can I invite my friends?": ("Can I block my friends?", "Should I invite my friends?"),
    "Is Ada taller than Ben?": ("Is Ben taller than Ada?",),
    "読書会の主催者は誰ですか？": ("料理会の主催者は誰ですか？", "読書会はいつですか？"),
    "ルール1は何ですか？": ("ルール2は何ですか？", "レベル1は何ですか？"),
}


def pairs(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(asked, taught) for taught, questions in table.items() for asked in questions]


@pytest.mark.parametrize(("asked", "taught"), pairs(SAME))
def test_a_taught_question_is_found_among_others_however_it_is_asked(
    asked: str, taught: str
) -> None:
    index = TaughtQuestions()
    for number, question in enumerate(SAME):
        index.add(number, question)
    match = index.find(asked)
    assert match is not None
    assert match.question == taught
    assert is_like(asked, taught)


@pytest.mark.parametrize(("asked", "taught"), pairs(NEAR_MISSES))
def test_a_near_miss_is_not_the_taught_question(asked: str, taught: str) -> None:
    index = TaughtQuestions()
    index.add(1, taught)
    assert index.find(asked) is None
    assert not is_like(asked, taught)


@pytest.mark.parametrize(
    ("asked", "taught", "how"),
    [
        ("What is rule two?", "What is rule one?", Likeness.OTHER),
        ("Who is Denise?", "Who is Marlow?", Likeness.OTHER),
        ("When is Marlow here?", "Who is Marlow?", Likeness.OTHER),
        ("I had toast for breakfast.", "Who is Marlow?", Likeness.OTHER),
        ("And when?", "Who is Marlow?", Likeness.UNSURE),
        ("Where do I get a role?", "How do I get a role?", Likeness.UNSURE),
        ("Who is the admin of the other guild?", "Who is our admin?", Likeness.UNSURE),
        ("who's marlow", "Who is Marlow?", Likeness.SAME),
    ],
)
def test_another_question_is_told_from_one_that_may_be_the_same(
    asked: str, taught: str, how: Likeness
) -> None:
    assert compare(asked, taught) is how


def test_taught_questions_that_differ_in_a_name_or_a_number_are_never_confused() -> None:
    index = TaughtQuestions()
    names = ("Marlow", "Marlowe", "Harlow", "Marlon", "Martina", "Martine")
    questions = [f"Who is {name}?" for name in names] + [f"What is rule {n}?" for n in range(1, 40)]
    for number, question in enumerate(questions):
        index.add(number, question)
    for number, question in enumerate(questions):
        match = index.find(question.lower().rstrip("?"))
        assert match is not None
        assert match.number == number


def test_the_newest_of_equal_questions_is_found_and_what_is_removed_is_not() -> None:
    index = TaughtQuestions()
    index.add(1, "Who is Marlow?")
    index.add(2, "who is marlow")
    index.add(3, "Where is the map?")
    newest = index.find("who is Marlow")
    assert newest is not None
    assert newest.number == 2
    index.remove(2)
    older = index.find("who is Marlow")
    assert older is not None
    assert older.number == 1
    index.remove(1)
    index.remove(1)
    assert index.find("who is Marlow") is None
    assert len(index) == 1


def test_keywords_that_fit_two_taught_questions_find_neither() -> None:
    index = TaughtQuestions()
    index.add(1, "Who runs the book club?")
    index.add(2, "When is the book club?")
    assert index.find("book club?") is None
    found = index.find("who is in charge of the book club?")
    assert found is not None
    assert found.number == 1


@pytest.mark.parametrize(
    ("asked", "taught"),
    [
        ("who's leading team 2", "Who leads the second raid team?"),
        ("what's the meeting stone record", "How many meeting stone jumps is the record?"),
        ("any book club?", "Is there a book club?"),
        ("where can I post my mug", "Where do I post pictures of my mug?"),
        ("月のイベントの会場", "月のイベントの会場はどこですか？"),
    ],
)
def test_a_question_in_brief_is_the_only_taught_one_that_says_so_much(
    asked: str, taught: str
) -> None:
    index = TaughtQuestions()
    index.add(1, taught)
    index.add(2, "Where is the map?")
    match = index.find(asked)
    assert match is not None
    assert match.number == 1
    index.add(3, taught.lower())
    newest = index.find(asked)
    assert newest is not None
    assert newest.number == 3


@pytest.mark.parametrize(
    ("asked", "taught"),
    [
        ("What is the wifi?", "What is the wifi password?"),  # a word is not enough
        ("What is the rule for cats?", "What is rule 3 for cats?"),
        ("Who leads the red team?", "Who leads the second raid team?"),
        ("When does the raid team meet?", "Who leads the second raid team?"),
        ("I saw the raid team.", "Who leads the second raid team?"),
        ("Who does not lead the raid team?", "Who leads the second raid team?"),
        ("What is my favorite pizza?", "What is your favorite pizza topping?"),
        ("What is the raid team?", "Where does the raid team meet?"),
    ],
)
def test_what_only_shares_words_is_no_taught_question_in_brief(asked: str, taught: str) -> None:
    index = TaughtQuestions()
    index.add(1, taught)
    assert index.find(asked) is None


def test_a_question_in_brief_that_may_be_several_is_none() -> None:
    index = TaughtQuestions()
    index.add(1, "Who leads the first raid team?")
    index.add(2, "Who leads the second raid team?")
    assert index.find("who leads the raid team") is None
    assert index.find_same("who leads the first team") is None
    found = index.find("who leads the first team")
    assert found is not None
    assert found.number == 1


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8, unique=True))
def test_any_text_is_found_as_it_was_taught_and_nothing_is_left_after_it_is_removed(
    texts: list[str],
) -> None:
    index = TaughtQuestions()
    for number, text in enumerate(texts):
        index.add(number, text)
    for text in texts:
        match = index.find(text)
        assert match is not None
        assert compare(text, match.question) is Likeness.SAME
    for number in range(len(texts)):
        index.remove(number)
    assert all(index.find(text) is None for text in texts)
