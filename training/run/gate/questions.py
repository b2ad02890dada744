"""What a new model is asked before anyone talks with it: as people ask, and what they ask.

Taught questions in four ways, near misses of them, and messages that have nothing to do with what
was taught. Equal seeds give equal questions. Knows no tensors and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from core.japanese import is_japanese
from core.records import Conversation, Message, Role
from data.questions import near_misses_ja
from data.questions.likeness import TaughtQuestions, is_like
from data.questions.near_misses import near_miss
from data.questions.rephrasing import AskedForm, careless, rephrase
from data.questions.synonyms import lines_of
from training.config import MAX_FACTS
from training.run.mixing import DATA_FOLDER, normalized_question, read_talk

MAX_PAIRS = 12
"""Taught pairs that are asked: each in four ways, so that a large data set takes no longer."""
MAX_NEAR, NEAR_PER_PAIR = 20, 3
"""Near misses in all, and of one pair: enough to tell one in three from none."""
TRIES = 4
"""To draw a near miss that is not a taught question itself."""
REPHRASING_TRIES = 20
"""To draw a rephrasing that surely is the taught question: rules make some that nobody asks."""
TALK_BEFORE = 2
"""Exchanges of running talk before a question: with it, the five messages the bot looks at."""
SEED = 20_000
"""Other than the seeds of runs: what a run was trained with should not be asked again."""


class Way(Enum):
    """How something is asked."""

    VERBATIM = auto()
    CARELESS = auto()
    """In lower case, without marks."""
    IN_TALK = auto()
    """Word for word, after some other talk."""
    REPHRASED = auto()
    NEAR = auto()
    """Not a taught question: it only looks like one."""
    GENERAL = auto()


@dataclass(frozen=True, slots=True)
class Question:
    """A message, and what was said `before` it; `pair` is the number of the taught conversation
    that it asks for or nearly asks for, -1 for a general message."""

    way: Way
    text: str
    pair: int = -1
    before: Conversation = ()

    @property
    def conversation(self) -> Conversation:
        return (*self.before, Message(Role.USER, self.text))


def make_questions(
    taught: Sequence[Conversation], *, japanese: bool, seed: int = SEED
) -> list[Question]:
    """The questions for a model that learned these conversations; `japanese`: its base is."""
    rng = Random(seed)
    numbers = _asked_pairs(taught)
    is_taught = _finder(taught)
    talk = read_talk(taught, japanese=japanese)
    return [
        *(one for number in numbers for one in _taught(number, taught[number], talk, rng)),
        *_near_misses(taught, numbers, is_taught, rng),
        *(Question(Way.GENERAL, one) for one in general_messages(japanese) if not is_taught(one)),
    ]


def general_messages(japanese: bool) -> list[str]:
    """The messages in the language of a base, and those in any or in none."""
    names = ("messages.ja.txt" if japanese else "messages.en.txt", "messages.any.txt")
    return [line for name in names for line in lines_of(DATA_FOLDER / name)]


def _asked_pairs(taught: Sequence[Conversation]) -> list[int]:
    """At most MAX_PAIRS conversations with a question and an answer, evenly spread."""
    whole = [
        number
        for number, turns in enumerate(taught)
        if [one.role for one in turns[:2]] == [Role.USER, Role.ASSISTANT]
        and turns[0].content.strip()
        and turns[1].content.strip()
    ]
    count = min(len(whole), MAX_PAIRS)
    return [whole[n * len(whole) // count] for n in range(count)]


def _finder(taught: Sequence[Conversation]) -> Callable[[str], bool]:
    """Whether a text is a taught question: any word for word, or, where they are as few as facts
    are, one asked otherwise."""
    index = TaughtQuestions()
    for number, turns in enumerate(taught if len(taught) <= MAX_FACTS else ()):
        index.add(number, turns[0].content if turns else "")
    known = {normalized_question(turns) for turns in taught if turns}

    def is_taught(text: str) -> bool:
        said = normalized_question((Message(Role.USER, text),))
        return said in known or index.find(text) is not None

    return is_taught


def _taught(
    number: int, turns: Conversation, talk: Sequence[Conversation], rng: Random
) -> Iterator[Question]:
    asked = turns[0].content
    yield Question(Way.VERBATIM, asked, number)
    yield Question(Way.CARELESS, careless(asked).strip() or asked, number)
    before = rng.sample(talk, min(TALK_BEFORE, len(talk)))
    said = tuple(message for other in before for message in other[:2])
    yield Question(Way.IN_TALK, asked, number, said)
    drawn = (rephrase(asked, rng).strip() for _ in range(REPHRASING_TRIES))
    if same := next((one for one in drawn if one and is_like(one, asked)), None):
        yield Question(Way.REPHRASED, same, number)


def _near_misses(
    taught: Sequence[Conversation],
    numbers: Sequence[int],
    is_taught: Callable[[str], bool],
    rng: Random,
) -> list[Question]:
    """Of all pairs in turn, so that each has one before any has two."""
    rivals = [key for number in numbers for key in AskedForm.parse(taught[number][0].content).keys]
    found: dict[str, Question] = {}
    for number in [*numbers] * NEAR_PER_PAIR:
        drawn = (_near_miss(taught[number][0].content, rivals, rng) for _ in range(TRIES))
        text = next((one for one in drawn if one and one not in found and not is_taught(one)), None)
        if text:
            found[text] = Question(Way.NEAR, text, number)
    return list(found.values())[:MAX_NEAR]


def _near_miss(text: str, rivals: Sequence[str], rng: Random) -> str | None:
    if is_japanese(text):
        return near_misses_ja.near_miss(text, rng)
    return near_miss(AskedForm.parse(text), rng, rivals)
