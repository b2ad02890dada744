"""Which lessons are no longer in a data set, and which ones like them still are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.records import Conversation
from data.dataset.dedup import dedup_key
from data.dataset.snapshot import pair_digest

SHINGLE_CHARS = 3
SIMILAR = 0.5
"""The least resemblance (Broder 1997) of two answers to be worth a look."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """An answer, the last of `turns`, with all that was said before it. `digest` is the pair's, as
    `learned.json` has it."""

    digest: str
    turns: Conversation

    @property
    def answer(self) -> str:
        return self.turns[-1].content


def lessons_of(talks: Sequence[Conversation]) -> dict[str, Lesson]:
    """The lessons of a data set, each once, in its order."""
    return {one.digest: one for talk in talks for one in _lessons(talk)}


def _lessons(talk: Conversation) -> Iterator[Lesson]:
    for end in range(2, len(talk) + 1, 2):
        asked, said = talk[end - 2 : end]
        yield Lesson(pair_digest(asked.content, said.content), talk[:end])


def removed_lessons(
    before: Sequence[Conversation], after: Sequence[Conversation]
) -> tuple[Lesson, ...]:
    """The lessons of the data `before` that are not in those `after`."""
    kept = lessons_of(after)
    return tuple(one for digest, one in lessons_of(before).items() if digest not in kept)


def count_similar(lessons: Sequence[Lesson], others: Sequence[Lesson]) -> list[int]:
    """For each lesson, how many others have the same question, or an answer that resembles its own:
    the same fact may be among them."""
    compared = [_compared(one) for one in others]
    return [
        sum(
            question == other or _resemblance(shingles, other_shingles) >= SIMILAR
            for other, other_shingles in compared
        )
        for question, shingles in map(_compared, lessons)
    ]


def _compared(lesson: Lesson) -> tuple[str, frozenset[str]]:
    return dedup_key(lesson.turns[-2].content), _shingles(lesson.answer)


def _shingles(text: str) -> frozenset[str]:
    """The runs of SHINGLE_CHARS characters of a text, which need no words: Japanese has no spaces
    between them."""
    key = dedup_key(text)
    return frozenset(key[n : n + SHINGLE_CHARS] for n in range(max(1, len(key) - 2)))


def _resemblance(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
