"""What a heading or a JSON key says of its column, in English or Japanese. Pure.

Some names are surer than others (`Certainty`): in a table with the columns Customer, Question and
Answer the customer's is a name, and the question is what the user says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

MAX_HEADING_CHARS = 80
MESSAGES_KEYS = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "turns",
    "chat",
)
"""The JSON keys of a conversation's list of messages."""
ROLE_KEYS = ("role", "from")
"""The JSON keys of a message's speaker."""


class Field(StrEnum):
    """What a column can hold; the values are the headings of written files."""

    USER = "user"
    BOT = "bot"
    CONVERSATION = "conversation"
    TURN = "turn"
    SOURCE = "source"
    ALSO = "also asked as"
    LINES = "lines"
    PROBLEM = "problem"
    OTHER = "other"


UTTERANCE_FIELDS = (Field.USER, Field.BOT)
REPEATED_FIELDS = (*UTTERANCE_FIELDS, Field.ALSO)
"""Fields that several columns with a heading may hold."""


class Certainty(IntEnum):
    """How surely a heading names its field; of an utterance's columns only the surest are read."""

    COMPOUND = 1
    """It ends in a word for a text: “Harbour question”."""
    SPEAKER = 2
    """It names who speaks: “customer”, “bot”."""
    TEXT = 3
    """It names a text: “question”, “bot response”, 質問."""


class Named(NamedTuple):
    """The field that a heading names, and how surely."""

    field: Field
    certainty: Certainty


_TEXTS = {
    Field.USER: "question questions q input inputs prompt prompts instruction instructions query "
    "queries inquiry inquiries enquiry context usertext "
    "質問 問い 問 入力 発話 問い合わせ 問合せ 問合わせ 相談",
    Field.BOT: "answer answers a output outputs response responses reply replies completion "
    "completions bottext 回答 解答 答え 答 返答 返事 返信 応答 出力",
}
_SPEAKERS = {
    Field.USER: "user users human customer customers client clients visitor guest caller requester "
    "student patient ユーザー ユーザ 利用者 人間 お客様 お客さま 顧客 相談者",
    Field.BOT: "bot bots chatbot assistant agent agents advisor support staff operator expert "
    "counselor counsellor therapist doctor teacher ai model gpt chatgpt "
    "ボット チャットボット アシスタント システム 担当者 担当 オペレーター オペレータ スタッフ 店員",
}
_OTHERS = {
    Field.CONVERSATION: "conversation conversationid dialog dialogue dialogid thread "
    "会話 会話id 会話番号 対話 スレッド",
    Field.TURN: "turn turnnumber number no order 番号 順番 順序 ターン",
    Field.SOURCE: "source origin 出典 出所 引用元 ソース",
    Field.ALSO: "also alsoasked alsoaskedas 別の聞き方 ほかの聞き方 他の聞き方",
    Field.LINES: "lines 改行",
    Field.PROBLEM: "problem 問題点",
}


def _by_name(names: dict[Field, str]) -> dict[str, Field]:
    return {name: field for field, listed in names.items() for name in listed.split()}


_TEXT_OF, _SPEAKER_OF, _OTHER_OF = map(_by_name, (_TEXTS, _SPEAKERS, _OTHERS))
_SAID, _NOT_A_TEXT = (
    frozenset(words.split())
    for words in (
        "text content message msg utterance sentence said",
        "has is was no of number num count total system wrong bad incorrect rejected negative old "
        "previous parent draft related next id",
    )
)
"""What may follow a speaker or a text (“user message”), and words with which a heading names
something else: “number of answers”, “rejected response”."""
_JAPANESE_TEXTS = "|".join(name for name in _TEXT_OF if not name.isascii())
_JAPANESE_SPEAKERS = "|".join(
    sorted((name for name in _SPEAKER_OF if not name.isascii()), key=len, reverse=True)
)
_JAPANESE = re.compile(
    rf"(?P<letter>[qa])?(?:よくある|よくいただく|主な|想定|模範|最終|参考|学習用|サンプル)?"
    rf"(?:(?P<speaker>{_JAPANESE_SPEAKERS}|ai|gpt)(?:からの|への|の)?)?"
    rf"(?:ご|お|御)?(?:(?P<text>{_JAPANESE_TEXTS})(?:文|内容|事項|例|欄|本文|テキスト|一覧|集)?"
    r"|(?P<said>発言|セリフ|台詞|メッセージ|文|テキスト)(?:内容)?)"
)
JAPANESE_NAMES = re.compile("質問|回答|返答|返事|返信|応答|解答|問い合わせ|利用者|会話|出典|出所")
"""Headings in kanji; another encoding read wrongly hardly ever contains one."""


