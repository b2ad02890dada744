"""Which questions the bot's index of taught questions answers, before any training; for
`benchmarks.knowing`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.facts.sets import (
    careless,
    everyday_messages,
    general_messages,
    people,
    sets_of,
)
from benchmarks.shares import Share, wilson
from benchmarks.training import talk
from data.questions.rewordings import RewordedQuestions

PAIRS, SHORT_PAIRS = (10, 10_000), (10, 50)
"""Sizes of the index."""
TURNS, SHORT_TURNS = 2000, 100
"""Conversations of chitchat-dataset whose first messages are asked: what people say to start. In a
short run as many everyday messages, otherwise all."""


@dataclass(frozen=True, slots=True)
class AtOnce:
    """The shares of questions for which the right pair was found (`careless`, `unseen`), or any
    (`near`, `general`, `everyday`, `chitchat`: nothing should be), and the mean time of a
    search."""

    careless: Share
    unseen: Share
    near: Share
    general: Share
    everyday: Share
    chitchat: Share
    ms: float


@dataclass(slots=True)
class Search:
    """An index with its clock."""

    index: RewordedQuestions = field(default_factory=RewordedQuestions)
    seconds: float = 0.0
    asked: int = 0

    def finds(self, text: str) -> int | None:
        """The number of the pair that is found."""
        began = time.perf_counter()
        match = self.index.find(text)
        self.seconds += time.perf_counter() - began
        self.asked += 1
        return match and match.number


def found_at_once(group: str, pairs: int, language: str = "en", *, short: bool = False) -> AtOnce:
    """What an index of `pairs` taught questions finds: of the sets of 10 facts, each in its own
    index, filled up with facts about people."""
    search = Search()
    careless_ones, unseen, near, general, everyday, chitchat = ([] for _ in range(6))
    starts = [turns[0].content for turns in talk(SHORT_TURNS if short else TURNS)[0]]
    said = everyday_messages(language)[: SHORT_TURNS if short else None]
    for taught in sets_of(group, 10, language):
        others = people(group, pairs - len(taught.facts))
        search.index = index_of([fact.question for fact in (*taught.facts, *others)])
        for number, fact in enumerate(taught.facts):
            careless_ones.append(search.finds(careless(fact.question)) == number)
            unseen += [search.finds(wording) == number for wording in fact.unseen]
            near += [search.finds(miss) is not None for miss in fact.near]
        general += [search.finds(message) is not None for message in general_messages(language)]
        everyday += [search.finds(one) is not None for one in said]
        chitchat += [search.finds(start) is not None for start in starts]
    shares = map(wilson, (careless_ones, unseen, near, general, everyday, chitchat))
    return AtOnce(*shares, ms=round(1000 * search.seconds / search.asked, 3))


def index_of(questions: list[str]) -> RewordedQuestions:
    index = RewordedQuestions()
    for number, question in enumerate(questions):
        index.add(number, question)
    index.read_all()
    return index


def show_at_once(results: dict[int, AtOnce]) -> None:
    heads = " | ".join(f"{pairs:,} taught pairs" for pairs in results)
    print(f"\nKnown at once\n\n| in % | {heads} |\n|{'---|' * (len(results) + 1)}")
    for name, what in (
        ("careless", "careless: found"),
        ("unseen", "unseen wordings: found"),
        ("near", "near misses: wrongly found"),
        ("general", "general messages: wrongly found"),
        ("everyday", "messages of everyday talk: wrongly found"),
        ("chitchat", "first messages of chitchat-dataset: wrongly found"),
        ("ms", "ms a question"),
    ):
        cells = " | ".join(str(getattr(one, name)) for one in results.values())
        print(f"| {what} | {cells} |")
