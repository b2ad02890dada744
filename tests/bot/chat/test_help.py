"""Which questions are for help, and what goes before the fixed answer."""

from __future__ import annotations

import pytest

from bot.chat.help import QUESTIONS_FOR_HELP, asks_for_help, with_help
from bot.chat.known import NOTHING_KNOWN, FixedAnswer, Known, TaughtAnswer


@pytest.mark.parametrize(
    "text",
    [
        *("help", "Help!", "  HELP??? ", "/help", "ｈｅｌｐ", "help 🙏", "Help, please."),
        *("What can you do?", "what can you do", "WHAT  can\nyou do!?", "How do I use you?"),
        *(
            "ヘルプ",
            "ヘルプ！",
            "ﾍﾙﾌﾟ",
            "「ヘルプ」",
            "何ができるの？",
            "なにができるの",
            "何が出来ますか？",
        ),
        *(
            "何が できるの？",
            "使い方",
            "使い方は？",
            "つかいかた",
            "使い方を教えて。",
            "どうやって使うの？",
        ),
        *QUESTIONS_FOR_HELP,
    ],
)
def test_these_ask_for_help(text: str) -> None:
    assert asks_for_help(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "?!", "hello", "help me with my homework", "can you help Ada?", "helpful", "no help"),
        *("What can you do about rain?", "what can I do", "What do you do?", "who can help"),
        *(
            "ヘルプデスクはどこ？",
            "箸の使い方",
            "何ができたの？",
            "使い方の本",
            "誰が何ができるの？",
        ),
    ],
)
def test_these_are_conversation(text: str) -> None:
    assert not asks_for_help(text)


TAUGHT = TaughtAnswer(1, 5, "Ask Ada.")


@pytest.mark.parametrize("taught", [Known(answer=TAUGHT), Known(expected=TAUGHT)])
async def test_a_taught_answer_goes_first_even_if_the_model_is_to_give_it(taught: Known) -> None:
    async def knows(_scope: int, _source: str, _question: str) -> Known:
        return taught

    async def leaves_it_to_the_model(_scope: int, _source: str, _question: str) -> Known:
        return NOTHING_KNOWN

    def text(_scope: int, question: str) -> str:
        return f"the help for {question}"

    assert await with_help(knows, knows, text)(7, "tiny", "help") == taught
    assert await with_help(leaves_it_to_the_model, knows, text)(7, "tiny", "help") == NOTHING_KNOWN
    fixed = await with_help(knows, leaves_it_to_the_model, text)(7, "tiny", "Help!")
    assert fixed == Known(FixedAnswer("the help for Help!"))
    assert await with_help(knows, leaves_it_to_the_model, text)(7, "tiny", "hi") == taught


def test_the_model_answers_several_messages_in_a_row_and_who_wants_another_reply() -> None:
    for known in (Known(FixedAnswer("the help")), Known(TAUGHT)):
        assert known.without_answer() == NOTHING_KNOWN
