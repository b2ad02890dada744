"""Judges the replies of a new model to what people ask: which are wrong, and whether it may serve.

The replies of its base to the same questions are the reference: what the base does as well is not
the fault of the run. Knows texts. Does not know models or tensors.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from core.records import Conversation
from data.questions.answers import TaughtAnswers, is_near, may_become
from data.questions.question import Asks
from data.questions.words import read_question
from i18n.phrase import Phrase, join_phrases, phrase, phrases
from training.run.gate.questions import Question, Way
from training.run.gate.sampling import Reply
from training.run.gate.scripts import is_text, scripts_in
from training.run.mixing import normalized_question

MAX_UNREADABLE = 1
"""Replies that nobody can read: one may be an accident of sampling, two are met at once."""
MAX_LEAK_SHARE = 1 / 10
"""Of general messages that get a taught answer. A model that does so once in fifty is a good one,
and by chance does it three times of fifty; one that does so once in five is met all the time."""
MAX_NEAR_SHARE = 1 / 3
"""Of near misses that get a taught answer: where one word differs, small models are often wrong;
but with more, nobody could tell what the bot knows from what it makes up."""
MIN_KNOWN_SHARE = 2 / 3
"""Of taught answers that are known: with fewer, the run was too short, or its rate was wrong."""
OWN_SCRIPT_SHARE = 1 / 4
"""Of the base's replies that use a script, from which on it is a script of the base: a few letters
that it hit by accident do not make it one."""


class Fault(IntEnum):
    """What is wrong with a reply, the worst first."""

    UNREADABLE = auto()
    LEAK = auto()
    NEAR = auto()
    UNKNOWN = auto()
    UNKNOWN_IN_TALK = auto()
    UNKNOWN_REPHRASED = auto()


FAULTS: Mapping[Fault, Phrase] = {
    Fault.UNREADABLE: phrase("nobody can read it"),
    Fault.LEAK: phrase("a taught answer that nobody asked for"),
    Fault.NEAR: phrase("the answer to another question"),
    Fault.UNKNOWN: phrase("not the taught answer"),
    Fault.UNKNOWN_IN_TALK: phrase("not the taught answer, amid other talk"),
    Fault.UNKNOWN_REPHRASED: phrase("not the taught answer, asked in other words"),
}
UNKNOWN_BY_WAY = {
    Way.VERBATIM: Fault.UNKNOWN,
    Way.CARELESS: Fault.UNKNOWN,
    Way.IN_TALK: Fault.UNKNOWN_IN_TALK,
    Way.REPHRASED: Fault.UNKNOWN_REPHRASED,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the new model's reply to it."""

    question: Question
    reply: Reply


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is wrong, and in which way."""

    prompt: str
    reply: str
    wrong: Phrase


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the questions in one line, the failures, worst first, the reasons to refuse the
    model, if any, and how many taught answers are `known`."""

    summary: Phrase
    failures: tuple[Failure, ...]
    refusals: tuple[Phrase, ...]
    known: int


def find_faults(
    asked: Sequence[Asked], taught: Sequence[Conversation], *, facts: bool
) -> dict[int, Fault]:
    """The faults by the number of the question. Taught answers leak only where they are `facts`:
    talk that is imitated is meant to be said."""
    answers = _Answers(taught, facts=facts)
    found = {number: answers.fault_of(one) for number, one in enumerate(asked)}
    return {number: fault for number, fault in found.items() if fault is not None}


def suspects(asked: Sequence[Asked], faults: Mapping[int, Fault]) -> list[int]:
    """The questions that the base is asked as well: it cannot know what was taught, but whatever
    else is wrong may be its own."""
    return [one for one in sorted(faults) if asked[one].question.way in (Way.NEAR, Way.GENERAL)]


def excuse(
    asked: Sequence[Asked],
    faults: Mapping[int, Fault],
    base: Mapping[int, Reply],
    taught: Sequence[Conversation],
    *,
    facts: bool,
) -> dict[int, Fault]:
    """The faults without those that the base has as well; `base`: its replies by the number of the
    question."""
    answers = _Answers(taught, facts=facts)
    used = Counter(one for reply in base.values() for one in scripts_in(reply.text))
    own = {one for one, times in used.items() if times >= OWN_SCRIPT_SHARE * len(base)}

    def is_as_before(number: int, fault: Fault) -> bool:
        if (reply := base.get(number)) is None:
            return False
        said = asked[number].reply
        if fault is not Fault.UNREADABLE:
            return bool({*answers.given_in(said)} & {*answers.given_in(reply)})
        if not is_text(said.text):
            return not is_text(reply.text)
        question = asked[number].question
        return scripts_in(said.text) <= answers.scripts_of(question) | own | scripts_in(reply.text)

    return {n: fault for n, fault in faults.items() if not is_as_before(n, fault)}


def judge(asked: Sequence[Asked], faults: Mapping[int, Fault], *, facts: bool) -> Verdict:
    """The verdict. Whether taught answers are known and near misses are told apart is only
    reported of talk that is imitated, not of `facts`: nobody asks it back."""
    tally = _Tally(asked, faults)
    worst = sorted(faults, key=lambda number: (faults[number], number))
    failures = (
        Failure(asked[n].question.text, _shown(asked[n].reply), FAULTS[faults[n]])
        for n in worst
        if facts or faults[n] is Fault.UNREADABLE
    )
    return Verdict(
        tally.summary(), tuple(failures), tuple(tally.refusals(facts=facts)), tally.known
    )


