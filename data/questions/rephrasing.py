"""Asks a question in other words, by rules.

A question is taken apart by its form (who *is* X, how do I *do* X, what happens if X) and put into
other frames of that form. Pure: no model is asked, and equal seeds give equal sentences. Some come
out awkward, as people ask, but they keep the words that make a question this question.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from core.japanese import is_japanese
from data.questions import rephrasing_ja
from data.questions.synonyms import FOLDER, lines_of, other_words
from data.questions.words import STOP, WEAK

FRAMES = FOLDER / "frames.en.txt"
KEYWORDS_RATIO = 0.28
"""The share of rephrasings that are only the words that matter, as one types into a search box."""
SYNONYM_RATIO, NUMBER_RATIO, DETERMINER_RATIO = 0.35, 0.25, 0.3
"""The shares in which a word is replaced by a synonym, put into the plural or singular, and a
determiner dropped or replaced."""


class Form(Enum):
    """The forms of a question."""

    IS = auto()  # who, what, where, when, which, why is X?
    DOES = auto()  # when, what, where, how does X work?
    WHO_DOES = auto()  # who runs X?
    HOW_TO = auto()  # how do I get X?
    WHERE_TO = auto()  # where do I post X?
    IF = auto()  # what happens if X?
    COUNT = auto()  # how many X, how old is X?
    MAY = auto()  # may I do X?
    WHY = auto()  # why do we X?
    WHICH = auto()  # which X does it?
    THERE = auto()  # is there X, do you have X?
    WHETHER = auto()  # is X Y, can X do Y?
    TELL = auto()  # tell me about X
    OTHER = auto()


_AUX = "(?:is|are|was|were|'s|’s)"
_ONE = "(?:i|we|you|one|people)"
_MODAL = "(?:do|can|should|could|would|must)"
_WH = "(?P<wh>who|what|where|when|which|why|how)"
_PATTERNS = tuple(
    (form, re.compile(pattern, re.IGNORECASE))
    for form, pattern in (
        (Form.IF, "what happens (?:if|when) (?P<x>.+)"),
        (Form.COUNT, r"(?P<wh>how (?:many|much|long|old|big|far|often|tall)) (?P<x>.+)"),
        (Form.HOW_TO, rf"how {_MODAL} {_ONE} (?P<x>(?P<verb>\w+) .+)"),
        (Form.WHERE_TO, rf"where {_MODAL} {_ONE} (?P<x>(?P<verb>\w+) .+)"),
        (Form.WHY, "why (?:do|does|did|can't|can|should) (?P<x>.+)"),
        (Form.IS, rf"{_WH} ?{_AUX} (?P<x>.+)"),
        (Form.DOES, rf"{_WH} (?:does|do|did|can|will) (?P<x>.+) (?P<verb>\w+)"),
        (Form.WHICH, "which (?P<x>.+)"),
        (Form.WHO_DOES, r"who (?P<verb>\w+) (?P<x>.+)"),
        (Form.MAY, rf"(?:can|may|should|am|do) {_ONE} (?:allowed to )?(?P<x>(?P<verb>\w+).*)"),
        (Form.THERE, "(?:is there|are there|do (?:you|we) have|have we got) (?P<x>.+)"),
        (Form.WHETHER, "(?:is|are|was|were|does|do|did|can|will|has|have) (?P<x>.+)"),
        (Form.TELL, "(?:tell me|explain|describe|what do you know)(?: about)? (?P<x>.+)"),
    )
)  # fmt: skip


def _read_frames() -> dict[str, tuple[str, ...]]:
    """The frames of each section of the file."""
    sections: dict[str, tuple[str, ...]] = {}
    for line in lines_of(FRAMES):
        if line.startswith("["):
            section = line.strip("[]")
            sections[section] = ()
        else:
            sections[section] += tuple(line.split("|"))
    return sections


_SECTIONS = _read_frames()


@dataclass(frozen=True, slots=True)
class AskedForm:
    """A question taken apart: `rest` of it behind what says its `form`, `wh` that asks, the `verb`
    of who acts; `keys`, the words that make it this question, as they are written."""

    text: str
    form: Form
    rest: str
    wh: str
    verb: str
    keys: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> AskedForm:
        plain = text.rstrip(" ?.!")
        form, found = next(
            ((form, m) for form, p in _PATTERNS if (m := p.fullmatch(plain))), (Form.OTHER, None)
        )
        parts = found.groupdict() if found else {}
        verb = parts.get("verb") or ""
        rest, wh = parts.get("x") or plain, (parts.get("wh") or "").lower()
        asked = f"{verb} {rest}" if form is Form.DOES else rest
        content = [word for word in words(asked) if not _is_one_of(word, STOP)]
        strong = [word for word in content if not _is_one_of(word, WEAK) and word != verb]
        return cls(text, form, rest, wh, verb, tuple(strong or content))


def words(text: str) -> list[str]:
    """The words of a text as they are written."""
    return re.findall(r"[\w'’-]+", text)


def _is_one_of(word: str, known: Container[str]) -> bool:
    return re.sub(r"['’]s$", "", word.lower()) in known


def rephrase(text: str, rng: Random) -> str:
    """The question in other words, typed as people type."""
    if is_japanese(text):
        return rephrasing_ja.rephrase(text, rng)
    question = AskedForm.parse(text)
    keywords = _keywords(question, rng) if rng.random() < KEYWORDS_RATIO else ""
    other = keywords or _reframe(question, rng)
    return type_casually(_vary_words(other, question, rng), rng)


_FRAMES = {
    Form.IS: _SECTIONS["any"] + _SECTIONS["is"],
    Form.DOES: _SECTIONS["any"] + _SECTIONS["does"],
    # Twice: these are the forms that say the least if their verb is lost.
    Form.WHO_DOES: _SECTIONS["any"] + 2 * _SECTIONS["who_does"],
    Form.HOW_TO: _SECTIONS["any"] + 2 * _SECTIONS["how_to"],
    Form.WHERE_TO: _SECTIONS["any"] + 2 * _SECTIONS["where_to"],
    Form.IF: _SECTIONS["if"],
    Form.COUNT: _SECTIONS["any"] + _SECTIONS["count"],
    Form.MAY: _SECTIONS["may"],
    Form.WHY: _SECTIONS["why"],
    Form.WHICH: _SECTIONS["which"],
    Form.THERE: _SECTIONS["there"],
    Form.WHETHER: _SECTIONS["whether"],
    Form.TELL: _SECTIONS["any"] + _SECTIONS["is-what"],
    Form.OTHER: ("{q}",),
}
_VERB_FRAMES = tuple(one for one in _SECTIONS["does"] + _SECTIONS["does-when"] if "{v}" in one)
_DETERMINER = re.compile(r"\b(?:the|a|an|our|my) ", re.IGNORECASE)


_WITH_VERB = (Form.HOW_TO, Form.WHERE_TO)


def _reframe(question: AskedForm, rng: Random) -> str:
    """The question in another frame of its form."""
    frames = _FRAMES[question.form] + _SECTIONS.get(
        f"{question.form.name.lower()}-{question.wh}", ()
    )
    if question.form is Form.DOES and not question.keys:  # “when do we raid”: the verb says it all
        frames = _VERB_FRAMES
    verb = rng.choice([question.verb, *other_words(question.verb)])
    acts = question.form in (Form.HOW_TO, Form.WHERE_TO, Form.IF, Form.MAY)
    # "I post my art": what is done, and to what.
    do = re.sub(r"^(?:i|you|we|one|someone|people) ", "", question.rest, flags=re.IGNORECASE)
    first, _, behind = do.partition(" ")
    subject = question.rest if question.form is not Form.WHERE_TO else behind
    return rng.choice(frames).format_map(
        {
            "x": behind if acts and question.form is not Form.IF and behind else subject,
            "s": question.rest,
            "q": question.text.rstrip(" ?.!"),
            "wh": question.wh or "what",
            "v": verb,
            "do": f"{verb} {behind}".strip() if question.form in _WITH_VERB else do,
            "doing": f"{_gerund(first)} {behind}".strip(),
        }
    )  # fmt: skip


def _gerund(verb: str) -> str:
    silent = verb.endswith("e") and not verb.endswith(("ee", "ye", "oe"))
    return f"{verb[:-1] if silent else verb}ing"


def _keywords(question: AskedForm, rng: Random) -> str:
    """The words that matter, in any order."""
    chosen = [
        word
        for word in words(question.text)
        if word in question.keys or (not _is_one_of(word, STOP) and rng.random() < 0.5)
    ]
    if rng.random() < 0.5:
        rng.shuffle(chosen)
    return rng.choice(_SECTIONS["keywords"]).format(x=" ".join(chosen)) if chosen else ""


def _vary_words(text: str, question: AskedForm, rng: Random) -> str:
    """The text with a synonym, another number of a noun, another determiner."""
    present = words(text)
    known = [word for word in question.keys if word in present and other_words(word)]
    if known and rng.random() < SYNONYM_RATIO:
        word = rng.choice(known)
        text = replace_word(text, word, rng.choice(sorted(other_words(word))))
    nouns = [word for word in question.keys if len(word) > 3 and word.islower() and word in present]
    if nouns and rng.random() < NUMBER_RATIO:
        noun = rng.choice(nouns)
        plural = noun.endswith("s") and not noun.endswith("ss")
        text = replace_word(text, noun, noun[:-1] if plural else f"{noun}s")
    if rng.random() < DETERMINER_RATIO:
        text = _DETERMINER.sub(
            rng.choice(("", "", "our ", "this ", "the ", "your ")), text, count=1
        )
    return text


def replace_word(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{re.escape(old)}\b", lambda _: new, text, count=1)


def type_casually(text: str, rng: Random) -> str:
    """The text as people type it: with an opening or a closing, in lower case, without marks."""
    if rng.random() < 0.2:
        text = rng.choice(_SECTIONS["openings"]).format(q=text)
    if rng.random() < 0.12:
        text = (
            rng.choice(_SECTIONS["closings"]).format(q=text.rstrip("?")) + rng.choice("? ").strip()
        )
    how = rng.random()
    if how < 0.35:
        return text.lower().rstrip(" .?!")
    if how < 0.5:
        return careless(text)
    if how < 0.85 and text:
        return re.sub(r"\bi\b", "I", text[0].upper() + text[1:])
    return text


def careless(text: str) -> str:
    """Lower case, no marks."""
    return re.sub(r"[^\w\s'’]", "", text.lower())
