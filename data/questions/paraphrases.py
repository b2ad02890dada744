"""Whether a message asks what a taught question asks, in other words: a small classifier.

`likeness` is sure of what it says and knows only the words of its lists. Here two texts are
compared by what they mean (`encoder`) and by what the rules see: which content words each has that
the other has not, how near these are to any word of the other, what is asked for. A network of one
hidden layer weighs that; one for each language is trained by `training.tools.paraphrases`, on
wordings and near misses that were written for this project (`training/tools/data/wordings*.jsonl`).
Difference and product of the vectors: Mou et al. 2016, arXiv:1512.08422.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.japanese import has_japanese_letter
from core.text_caches import keeps_texts
from data.questions.encoder import Vector, encoder
from data.questions.likeness import (
    ALIKE,
    ALIKE_IN_BRIEF,
    PERHAPS_ALIKE,
    Likeness,
    is_in_brief,
    likeness,
    persons_agree,
)
from data.questions.near_misses import SIBLINGS
from data.questions.near_misses_ja import SIBLINGS as SIBLINGS_JA
from data.questions.question import Asks, Question, Word
from data.questions.words import WORD, lemma, read_question

HAS_DIGIT = re.compile(r"\d")
WEAK_WEIGHT, COMMON_WEIGHT = 0.4, 0.7
"""What a weak or a common word counts, beside one that is neither."""
MAX_NEARNESS = 0.95
"""How near two words can be that are not the same."""
FAR = np.float32(0.2)
"""The cosine of a message and a question that have nothing to do with each other."""
MAX_WORDS, MAX_PIECES = 8, 20
"""A text that says more is as long as any other."""
MAX_LOGIT = 30.0
CACHED_TEXTS = 10_000


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is compared: what it asks, its content words, and its words or, in
    Japanese, pairs of letters."""

    text: str
    question: Question
    words: tuple[tuple[str, Word], ...]
    pieces: frozenset[str]


@keeps_texts
@lru_cache(CACHED_TEXTS)
def read(text: str) -> Text:
    """Read a text."""
    question = read_question(text)
    plain = text.casefold()
    if has_japanese_letter(text):
        written = tuple((word.lemma, word) for word in (*question.strong, *question.weak))
        pieces = frozenset(plain[at : at + 2] for at in range(len(plain) - 1))
        return Text(text, question, written, pieces)
    found = WORD.findall(plain)
    return Text(text, question, tuple(_as_written(question, found)), frozenset(found))


def _as_written(question: Question, found: Sequence[str]) -> Iterator[tuple[str, Word]]:
    """The content words in the order in which they are written; last those that stand there in
    another way ("pwd", "won't"), as their lemma."""
    left = {word.lemma: word for word in (*question.strong, *question.weak)}
    for one in found:
        if word := left.pop(lemma(one), None):
            yield one, word
    yield from left.items()


@dataclass(frozen=True, slots=True)
class _Matched:
    """A content word, as it is written, and how near it is to any word of the other text: 1 if it
    is the same or a synonym."""

    written: str
    word: Word
    nearness: float

    @property
    def weight(self) -> float:
        return (WEAK_WEIGHT if self.word.weak else 1.0) * (
            COMMON_WEIGHT if self.word.common else 1.0
        )

    @property
    def missing(self) -> bool:
        return self.nearness < 1


def _match(
    words: Sequence[tuple[str, Word]],
    others: Sequence[tuple[str, Word]],
    vectors: Mapping[str, Vector],
) -> list[_Matched]:
    keys = {key for _, word in others for key in word.keys}
    near = np.stack([vectors[one] for one, _ in others]) if others else None

    def nearness(written: str, word: Word) -> float:
        if not keys.isdisjoint(word.keys):
            return 1.0
        return min(MAX_NEARNESS, float((near @ vectors[written]).max())) if near is not None else 0

    return [_Matched(one, word, nearness(one, word)) for one, word in words]


