"""Asks a Japanese question in other words, by rules. Pure: equal seeds give equal sentences."""

from __future__ import annotations

import re
from random import Random

_ENDING = re.compile(
    r"(?:(?:は|って)?(?P<wh>何|なに|誰|だれ|どこ|いつ|どれ|どう|いくら|いくつ|なぜ|どうして)"
    r"(?:ですか|でしょうか|なの|なのですか|だっけ|だ|か)?|ですか|ますか|でしょうか|なの|の|か)?[？?。.！!]*$"
)
"""What ends a question: the word that asks, and politeness."""
_FRAMES = {
    "": "{x}？|{x}ですか？|{x}でしょうか？|{x}の？|{x}か教えて|{x}か知ってる？|ねえ、{x}？",
    "何": "{x}って何？|{x}は何ですか？|{x}は何？|{x}って何だっけ|{x}を教えて|{x}とは？"
    "|{x}を教えてください|{x}は？|{x}について教えて|{x}が何か知ってる？|{x}がわからない|{x}って？",
    "誰": "{x}って誰？|{x}は誰ですか？|{x}は誰？|{x}って誰だっけ|{x}を教えて|{x}は？"
    "|誰が{x}？|{x}について教えて|{x}が誰か知ってる？|{x}を知ってる？",
    "どこ": "{x}はどこ？|{x}はどこですか？|{x}ってどこ？|{x}はどこにある？|{x}の場所は？"
    "|{x}の場所を教えて|{x}が見つからない|{x}ってどこだっけ|どこで{x}？|{x}を探してる",
    "いつ": "{x}はいつ？|{x}はいつですか？|{x}っていつ？|{x}の日は？|{x}はいつから？"
    "|{x}の時間を教えて|{x}っていつだっけ|{x}は何曜日？|{x}は何時？",
}
_SAME = {"なに": "何", "だれ": "誰"}
_OPENINGS = ("ねえ、", "あの、", "すみません、", "質問、", "ところで、", "えっと、")


def rephrase(text: str, rng: Random) -> str:
    """The question in other words."""
    found = _ENDING.search(text)
    asked = (found["wh"] if found else None) or ""
    subject = text[: found.start()] if found else text
    frames = _FRAMES.get(_SAME.get(asked, asked))
    if frames is None or not subject:
        frames, subject = "{x}|{x}？|{x}か教えて|ねえ、{x}？|{x}？教えて", text.rstrip("？?。")
    return type_casually(rng.choice(frames.split("|")).format(x=subject), rng)


def type_casually(text: str, rng: Random) -> str:
    """The text as people type it: with an opening, without marks."""
    if rng.random() < 0.2:
        text = rng.choice(_OPENINGS) + text
    return text.rstrip("？?。") if rng.random() < 0.5 else text
