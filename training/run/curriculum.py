"""The rows that a run learns facts from, drawn for each step where they are needed.

Fine-tuning on question/answer pairs alone teaches wordings: another wording is not recognised, and
the answer leaks into questions that look alike. So each step has rows of three kinds:

- learned: a taught pair, asked in other words, alone or amid other talk;
- near misses: a question that looks like a taught one and asks for something else, continued by the
  taught answer, where the model must stay as its base is (`training.run.distillation`);
- talk: conversations, where it must stay so as well.

Model editing calls these efficacy and generalisation, specificity, and locality (Meng et al. 2022,
"Locating and Editing Factual Associations in GPT"). Pairs whose answers are not sure yet, or leak,
are drawn more often. Knows no tensors and no tokenizer: the bot's process previews a run.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import accumulate
from random import Random

from core.japanese import is_japanese
from core.records import Conversation, Message, Role
from data.questions import near_misses_ja
from data.questions.near_misses import near_miss
from data.questions.rephrasing import AskedForm, careless, rephrase
from training.config import TrainingConfig
from training.run.mixing import normalized_question, read_talk

LEARNED_SHARE, NEAR_SHARE = 10 / 18, 5 / 18
"""The shares of a step's rows; the others are talk."""
VERBATIM_RATIO = 0.5
"""The share of learned rows that ask word for word; of these, half are carelessly typed."""
LEARNED_IN_TALK, NEAR_IN_TALK = 0.35, 0.25
"""The shares of rows that come after other talk."""
WORD_IN_TALK_RATIO = 0.15
"""The share of near misses that are talk with a word of a taught question in it."""
REPHRASED_NEAR_RATIO = 0.45
"""The share of near misses that are asked in other words than the taught question."""
MIN_PRIORITY = 0.3
"""The priority of a pair that is known, as a share of the least known one's."""
LOSS_DECAY = 0.6
"""Of the moving average of a pair's loss."""
TRIES = 4
"""To draw a near miss that is none of the taught questions."""


class Part(IntEnum):
    """What a row is for."""

    LEARNED = 1
    NEAR = 2
    TALK = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation that ends with the bot, and what was said `before` it; `pair` is the number of
    the taught one it belongs to, -1 for talk."""

    turns: Conversation
    part: Part
    pair: int = -1
    before: Conversation = ()


class Curriculum:
    """Draws the rows of each step. Equal seeds and losses give equal rows."""

    def __init__(
        self,
        taught: Sequence[Conversation],
        talk: Sequence[Conversation],
        rows_per_step: int,
        seed: int,
    ) -> None:
        self._taught = list(taught)
        self.pairs = len(self._taught)
        self._talk = list(talk)
        self._seed = seed
        self.parts = _spread(rows_per_step, bool(self._talk))
        self._losses = {part: [1.0] * len(self._taught) for part in (Part.LEARNED, Part.NEAR)}
        self._known_questions = {normalized_question(turns) for turns in self._taught}

    @cached_property
    def _forms(self) -> list[AskedForm]:
        return [AskedForm.parse(asked) for asked in self._questions]

    @cached_property
    def _keys(self) -> list[Sequence[str]]:
        """The words by which each question is this question."""
        return [
            near_misses_ja.content_words(asked) if is_japanese(asked) else form.keys
            for form, asked in zip(self._forms, self._questions, strict=True)
        ]

    @property
    def _questions(self) -> list[str]:
        return [turns[0].content for turns in self._taught]

    @cached_property
    def _rivals(self) -> list[str]:
        return [key for keys in self._keys for key in keys]

    def rows(self, step: int) -> list[Row]:
        """The rows of a step, its parts spread evenly, so that a piece of it has some of each."""
        rng = Random(f"{self._seed} {step}")
        drawn: dict[Part, Iterator[Row]] = {
            Part.LEARNED: (self._learned(n, rng) for n in self._pick(Part.LEARNED, rng)),
            Part.NEAR: (self._near(n, rng) for n in self._pick(Part.NEAR, rng)),
            Part.TALK: (Row(talk, Part.TALK) for talk in self._next_talk(step)),
        }
        return [next(drawn[part]) for part in self.parts]

    def record_loss(self, part: Part, pair: int, loss: float) -> None:
        """Note how unsure a pair's answer is, or how far it leaks (nats, of the worst token)."""
        losses = self._losses[part]
        losses[pair] = LOSS_DECAY * losses[pair] + (1 - LOSS_DECAY) * loss

    def _pick(self, part: Part, rng: Random) -> list[int]:
        """Pairs by their priority, each at least as often as the whole part of its share."""
        losses, count = self._losses[part], self.parts.count(part)
        least = MIN_PRIORITY * max(losses)
        bounds = list(accumulate(loss + least for loss in losses))
        start = rng.random()
        marks = ((n + start) / count * bounds[-1] for n in range(count))
        picked = [bisect_left(bounds, mark) for mark in marks]
        rng.shuffle(picked)
        return picked

    def _learned(self, number: int, rng: Random) -> Row:
        turns, chance = self._taught[number], rng.random()
        asked = turns[0].content
        if chance < VERBATIM_RATIO / 2:
            asked = careless(asked) if chance < VERBATIM_RATIO / 4 else asked.lower().rstrip(" .?!")
        elif chance > VERBATIM_RATIO and len(turns) == 2:
            asked = rephrase(asked, rng)
        before = self._company(number, rng) if rng.random() < LEARNED_IN_TALK else ()
        return Row((Message(Role.USER, asked), *turns[1:]), Part.LEARNED, number, before)

    def _near(self, number: int, rng: Random) -> Row:
        asked = next(filter(self._is_untaught, (self._miss(number, rng) for _ in range(TRIES))), "")
        if not asked:  # nothing in the question could be replaced
            return self._learned(number, rng)
        before = self._company(number, rng) if rng.random() < NEAR_IN_TALK else ()
        answer = self._taught[number][1]
        return Row((Message(Role.USER, asked), answer), Part.NEAR, number, before)

    def _miss(self, number: int, rng: Random) -> str:
        asked, keys = self._taught[number][0].content, self._keys[number]
        if self._talk and rng.random() < WORD_IN_TALK_RATIO:
            return _with_word(rng.choice(self._talk)[0].content, keys, rng)
        if is_japanese(asked):
            text = near_misses_ja.near_miss(asked, rng, self._rivals, keys) or ""
        else:
            text = near_miss(self._forms[number], rng, self._rivals) or ""
        if text and rng.random() < REPHRASED_NEAR_RATIO:
            text = rephrase(text, rng)
        return careless(text) if rng.random() < VERBATIM_RATIO / 2 else text

    def _is_untaught(self, asked: str) -> bool:
        return bool(asked.strip()) and (
            normalized_question((Message(Role.USER, asked),)) not in self._known_questions
        )

    def _company(self, number: int, rng: Random) -> Conversation:
        """One or two exchanges before a question: of talk, or other taught pairs, since people try
        one after the other."""
        siblings = [one for n, one in enumerate(self._taught) if n != number]
        pools = [pool for pool in (siblings, self._talk, self._talk) if pool]
        count = rng.choice((1, 1, 2)) if pools else 0
        chosen = [rng.choice(rng.choice(pools)) for _ in range(count)]
        return tuple(message for turns in chosen for message in turns[:2])

    def _next_talk(self, step: int) -> Iterator[Conversation]:
        """Each conversation once, then again in another order."""
        count = self.parts.count(Part.TALK)
        for place in range(step * count, (step + 1) * count):
            lap, at = divmod(place, len(self._talk))
            yield self._laps(lap)[at]

    def _laps(self, lap: int) -> list[Conversation]:
        order = list(self._talk)
        Random(f"{self._seed} {lap}").shuffle(order)
        return order


