"""What people taught, known from the next message on: long before a retrain, and after it.

Knows which examples are learned now (`data.dataset.cleaning` selects them) and which of them a
checkpoint has learned. Does not know Discord or how a reply is made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cachetools import LRUCache

from bot.chat.known import NOTHING_KNOWN, Known, Misplaced, TaughtAnswer
from core.records import Example
from core.tasks import BackgroundTasks
from data.dataset.cleaning import CHAT_SOURCE, select_examples
from data.dataset.snapshot import pair_digest
from data.questions.answers import TaughtAnswers, answer_digest
from data.questions.likeness import Likeness
from data.questions.rewordings import RewordedQuestions
from data.storage.tables.examples import Examples
from training.checkpoints import Learned, read_learned

if TYPE_CHECKING:
    from data.questions.meanings import Meaning

MAX_PAIRS = 100_000
"""Pairs of all servers together that are kept in memory, about 4 kB each; of a larger data set, the
newest. The servers that were asked least recently are dropped first."""
MAX_CHECKPOINTS = 100
"""Checkpoints of which it is remembered what they learned."""
MAX_WAIT_S = 5.0
"""Seconds that a reply waits for the index of a data set that has changed; then the model answers.
With 10,000 pairs it takes about two seconds of a core."""
MAX_TEACHING_WAIT_S = 0.3
"""Seconds that each wording of a lesson waits for it: Discord wants an answer within three."""
MAX_CHANGES_IN_PLACE = 20
"""Examples that are changed in an index on the event loop; for more, a new one is built in a
thread."""
START = re.compile(r"\w+(?:\W+\w+){0,2}")
"""The first words of an answer."""


@dataclass(slots=True)
class ScopeIndex:
    """What a scope has taught, as of a `version` of its data set. `said`: the digests of all
    answers that a retrain would learn, those of conversations too."""

    version: int = -1
    said: frozenset[str] = frozenset()
    examples: dict[int, Example] = field(default_factory=dict)
    questions: RewordedQuestions = field(default_factory=RewordedQuestions)
    answers: TaughtAnswers = field(default_factory=TaughtAnswers)
    reading: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return max(1, len(self.examples))

    def update(self, wanted: Mapping[int, Example]) -> None:
        """Add, change and remove examples until there are just these."""
        for number in self.examples.keys() - wanted.keys():
            del self.examples[number]
            self.questions.remove(number)
            self.answers.remove(number)
        for number in _changed(self.examples, wanted):
            self.examples[number] = wanted[number]
            self.questions.add(number, wanted[number].user, wanted[number].bot)
            self.answers.add(number, wanted[number].bot)


class KnownAnswers:
    """The taught pairs of each scope, found by what is asked; they are read when first needed, and
    again as soon as the data set has changed."""

    def __init__(self, examples: Examples, author_share: float, tasks: BackgroundTasks) -> None:
        self._examples = examples
        self._author_share = author_share
        self._tasks = tasks
        self._indexes: LRUCache[int, ScopeIndex] = LRUCache(MAX_PAIRS, getsizeof=len)
        self._refreshing: dict[int, asyncio.Task[None]] = {}
        self._learned: LRUCache[str, Learned] = LRUCache(MAX_CHECKPOINTS)

    async def look_up(self, scope: int, source: str, question: str) -> Known:
        """What is known about a question while that model answers: the taught answer, unless the
        model has learned it; and which replies would be the answer to another question, or one
        that was taken out of the data set since."""
        index = await self._current(scope)
        if index is None:
            return NOTHING_KNOWN
        learned = await self._learned_by(source)
        match = index.questions.find_by_rules(question) if index.examples else None
        if match is None and await self._knows_meanings(index):
            match = index.questions.find_by_meaning(question)
        example = index.examples[match.number] if match else None
        if example is not None:
            is_learned = _digest(example) in learned.pairs
            answer = TaughtAnswer(example.id, example.author_id, example.bot, is_learned)
            if not is_learned:
                return Known(answer)
            return Known(expected=answer, check=answer.check_beginning)
        check = partial(_check, index, learned, question) if learned.pairs else None
        return Known(check=check)

    def drop(self) -> None:
        """Drop all indexes: they are read again when they are needed."""
        self._indexes.clear()

    async def standing(self, scope: int, question: str) -> Example | None:
        """The taught pair that a question asks for, in whatever words; None without one. A large
        data set is looked up as it was before the last changes, if those take too long to read."""
        index = await self._current(scope, MAX_TEACHING_WAIT_S) or self._indexes.get(scope)
        match = index.questions.find_same(question) if index else None
        return index.examples[match.number] if index and match else None

    async def _current(self, scope: int, wait_s: float | None = None) -> ScopeIndex | None:
        """The index of the data set as it is now; None if that takes too long to read."""
        version = await self._examples.version(scope)
        index = self._indexes.get(scope)
        if index is None or index.version < version:
            if (task := self._refreshing.get(scope)) is None or task.done():
                task = self._tasks.spawn(self._refresh(scope), name="index of what was taught")
                self._refreshing[scope] = task
            await asyncio.wait({task}, timeout=MAX_WAIT_S if wait_s is None else wait_s)
            index = self._indexes.get(scope)
        return index if index is not None and index.version >= version else None

    async def _knows_meanings(self, index: ScopeIndex) -> bool:
        """Whether all meanings of an index are read; it waits for them, but not for long."""
        if index.questions.unread():
            if index.reading is None or index.reading.done():
                index.reading = self._tasks.spawn(
                    _read_meanings(index.questions), name="meanings of what was taught"
                )
            await asyncio.wait({index.reading}, timeout=MAX_WAIT_S)
        return not index.questions.unread()

    async def _refresh(self, scope: int) -> None:
        try:
            await self._read(scope)
        finally:
            del self._refreshing[scope]

    async def _read(self, scope: int) -> None:
        version = await self._examples.version(scope)
        trainable = await self._examples.trainable(scope)
        wanted, said = await asyncio.to_thread(_select, trainable, self._author_share)
        index = self._indexes.pop(scope, None) or ScopeIndex()
        gone = index.examples.keys() - wanted.keys()
        if len(gone) + len(_changed(index.examples, wanted)) > MAX_CHANGES_IN_PLACE:
            index = ScopeIndex()  # replies in progress still look into the other one
            await asyncio.to_thread(index.update, wanted)
        else:
            index.update(wanted)
        index.version, index.said = version, said
        self._indexes[scope] = index

    async def _learned_by(self, source: str) -> Learned:
        if (learned := self._learned.get(source)) is None:
            learned = await asyncio.to_thread(read_learned, Path(source))
            self._learned[source] = learned
        return learned


async def _read_meanings(questions: RewordedQuestions) -> None:
    """Read what questions mean, off the event loop, until all are read."""
    while unread := questions.unread():
        questions.learn(await asyncio.to_thread(_meanings_of, unread))


def _meanings_of(pairs: Mapping[int, tuple[str, str]]) -> dict[int, Meaning]:
    from data.questions.meanings import read_meanings  # it loads NumPy and the encoder

    return read_meanings(pairs)


def _select(
    trainable: Sequence[Example], author_share: float
) -> tuple[dict[int, Example], frozenset[str]]:
    """The pairs that a retrain would learn and that stand alone, and the digests of all answers.
    What the bot said itself, and was collected from a conversation, nobody taught."""
    kept = select_examples(trainable, author_share=author_share).kept
    taught = [one for one in kept if not one.conversation and one.source != CHAT_SOURCE]
    said = frozenset(digest for one in kept if (digest := answer_digest(one.bot)))
    return {one.id: one for one in taught[-MAX_PAIRS:]}, said


def _changed(known: Mapping[int, Example], wanted: Mapping[int, Example]) -> list[int]:
    return [number for number, one in wanted.items() if known.get(number) != one]


def _digest(example: Example) -> str:
    return pair_digest(example.user, example.bot)


def _check(index: ScopeIndex, learned: Learned, question: str, reply: str) -> None:
    """Raise Misplaced if a reply is a learned answer that is taught no more, or one to questions
    that surely ask for something else."""
    digest = answer_digest(reply)
    if digest in learned.answers and digest not in index.said:
        raise Misplaced(_start(reply))
    repeated = [
        one
        for one in index.answers.repeated_in(reply)
        if one in index.examples and _digest(index.examples[one]) in learned.pairs
    ]
    verdicts = {index.questions.compare(question, one) for one in repeated}
    if verdicts == {Likeness.OTHER}:
        raise Misplaced(_start(index.examples[repeated[0]].bot))


def _start(answer: str) -> str:
    start = START.search(answer)
    return start[0] if start else ""
