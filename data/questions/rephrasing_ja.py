"""Asks a Japanese question in other words, by rules. Pure: equal seeds give equal sentences."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from core.japanese import KANJI
from data.questions.japanese import KATAKANA
from data.questions.synonyms import SYNONYMS_JA, groups_of

_ENDING = re.compile(
    r"(?:(?:は|って)?(?P<wh>何|なに|誰|だれ|どこ|いつ|どれ|どう|いくら|いくつ|なぜ|どうして)"
    r"(?:ですか|でしょうか|なの|なのですか|だっけ|だ|か)?|ですか|でしょうか|なの|の|か)?[？?。.！!]*$"
)
"""What ends a question: the word that asks, and politeness."""
_FRAMES = {
    "": "{x}？|{x}ですか？|{x}でしょうか？|{x}の？|{x}か教えて|{x}か知ってる？|ねえ、{x}？",
    "verb": "{x}？|{x}の？|{x}んですか？|{x}か教えて|{x}か知ってる？|ねえ、{x}？|{x}んだっけ|{x}",
    "polite": "{x}か？|{x}か教えてください|{x}か知っていますか？|ねえ、{x}か？|{x}か",
    "何": "{x}って何？|{x}は何ですか？|{x}は何？|{x}って何だっけ|{x}を教えて|{x}とは？"
    "|{x}を教えてください|{x}は？|{x}について教えて|{x}が何か知ってる？|{x}がわからない|{x}って？",
    "誰": "{x}って誰？|{x}は誰ですか？|{x}は誰？|{x}って誰だっけ|{x}を教えて|{x}は？"
    "|誰が{x}？|{x}について教えて|{x}が誰か知ってる？|{x}を知ってる？|{x}の名前は？|{x}の人は？",
    "どこ": "{x}はどこ？|{x}はどこですか？|{x}ってどこ？|{x}はどこにある？|{x}の場所は？"
    "|{x}の場所を教えて|{x}が見つからない|{x}ってどこだっけ|{x}を探してる",
    "いつ": "{x}はいつ？|{x}はいつですか？|{x}っていつ？|{x}の日は？|{x}はいつから？|{x}の日時は？"
    "|{x}の時間を教えて|{x}っていつだっけ|{x}は何曜日？|{x}は何時？|次の{x}はいつ？",
    "いくら": "{x}はいくら？|{x}っていくら？|{x}はいくらですか？|{x}は何円？|{x}の値段は？"
    "|{x}いくらだっけ|{x}の金額を教えて|{x}は高い？",
    "どう": "{x}はどう？|{x}ってどう？|{x}はどうですか？|{x}はどうなの？|{x}はどんな感じ？",
}
_POLITE_VERB = re.compile(
    rf"(?P<stem>[てで]い|でき|[なえけせてべめれ]|[{KANJI}](?P<kana>[りみ])|な(?P<naru>り)"
    rf"|(?:[{KANJI}]{{2}}|[{KATAKANA}]|を)(?P<suru>し))ますか[？?。]*$"
)
"""A polite verb whose plain form is sure: 起きますか may be 起く or 起きる by its letters alone."""
_SAME = {"なに": "何", "だれ": "誰"}
_REASONS = ("なぜ", "どうして", "なんで")
_REASON = re.compile("|".join(_REASONS))
_OPENINGS = ("ねえ、", "あの、", "すみません、", "質問、", "ところで、", "えっと、")
_NOUN = re.compile(rf"[{KANJI}]{{2,}}|[{KATAKANA}]{{2,}}")
SYNONYM_RATIO = 0.4
"""The share of rephrasings in which a word is replaced by one that means the same."""


def rephrase(text: str, rng: Random) -> str:
    """The question in other words."""
    text, verbs = _POLITE_VERB.subn(_to_plain, _vary_words(text, rng))
    found = _ENDING.search(text)
    asked = (found["wh"] if found else None) or ("verb" if verbs else "")
    subject = text[: found.start()] if found else text
    if not asked and subject.endswith("ます"):
        asked = "polite"
    if asked in ("", "verb"):
        subject = _vary_topic(subject, rng).removesuffix("の")
    elif asked in ("何", "なに"):
        subject = subject.removesuffix("と")  # 〜とは何ですか
    frames = _FRAMES.get(_SAME.get(asked, asked))
    if frames is None or not subject:
        frames, subject = "{x}|{x}？|{x}か教えて|ねえ、{x}？|{x}？教えて", text.rstrip("？?。")
    return type_casually(rng.choice(frames.split("|")).format(x=subject), rng)


def _to_plain(verb: re.Match[str]) -> str:
    """The plain form of a polite verb: なります becomes なる, 参加します 参加する."""
    if verb["suru"]:
        return verb["stem"].removesuffix("し") + "する"
    if verb["naru"]:
        return "なる"
    if verb["kana"]:
        return verb["stem"][:-1] + ("む" if verb["kana"] == "み" else "る")
    return verb["stem"] + "る"


def _vary_words(text: str, rng: Random) -> str:
    """With a noun that means the same, or another word for “why”."""
    if rng.random() < SYNONYM_RATIO:
        found = [(noun, group) for group in _nouns() for noun in group if noun in text]
        if found:
            old, group = max(found, key=lambda one: len(one[0]))
            text = text.replace(old, rng.choice([one for one in group if one != old]), 1)
    if rng.random() < SYNONYM_RATIO:
        text = _REASON.sub(rng.choice(_REASONS), text, count=1)
    return text


def _vary_topic(text: str, rng: Random) -> str:
    """With the particle of the topic as one speaks, or without it."""
    topic, found, rest = text.partition("は")
    return topic + rng.choice(("は", "って", "")) + rest if topic and found else text


@cache
def _nouns() -> tuple[tuple[str, ...], ...]:
    """The nouns of each group of synonyms, where there are several."""
    nouns = (tuple(filter(_NOUN.fullmatch, group)) for group in groups_of(SYNONYMS_JA))
    return tuple(group for group in nouns if len(group) > 1)


def type_casually(text: str, rng: Random) -> str:
    """The text as people type it: with an opening, without marks."""
    if rng.random() < 0.2:
        text = rng.choice(_OPENINGS) + text
    return text.rstrip("？?。") if rng.random() < 0.5 else text