def _coverage(matched: Sequence[_Matched]) -> list[float]:
    """How well the words of a text are found in the other one."""
    if not matched:
        return [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    weight = sum(one.weight for one in matched)
    strong = [one for one in matched if not one.word.weak]
    missing = [one for one in strong if one.missing]
    return [
        1 - sum(one.weight * one.nearness for one in matched) / weight,
        min((one.nearness for one in strong), default=1.0),
        sum(one.weight for one in matched if not one.missing) / weight,
        len(missing),
        sum(not one.word.common for one in missing),
        sum(HAS_DIGIT.search(one.word.lemma) is not None for one in missing),
    ]


def features(asked: Text, taught: Text, vectors: Mapping[str, Vector]) -> list[float]:
    """What the rules see of a message and a taught question, and how near they are."""
    ours, theirs = asked.question, taught.question
    verdict = likeness(ours, theirs)
    aims = frozenset((ours.asks, theirs.asks))
    mine = _match(asked.words, taught.words, vectors)
    yours = _match(taught.words, asked.words, vectors)
    extra, missing = ([one for one in some if one.missing] for some in (mine, yours))
    swapped = len(extra) == len(missing) == 1
    shared = len(asked.pieces & taught.pieces)
    return [
        float(vectors[asked.text] @ vectors[taught.text]),
        *(verdict is one for one in Likeness),
        is_in_brief(ours, theirs),
        ours.asks is theirs.asks,
        *(aims in pairs for pairs in (ALIKE, PERHAPS_ALIKE, ALIKE_IN_BRIEF)),
        *(ours.asks is one for one in (Asks.NOTHING, Asks.KEYWORDS, Asks.WHETHER, Asks.ANYTHING)),
        theirs.asks is Asks.WHETHER,
        ours.negated != theirs.negated,
        not persons_agree(ours, theirs),
        len(ours.persons ^ theirs.persons),
        *_coverage(mine),
        *_coverage(yours),
        any(_are_siblings(one, other) for one in extra for other in missing),
        *(min(len(one.words), MAX_WORDS) for one in (asked, taught)),
        "?" in asked.text or "？" in asked.text,
        min(len(asked.pieces), MAX_PIECES),
        swapped,
        float(vectors[extra[0].written] @ vectors[missing[0].written]) if swapped else 0.0,
        shared / max(1, len(asked.pieces | taught.pieces)),
        shared / max(1, len(asked.pieces)),
        shared / max(1, len(taught.pieces)),
    ]


def _are_siblings(one: _Matched, other: _Matched) -> bool:
    return other.written in (*SIBLINGS.get(one.written, ()), *SIBLINGS_JA.get(one.written, ()))


@dataclass(frozen=True, slots=True)
class Compared:
    """A message beside taught questions: what the rules see (questions, features), and the vectors
    of the message (DIMENSIONS,) and of the questions (questions, DIMENSIONS)."""

    seen: NDArray[np.float32]
    message: Vector
    questions: Vector


def compare(
    message: str,
    questions: Sequence[str],
    rivals: Sequence[str] = (),
    answers: Sequence[str] | None = None,
) -> Compared:
    """Compare a message with taught questions. `rivals` are others that might be asked instead; the
    questions are rivals of each other, but for those of equal `answers`."""
    asked, taught = read(message), [read(one) for one in questions]
    words = {written for one in (asked, *taught) for written, _ in one.words}
    vectors = encoder().vectors({message, *questions, *rivals, *words})
    stacked = np.stack([vectors[one] for one in (*questions, *rivals)])
    groups = [*(answers or range(len(questions))), *(object() for _ in rivals)]
    ahead = _ahead(stacked @ vectors[message], groups)[: len(questions), None]
    seen = np.array([features(asked, one, vectors) for one in taught], np.float32)
    return Compared(np.hstack((seen, ahead)), vectors[message], stacked[: len(questions)])


def _ahead(nearness: NDArray[np.float32], groups: Sequence[object]) -> NDArray[np.float32]:
    """How much nearer each question is than any one of another group."""
    same = np.array([[one == other for other in groups] for one in groups])
    others = np.where(same, FAR, nearness)
    return np.asarray(nearness - others.max(axis=1), np.float32)


class Kind(IntEnum):
    """What a message is beside a taught question. With near misses and other talk in one class,
    what tells apart the one would count against the other."""

    SAME = 0
    NEAR = 1
    """It asks something else in nearly the same words."""
    FAR = 2


@dataclass(frozen=True, slots=True)
class Classifier:
    """Networks of one hidden layer, averaged, behind two projections of the vectors and a scaling
    of all that they see; they tell apart the kinds of `Kind`. `short` shortens a vector to what is
    needed to find the nearest ones: (DIMENSIONS, fewer)."""

    short: NDArray[np.float32]
    difference: NDArray[np.float32]
    product: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def chances(self, compared: Compared) -> NDArray[np.float32]:
        """How likely the message asks what each question asks, and not what a near miss of it asks;
        and not something else altogether: (questions, 2)."""
        inputs = project(compared, self.difference, self.product)
        scaled = (inputs - self.mean) / self.scale
        hidden = np.maximum(scaled @ self.hidden + self.hidden_bias, 0)
        logits = hidden @ self.output + self.output_bias
        ahead = np.clip(logits[..., :1] - logits[..., 1:], -MAX_LOGIT, MAX_LOGIT)
        return np.asarray((1 / (1 + np.exp(-ahead))).mean(axis=0), np.float32)

    def save(self, file: Path) -> None:
        """Write the weights, in half precision."""
        weights = {one.name: getattr(self, one.name) for one in fields(self)}
        np.savez_compressed(file, **{name: one.astype(np.float16) for name, one in weights.items()})


def project(
    compared: Compared, difference: NDArray[np.float32], product: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a classifier sees: that of the rules, and projections of the distance and the product of
    the vectors."""
    apart = np.abs(compared.message - compared.questions)
    together = compared.message * compared.questions
    return np.concatenate([compared.seen, apart @ difference, together @ product], axis=1)


def weights_file(language: str) -> Path:
    """Where the weights for a language are."""
    return Path(__file__).with_name(f"paraphrases.{language}.npz")


@cache
def classifier(language: str) -> Classifier:
    """The classifier of a language."""
    with np.load(weights_file(language), allow_pickle=False) as weights:
        return Classifier(**{name: one.astype(np.float32) for name, one in weights.items()})