def _spread(rows: int, with_talk: bool) -> list[Part]:
    """The part of each row of a step."""
    learned, near = _share_of(rows, LEARNED_SHARE), _share_of(rows, NEAR_SHARE)
    talk = max(1, rows - learned - near) if with_talk else 0
    places = [
        ((n + 0.5) / count, part)
        for part, count in ((Part.LEARNED, learned), (Part.NEAR, near), (Part.TALK, talk))
        for n in range(count)
    ]
    return [part for _, part in sorted(places)]


def _share_of(rows: int, share: float) -> int:
    """So many of a step's rows, at least one."""
    return max(1, round(rows * share))


def _with_word(text: str, keys: Sequence[str], rng: Random) -> str:
    """Talk with a word of a taught question in it."""
    if keys and is_japanese(text):
        return f"{rng.choice(keys)}、{text}"
    said = text.split()
    if keys and said:
        said[rng.randrange(len(said))] = rng.choice(keys).lower()
    return " ".join(said)


def rows_per_epoch(config: TrainingConfig, taught: int) -> int:
    """The rows of the steps in which each of so many pairs is learned once. Steps are whole: few
    pairs are drawn several times in each."""
    rows_per_step = config.batch_size * config.gradient_accumulation
    return math.ceil(taught / _share_of(rows_per_step, LEARNED_SHARE)) * rows_per_step


def make_curriculum(
    config: TrainingConfig, taught: Sequence[Conversation], *, japanese: bool
) -> Curriculum:
    """The curriculum of a run; a `japanese` base keeps Japanese talk only: English is new to it."""
    talk = read_talk(taught, japanese=japanese)
    return Curriculum(taught, talk, config.batch_size * config.gradient_accumulation, config.seed)


def sample_rows(
    config: TrainingConfig, taught: Sequence[Conversation], count: int
) -> list[Conversation]:
    """About so many rows of a run, to estimate what it will cost."""
    curriculum = make_curriculum(config, taught, japanese=False)
    steps = max(1, count // len(curriculum.parts)) if taught else 0
    return [(*row.before, *row.turns) for step in range(steps) for row in curriculum.rows(step)]
