"""What is asked about the bot itself: answered from a fixed text, for which no model is asked.

Knows the questions and when they are answered so. The text itself is made elsewhere: it names
commands of Discord.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from bot.chat.known import FixedAnswer, Known, LookUp

HelpText = Callable[[int, str], str]
"""The help for a member of a scope, who asked that question."""

QUESTIONS_FOR_HELP = (
    *("help", "help me", "help please", "please help", "please help me", "i need help"),
    *("what can you do", "what can you do for me", "what can you do here", "what all can you do"),
    *("what can u do", "what can this bot do", "what are you able to do"),
    *("how do i use you", "how can i use you", "how do i use this bot", "how to use this bot"),
    *("how do you use this bot", "how does this bot work"),
    *("commands", "what are your commands", "what commands are there", "show me your commands"),
    *("ヘルプ", "へるぷ", "ヘルプください", "ヘルプお願いします", "コマンド", "コマンド一覧"),
    *("どんなコマンドがある", "どんなコマンドがあるの", "どんなコマンドがありますか"),
    *("使い方", "使い方は", "使い方は何", "使い方を教えて", "使い方教えて"),
    *(
        "使い方を教えてください",
        "使い方教えてください",
        "使い方がわからない",
        "使い方がわかりません",
    ),
    *("どうやって使うの", "どうやって使う", "どうやって使えばいい", "どうやって使えばいいの"),
    *("どうやって使えばいいですか", "どうやって使うんですか", "どうやって使いますか"),
    *("どう使うの", "どう使えばいい", "どう使えばいいの", "どう使えばいいですか"),
    *("何ができる", "何ができるの", "何ができますか", "何ができるんですか", "何ができるのですか"),
    *("あなたは何ができるの", "あなたは何ができますか", "君は何ができるの", "きみは何ができるの"),
    *("ここで何ができるの", "ここでは何ができるの", "ここでは何ができますか"),
    *("このボットは何ができるの", "このボットは何ができますか", "このボットで何ができるの"),
    *("できることは", "できることは何", "できることは何ですか", "できることを教えて"),
    *("できることを教えてください", "何をしてくれるの", "何をしてくれますか"),
)
SPELLINGS = (("なに", "何"), ("出来", "でき"), ("使いかた", "使い方"), ("つかいかた", "使い方"))
"""Other ways to write the same Japanese word."""


def asks_for_help(text: str) -> bool:
    """Whether a text is one of these questions, but for case, marks, spaces and spelling. Nothing
    is guessed: a message that says more than that is conversation."""
    return _normalized(text) in _KNOWN


def _normalized(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(letter for letter in folded if letter.isalnum())
    for other, usual in SPELLINGS:
        letters = letters.replace(other, usual)
    return letters


_KNOWN = frozenset(map(_normalized, QUESTIONS_FOR_HELP))


def with_help(look_up: LookUp, taught: LookUp, help_text: HelpText) -> LookUp:
    """`look_up`, which also knows the answer to a question for help. What was `taught` here as the
    answer to that very question goes first, even where `look_up` leaves it to the model."""

    async def look_up_or_help(scope: int, source: str, question: str) -> Known:
        if asks_for_help(question):
            known = await taught(scope, source, question)
            if known.answer is None and known.expected is None:
                return Known(FixedAnswer(help_text(scope, question)))
        return await look_up(scope, source, question)

    return look_up_or_help
