"""Whether a question is a taught one asked otherwise, and which. Pure; no model is asked.

The same question has the same content words or synonyms of them, in any order, and asks for the
same. A word more makes another question of it, so a taught one is found by its rarest word. With
words left out, it stands for a taught one if that is the only one that says so much.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from itertools import pairwise
from typing import TypeVar

from core.japanese import has_japanese_letter
from data.questions.question import Asks, Question, Word
from data.questions.synonyms import common_words, word_set
from data.questions.typos import intended_word
from data.questions.words import WORD, read_question, word_of

KeyT = TypeVar("KeyT")

MIN_SHARED_WORDS, MIN_SHARED = 2, 0.5
"""The content words of a taught question, and the share of them, that one in brief has."""
MIN_HALF_CHARS = 3
"""Letters of each of two words that were written as one."""
MAX_FULLER = 200
"""Taught questions with one word that are looked through: of more, hardly one is meant."""
FILLERS = word_set("a an the is are am was were do does did doing be to of it that there us we our")
ORDERED_AFTER = ("than", "from", "by")
"""Words before which of two others stands decides what is asked."""


class Likeness(Enum):
    """Whether two questions ask the same."""

    SAME = auto()
    UNSURE = auto()
    """One says more than the other, or in words that may mean the same."""
    OTHER = auto()
    """A word, a number or a name differs, or what is asked for."""


@dataclass(frozen=True, slots=True)
class Match:
    """A taught question that was asked, and the number under which it was added."""

    number: int
    question: str


def is_like(question: str, taught: str) -> bool:
    """Whether a question is the taught one asked otherwise."""
    return compare(question, taught) is Likeness.SAME


def compare(question: str, taught: str) -> Likeness:
    """How like a taught question a question is."""
    index = TaughtQuestions()
    index.add(0, taught)
    return index.compare(question, 0)


@dataclass(frozen=True, slots=True)
class _Taught:
    """A taught question, and the keys of the word under which it is found."""

    text: str
    question: Question
    found_by: frozenset[str]


class TaughtQuestions:
    """An index of taught questions, each under a number; of equal ones the highest is found."""

    def __init__(self) -> None:
        self._taught: dict[int, _Taught] = {}
        self._by_core: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self._by_key: dict[str, set[int]] = defaultdict(set)
        self._by_bag: dict[frozenset[str], set[int]] = defaultdict(set)
        self._by_word: dict[str, set[int]] = defaultdict(set)
        self._spellings: dict[str, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._taught)

    def add(self, number: int, text: str) -> None:
        """Add a question, in place of what was under that number."""
        self.remove(number)
        question = read_question(text)
        rarest = min(question.strong, key=self._frequency, default=None)
        found_by = rarest.keys if rarest else frozenset()
        self._taught[number] = _Taught(text, question, found_by)
        self._by_core[question.core].add(number)
        self._by_bag[_bag(question)].add(number)
        for key in found_by:
            self._by_key[key].add(number)
        for key in _keys(question):
            self._by_word[key].add(number)
        for word in WORD.findall(text.casefold()):
            self._spellings[word] += 1

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        if (taught := self._taught.pop(number, None)) is None:
            return
        _discard(self._by_core, taught.question.core, number)
        _discard(self._by_bag, _bag(taught.question), number)
        for key in taught.found_by:
            _discard(self._by_key, key, number)
        for key in _keys(taught.question):
            _discard(self._by_word, key, number)
        for word in WORD.findall(taught.text.casefold()):
            self._spellings[word] -= 1
            if not self._spellings[word]:
                del self._spellings[word]

    def _frequency(self, word: Word) -> int:
        return sum(len(self._by_key.get(key, ())) for key in word.keys)

    def find(self, text: str) -> Match | None:
        """The taught question that is asked, if only in brief; None if it is none of them, or might
        be several."""
        return self.find_same(text) or self._find_fuller(text)

    def find_same(self, text: str) -> Match | None:
        """The taught question that is asked with all its words or synonyms of them."""
        asked = read_question(text)
        if equal := self._by_core.get(asked.core):
            return self._match(max(equal))
        asked = read_question(self.respelled(text))
        same = [
            number
            for number in self._candidates(asked)
            if likeness(asked, self._taught[number].question) is Likeness.SAME
        ]
        best = sorted(same, key=lambda number: self._rank(asked, number), reverse=True)
        if len(best) > 1 and self._rank(asked, best[0])[:-1] == self._rank(asked, best[1])[:-1]:
            first, second = (self._taught[number].question for number in best[:2])
            if likeness(first, second) is not Likeness.SAME:
                return None
        return self._match(best[0]) if best else None

    def _find_fuller(self, text: str) -> Match | None:
        """The only taught question that says what this one does, and a little more."""
        asked = read_question(self.respelled(text))
        if len(asked.strong) + len(asked.weak) < MIN_SHARED_WORDS or not asked.strong:
            return None
        keys = min((word.keys for word in asked.strong), key=self._count_with)
        if self._count_with(keys) > MAX_FULLER:
            return None
        taught = {number: self._taught[number].question for number in self._with(keys)}
        fuller = sorted(number for number, one in taught.items() if is_in_brief(asked, one))
        if any(likeness(taught[one], taught[fuller[-1]]) is not Likeness.SAME for one in fuller):
            return None
        return self._match(fuller[-1]) if fuller else None

    def _count_with(self, keys: frozenset[str]) -> int:
        return sum(len(self._by_word.get(key, ())) for key in keys)

    def _with(self, keys: frozenset[str]) -> set[int]:
        return {number for key in keys for number in self._by_word.get(key, ())}

    def compare(self, text: str, number: int) -> Likeness:
        """How like the question under a number a question is."""
        taught = self._taught[number].question
        return likeness(read_question(self.respelled(text)), taught)

    def _match(self, number: int) -> Match:
        return Match(number, self._taught[number].text)

    def _candidates(self, asked: Question) -> set[int]:
        keys = {key for word in (*asked.strong, *asked.weak) for key in word.keys}
        found = {number for key in keys for number in self._by_key.get(key, ())}
        return set(self._by_bag.get(_bag(asked), ())) | {
            number
            for number in found
            if all(not keys.isdisjoint(word.keys) for word in self._taught[number].question.strong)
        }

    def _rank(self, asked: Question, number: int) -> tuple[int, int, int, int]:
        """How well a taught question fits: what it asks for, equal words, and its number."""
        taught = self._taught[number].question
        equal = len(set(asked.strong) & set(taught.strong))
        return (asked.asks is taught.asks, equal, len({*asked.core} & {*taught.core}), number)

    def respelled(self, text: str) -> str:
        """The text with its unknown words read as taught ones: typos, and words that were written
        as one or apart. All others stay as they are written: a capital letter may begin a name."""
        if has_japanese_letter(text):
            return text
        words = WORD.findall(text)
        read = list(self._joined(words))
        return text if read == words else " ".join(read) + ("?" if "?" in text else "")

    def _joined(self, words: Iterable[str]) -> Iterator[str]:
        left = list(words)
        while left:
            written = left.pop(0)
            word = written.casefold()
            if self._knows(word):
                yield written
            elif left and (joined := word + left[0].casefold()) in self._spellings:
                del left[0]
                yield joined
            else:
                known = self._read_as_known(word)
                yield written if known == word else known

    def _knows(self, word: str) -> bool:
        return word in self._spellings or word in common_words()

    def _read_as_known(self, word: str) -> str:
        if meant := intended_word(word, self._spellings):
            return meant
        for at in range(MIN_HALF_CHARS, len(word) - MIN_HALF_CHARS + 1):
            if word[:at] in self._spellings and word[at:] in self._spellings:
                return f"{word[:at]} {word[at:]}"
        return word


def _discard(index: dict[KeyT, set[int]], key: KeyT, number: int) -> None:
    index[key].discard(number)
    if not index[key]:
        del index[key]


# --- two questions -------------------------------------------------------------------------------

MINE_ANYWAY = (Asks.WAY, Asks.WHETHER, Asks.PLACE, Asks.CASE)
"""“How do I change my nickname” is “how to change the nickname”, but “my password” is not “the
password”."""
REQUESTS = (Asks.ANYTHING, Asks.KEYWORDS)
ASKED_BY_NAME = (Asks.PERSON, Asks.THING, Asks.CHOICE)
"""“The wifi password?” asks what it is, but “the book club?” does not ask when it is."""
PERMISSION = ("can", "may", "could")
IS = word_set("is are am was were")
ALIKE = {
    frozenset(pair)
    for pair in (
        (Asks.PERSON, Asks.THING),
        (Asks.THING, Asks.CHOICE),
        (Asks.PERSON, Asks.CHOICE),
    )
}
"""What is asked for in either word: “what is Marlow”, “which rule is it”."""
PERHAPS_ALIKE = {
    frozenset(pair)
    for pair in (
        (Asks.WAY, Asks.PLACE),
        (Asks.WAY, Asks.THING),
        (Asks.CASE, Asks.THING),
        (Asks.PLACE, Asks.CHOICE),
        (Asks.PLACE, Asks.THING),
        (Asks.TIME, Asks.CHOICE),
        (Asks.AMOUNT, Asks.THING),
        (Asks.REASON, Asks.THING),
        (Asks.WHETHER, Asks.CHOICE),
        (Asks.WHETHER, Asks.ANYTHING),
        (Asks.WHETHER, Asks.KEYWORDS),
    )
}
"""“Where do I get a role” and “how do I get a role” may have one answer, or two."""
ALIKE_IN_BRIEF = {frozenset((Asks.AMOUNT, Asks.THING)), frozenset((Asks.TIME, Asks.CHOICE))}
"""“What is the fee” and “how much is the fee”, “when” and “which evening”."""


def likeness(asked: Question, taught: Question) -> Likeness:
    """How like a taught question a question is."""
    if asked.core == taught.core:
        return Likeness.SAME
    if is_vague(asked) or not taught.strong or Asks.NOTHING in (asked.asks, taught.asks):
        return _by_all_words(asked, taught)
    missing = _unmatched(taught.strong, (*asked.strong, *asked.weak))
    extra = _unmatched(asked.strong, (*taught.strong, *taught.weak))
    weak_missing = _unmatched(taught.weak, (*asked.strong, *asked.weak))
    weak_extra = _unmatched(asked.weak, (*taught.strong, *taught.weak))
    aim = _same_aim(asked, taught)
    if asked.negated != taught.negated or aim is Likeness.OTHER:
        return Likeness.OTHER
    if (missing or weak_missing) and (extra or weak_extra):  # one word in place of another
        return Likeness.OTHER if missing or extra else Likeness.UNSURE
    agree = aim is Likeness.SAME and _details_agree(asked, taught)
    return Likeness.UNSURE if missing or extra or not agree else Likeness.SAME


def is_in_brief(asked: Question, taught: Question) -> bool:
    """Whether a question is a taught one with words left out, but no number, and not too many."""
    if Asks.NOTHING in (asked.asks, taught.asks) or asked.negated != taught.negated:
        return False
    others = (*taught.strong, *taught.weak)
    missing = _unmatched(taught.strong, (*asked.strong, *asked.weak))
    shared = len(taught.strong) - len(missing)
    if shared < max(MIN_SHARED_WORDS, MIN_SHARED * len(taught.strong)):
        return False
    if _unmatched(asked.strong, others) or any(map(_is_number, missing)):
        return False
    return _may_ask_the_same(asked, taught) and _details_agree(asked, taught)


def _is_number(word: Word) -> bool:
    return word.lemma.isdigit()


def _may_ask_the_same(asked: Question, taught: Question) -> bool:
    aims = frozenset((asked.asks, taught.asks))
    if aims in ALIKE or aims in ALIKE_IN_BRIEF or asked.asks in REQUESTS:
        return True
    return _same_aim(asked, taught) is Likeness.SAME


def is_vague(asked: Question) -> bool:
    """Whether it names nothing that one could ask about; a common word alone is talk."""
    if asked.asks is Asks.KEYWORDS:
        return len(asked.strong) < 2 and all(word.common for word in asked.strong)
    return not asked.strong and (not asked.weak or asked.asks is Asks.ANYTHING)


def _by_all_words(asked: Question, taught: Question) -> Likeness:
    """Of questions like “how are you”, and of statements, every word counts."""
    ours, theirs = _bag(asked), _bag(taught)
    alike = (asked.asks, asked.negated, asked.refers) == (
        taught.asks,
        taught.negated,
        taught.refers,
    )
    if ours == theirs and alike:
        return Likeness.SAME
    shared = not ours.isdisjoint(theirs)
    return Likeness.UNSURE if shared or not asked.strong else Likeness.OTHER


def _keys(question: Question) -> frozenset[str]:
    return frozenset(key for word in (*question.strong, *question.weak) for key in word.keys)


def _bag(question: Question) -> frozenset[str]:
    return frozenset(question.core) - FILLERS


def _unmatched(words: Collection[Word], others: Collection[Word]) -> list[Word]:
    keys = {key for word in others for key in word.keys}
    return [word for word in words if keys.isdisjoint(word.keys)]


def _same_aim(asked: Question, taught: Question) -> Likeness:
    """Whether two questions ask for the same: a person, a time…"""
    aims = frozenset((asked.asks, taught.asks))
    if len(aims) == 1:
        return Likeness.SAME
    if aims in ALIKE or taught.asks in REQUESTS:
        simple = _only_says_is(asked) and _only_says_is(taught)
        return Likeness.SAME if simple and Asks.WHETHER not in aims else Likeness.UNSURE
    if asked.asks in REQUESTS:
        return Likeness.SAME if taught.asks in ASKED_BY_NAME else Likeness.UNSURE
    return Likeness.UNSURE if aims in PERHAPS_ALIKE else Likeness.OTHER


def _only_says_is(question: Question) -> bool:
    """Whether its only verb may be “is”: who or what something is."""
    return question.asks in REQUESTS or not IS.isdisjoint(question.core)


def _details_agree(asked: Question, taught: Question) -> bool:
    """Whether the small words make no difference."""
    if asked.refers != taught.refers or not persons_agree(asked, taught):
        return False
    if taught.asks is Asks.WHETHER is asked.asks:
        ours, theirs = _names(asked), _names(taught)
        if ours != theirs and sorted(ours) == sorted(theirs):
            return False
        if _asks_permission(asked) != _asks_permission(taught):
            return False
    return all(_following(asked, mark) == _following(taught, mark) for mark in ORDERED_AFTER)


def persons_agree(asked: Question, taught: Question) -> bool:
    """Whether it is about the same person; “your” is often the server's, and “I” is left out."""
    ours, theirs = asked.persons, taught.persons
    if {"i", "you"} <= ours | theirs and ours & {"i", "you"} != theirs & {"i", "you"}:
        return False
    no_matter = {"i", "your"} | ({"my"} if taught.asks in MINE_ANYWAY else set())
    if {"you", "your"} <= ours ^ theirs:
        no_matter.add("you")
    return not (ours ^ theirs) - no_matter


def _asks_permission(question: Question) -> bool:
    return question.core[0] in PERMISSION or not _permission_keys().isdisjoint(
        key for one in question.weak for key in one.keys
    )


@cache
def _permission_keys() -> frozenset[str]:
    return word_of("allow").keys


def _names(question: Question) -> list[str]:
    """Its uncommon words, in order: who likes whom."""
    return [word.lemma for word in question.strong if word.lemma not in common_words()]


def _following(question: Question, mark: str) -> str | None:
    """The word after a mark such as “than”; None without one."""
    return next((word for before, word in pairwise(question.core) if before == mark), None)