def name_of(heading: str) -> Named | None:
    """The field that a heading names, and how surely; None if it names none.

    Case, width, spaces and a final number don't matter, and a heading may name the same field in
    two languages: "Bot 2", "user / ユーザー".
    """
    if len(heading) > MAX_HEADING_CHARS:
        return None
    parts = re.split(r"[/|・\n(（]", heading)
    found = [named for part in parts if (named := _name_of_part(part))]
    return max(found, key=lambda one: one.certainty) if len({n.field for n in found}) == 1 else None


def _name_of_part(part: str) -> Named | None:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", part))  # userText
    text = re.sub(r"\d+[\s:.)]*$", "", spaced.casefold())
    words = [word.removesuffix("'s") for word in re.split(r"[\s_.:)?!*-]+", text) if word]
    name = "".join(words)
    for names, certainty in (
        (_TEXT_OF, Certainty.TEXT),
        (_SPEAKER_OF, Certainty.SPEAKER),
        (_OTHER_OF, Certainty.TEXT),
    ):
        if name in names:
            return Named(names[name], certainty)
    return _japanese(name) if not name.isascii() else _compound(words)


def _japanese(name: str) -> Named | None:
    if not (found := _JAPANESE.fullmatch(name)):
        return None
    letter, text = (_TEXT_OF.get(found[part]) for part in ("letter", "text"))
    return _agreeing(_SPEAKER_OF.get(found["speaker"]), letter, text)


def _compound(words: Sequence[str]) -> Named | None:
    """“Customer question”, “best answer”, “user message”: what the last word says."""
    *before, last = words or [""]
    if not before or _NOT_A_TEXT.intersection(words):
        return None
    speakers = {_SPEAKER_OF[word] for word in before if word in _SPEAKER_OF}
    texts = {_TEXT_OF[word] for word in before if word in _TEXT_OF}
    if len(speakers) > 1 or (texts - {_TEXT_OF.get(last)} and last not in _SAID):
        return None
    speaker = next(iter(speakers), None)
    if last in _SAID:
        return _agreeing(speaker, next(iter(texts), None)) if len(texts) < 2 else None
    if last not in _TEXT_OF or len(last) == 1:
        return None
    named = _agreeing(speaker, _TEXT_OF[last])
    return named if speaker or not named else Named(named.field, Certainty.COMPOUND)


def _agreeing(*named: Field | None) -> Named | None:
    """What a speaker and a text together name: None for “bot question”."""
    fields = {one for one in named if one}
    return Named(fields.pop(), Certainty.TEXT) if len(fields) == 1 else None


def surest_fields(headings: Sequence[str]) -> list[Field | None]:
    """The field of each heading; of the user's and of the bot's only the surest ones."""
    named = [name_of(heading) for heading in headings]
    best = {
        field: max((one.certainty for one in named if one and one.field is field), default=None)
        for field in UTTERANCE_FIELDS
    }

    def fields() -> Iterator[Field | None]:
        for one in named:
            dropped = one and one.field in best and one.certainty != best[one.field]
            yield Field.OTHER if dropped else one and one.field

    return list(fields())