class _Tally:
    """The counts behind a verdict."""

    def __init__(self, asked: Sequence[Asked], faults: Mapping[int, Fault]) -> None:
        self._asked = asked
        self._by_fault: dict[Fault, list[int]] = defaultdict(list)
        for number in sorted(faults):
            self._by_fault[faults[number]].append(number)
        ways = Counter(one.question.way for one in asked)
        self._misses, self._general = ways[Way.NEAR], ways[Way.GENERAL]
        self._pairs = {one.question.pair for one in asked} - {-1}
        unknown = {asked[number].question.pair for number in self._by_fault[Fault.UNKNOWN]}
        self.known = len(self._pairs - unknown)

    def summary(self) -> Phrase:
        parts = []
        if self._pairs:
            parts.append(
                phrase(
                    "{known} of {all} taught answers known",
                    known=self.known,
                    all=len(self._pairs),
                )
            )
        if self._misses:
            parts.append(
                phrase(
                    "{wrong} of {all} near misses answered wrongly",
                    wrong=len(self._by_fault[Fault.NEAR]),
                    all=self._misses,
                )
            )
        odd = len(self._by_fault[Fault.UNREADABLE]) + len(self._by_fault[Fault.LEAK])
        other = phrases("{count} odd reply", "{count} odd replies", odd)
        return join_phrases([*parts, other if odd else phrase("talk as before")], ", ")

    def refusals(self, *, facts: bool) -> Iterator[Phrase]:
        """The reasons to refuse the model, each with an example."""
        if len(odd := self._by_fault[Fault.UNREADABLE]) > MAX_UNREADABLE:
            yield phrase(
                "{count} of its replies nobody can read; asked “{asked}”, it said “{said}”.",
                count=len(odd),
                **self._example(odd),
            )
        if len(leaks := self._by_fault[Fault.LEAK]) > MAX_LEAK_SHARE * self._general:
            yield phrase(
                "It gives taught answers to {count} of {all} messages that ask for none of them; "
                "asked “{asked}”, it said “{said}”.",
                count=len(leaks),
                all=self._general,
                **self._example(leaks),
            )
        if facts:
            yield from self._refusals_of_facts()

    def _refusals_of_facts(self) -> Iterator[Phrase]:
        near = self._by_fault[Fault.NEAR]
        if len(near) > MAX_NEAR_SHARE * self._misses:
            yield phrase(
                "It gives taught answers to {count} of {all} questions that only look like taught "
                "ones; asked “{asked}”, it said “{said}”.",
                count=len(near),
                all=self._misses,
                **self._example(near),
            )
        if self.known < MIN_KNOWN_SHARE * len(self._pairs):
            yield phrase(
                "It knows {known} of {all} taught answers; asked “{asked}”, it said “{said}”.",
                known=self.known,
                all=len(self._pairs),
                **self._example(self._by_fault[Fault.UNKNOWN]),
            )

    def _example(self, numbers: Sequence[int]) -> dict[str, str]:
        one = self._asked[numbers[0]]
        return {"asked": one.question.text[:80], "said": _shown(one.reply)[:80]}


class _Answers:
    """What was taught, as far as a reply is judged by it."""

    def __init__(self, taught: Sequence[Conversation], *, facts: bool) -> None:
        self._taught = taught
        self._index = TaughtAnswers()
        self._right: dict[str, list[str]] = defaultdict(list)
        for number, turns in enumerate(taught):
            if len(turns) > 1:
                self._right[normalized_question(turns)].append(turns[1].content)
                if facts and _asks_for_something(turns[0].content):
                    self._index.add(number, turns[1].content)

    def fault_of(self, one: Asked) -> Fault | None:
        way = one.question.way
        if unknown := UNKNOWN_BY_WAY.get(way):
            return None if self._is_right(one) else unknown
        if self.given_in(one.reply):
            return Fault.NEAR if way is Way.NEAR else Fault.LEAK
        is_foreign = scripts_in(one.reply.text) - self.scripts_of(one.question)
        return Fault.UNREADABLE if is_foreign or not is_text(one.reply.text) else None

    def given_in(self, reply: Reply) -> list[int]:
        """The numbers of the taught answers that a reply gives."""
        return self._index.repeated_in(reply.text)

    def scripts_of(self, question: Question) -> frozenset[str]:
        """The scripts that a reply may be written in: of the question, and of the answer to it."""
        answer = self._taught[question.pair][1].content if question.pair >= 0 else ""
        return scripts_in(question.text) | scripts_in(answer)

    def _is_right(self, one: Asked) -> bool:
        """Whether it is the taught answer, or as much of a long one as fits a reply."""
        said = one.reply
        return any(
            is_near(said.text, answer) or (said.cut and may_become(said.text, answer))
            for answer in self._right[normalized_question(self._taught[one.question.pair])]
        )


def _shown(reply: Reply) -> str:
    """Its text without control characters, of which garbage is full."""
    return "".join(
        char for char in reply.text if unicodedata.category(char) != "Cc" or char == "\n"
    )


def _asks_for_something(text: str) -> bool:
    """Whether it is no greeting, statement or “how are you”: the answers to these fit anywhere."""
    asked = read_question(text)
    words = (*asked.strong, *asked.weak)
    if asked.asks is Asks.KEYWORDS and all(word.common for word in words):
        return False
    return asked.asks is not Asks.NOTHING and bool(words)
