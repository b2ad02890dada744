"""A question, taken apart: the value that both languages are read into. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Asks(Enum):
    """What a question asks for."""

    PERSON = auto()
    THING = auto()
    CHOICE = auto()
    PLACE = auto()
    TIME = auto()
    REASON = auto()
    WAY = auto()
    AMOUNT = auto()
    CASE = auto()
    """What happens if?"""
    WHETHER = auto()
    """Yes or no."""
    ANYTHING = auto()
    """A request: “tell me about the mascot”."""
    KEYWORDS = auto()
    """Only words, as in a search box: “mascot name?”."""
    NOTHING = auto()
    """It is a statement."""


@dataclass(frozen=True, slots=True)
class Word:
    """A content word: two may stand for each other if they share a key.

    Without a `weak` word a question asks nearly the same (“get”, “name”, “server”). A `common` one
    is part of all talk."""

    lemma: str
    keys: frozenset[str]
    weak: bool = False
    common: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question: all its lemmas without courtesy (`core`), and what it is made of.

    `strong` and `weak` are its content words in order, each once. `persons`: whose thing it asks
    for (“my”, “your”, “his”), without “our”, which a server's questions leave out as often.
    `refers`: to something that was said before (“when was it?”).
    """

    core: tuple[str, ...]
    strong: tuple[Word, ...]
    weak: tuple[Word, ...]
    asks: Asks
    negated: bool = False
    refers: bool = False
    persons: frozenset[str] = frozenset()
