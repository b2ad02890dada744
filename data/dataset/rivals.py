"""Chooses between examples that rule each other out, and limits each author's share. Pure.

Rivals are near duplicates, and different answers to one question. The newest is learned; if its
author has too much of the data set, the newest one by somebody else is learned in its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from core.japanese import FULL_WIDTH_TO_ASCII
from core.questions import without_end_marks
from core.records import Example
from data.dataset.dedup import dedup_key
from i18n.phrase import phrase

MIN_AUTHOR_CAP = 100
"""Examples that an author may always have, whatever their share."""
REASON_NEAR_DUPLICATE = phrase("nearly the same as a newer one")
REASON_SUPERSEDED = phrase("answered again later (the newest answer counts)")
REASON_AUTHOR_CAP = phrase("over one author's share")

by_id = attrgetter("id")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A single pair or the turns of a conversation; `reason`: why it loses to a newer rival."""

    turns: Sequence[Example]
    reason: str

    @property
    def author(self) -> int:
        return self.turns[0].author_id

    @property
    def newest_id(self) -> int:
        return max(turn.id for turn in self.turns)


Rivals = list[Candidate]
"""Candidates of which one is learned, newest first."""


def choose(examples: Iterable[Example], share: float) -> tuple[list[Example], Counter[str]]:
    """The examples to learn, sorted by id, and how many were dropped for which reason.

    No author has more than `share` of them, down to MIN_AUTHOR_CAP; 1.0 disables this, as does a
    data set with one author. An author's surplus is dropped oldest first, by whole conversations.
    """
    groups = _rank_answers(_rank_near_duplicates(group_by_conversation(examples)))
    dropped: Counter[str] = Counter()
    if share < 1 and len({one.author for rivals in groups for one in rivals}) > 1:
        dropped[REASON_AUTHOR_CAP] = _cap_authors(groups, share)
    for rivals in groups:
        for loser in rivals[1:]:
            dropped[loser.reason] += len(loser.turns)
    chosen = [one for rivals in groups if rivals for one in rivals[0].turns]
    kept = keep_newest_answers(chosen)  # a rival that came back may have a newer one elsewhere
    dropped[REASON_SUPERSEDED] += len(chosen) - len(kept)
    return kept, dropped


def keep_newest_answers(examples: Iterable[Example]) -> list[Example]:
    """Keep the newest example for each question, sorted by id: teaching it again corrects it.

    Questions are compared without case, white space, full-width forms and punctuation at their end.
    Turns of a conversation depend on their context, so they neither replace anything nor are
    replaced.
    """
    newest = {_question(one): one for one in sorted(examples, key=by_id)}
    return sorted(newest.values(), key=by_id)


def _question(one: Example) -> Hashable:
    question = one.user.translate(FULL_WIDTH_TO_ASCII).casefold()
    return one.id if one.conversation else without_end_marks(" ".join(question.split()))


def _rank_near_duplicates(talks: Sequence[Sequence[Example]]) -> list[Rivals]:
    """Group talks, given from the oldest to the newest, that say nearly the same. A single pair
    never duplicates a turn of a conversation, which has a context."""
    groups: dict[Hashable, Rivals] = defaultdict(list)
    for turns in reversed(talks):
        keys = ((dedup_key(one.user), dedup_key(one.bot)) for one in turns)
        rivals = groups[bool(turns[0].conversation), *keys]
        rivals.append(Candidate(turns, REASON_NEAR_DUPLICATE if rivals else REASON_SUPERSEDED))
    return list(groups.values())


def _rank_answers(groups: Iterable[Rivals]) -> list[Rivals]:
    """Join groups whose newest pairs answer the same question."""
    joined: dict[Hashable, Rivals] = defaultdict(list)
    for rivals in groups:
        joined[_question(rivals[0].turns[0])] += rivals
    return [
        sorted(rivals, key=lambda one: one.newest_id, reverse=True) for rivals in joined.values()
    ]


def _cap_authors(groups: Sequence[Rivals], share: float) -> int:
    """Drop the oldest of authors with more than their share; return how many examples.

    The rival that comes back in the place of a dropped one counts for its own author, who may then
    have too much: so this is repeated until nothing more is dropped.
    """
    dropped = 0
    while more := _cap_once(groups, share):
        dropped += more
    return dropped


def _cap_once(groups: Iterable[Rivals], share: float) -> int:
    led_by: dict[int, list[Rivals]] = defaultdict(list)
    for rivals in sorted(filter(None, groups), key=lambda rivals: rivals[0].newest_id):
        led_by[rivals[0].author].append(rivals)
    counts = Counter({author: sum(map(_size, led)) for author, led in led_by.items()})
    total, dropped = counts.total(), 0
    for author, _ in counts.most_common():
        for rivals in led_by[author]:
            size = _size(rivals)
            if counts[author] - _author_cap(total - counts[author], share) >= size:
                dropped += _drop_leader(rivals)
                counts[author] -= size
                total += _size(rivals) - size
                if rivals:
                    counts[rivals[0].author] += _size(rivals)
    return dropped


def _size(rivals: Rivals) -> int:
    """The examples that are learned of it."""
    return len(rivals[0].turns) if rivals else 0


def _drop_leader(rivals: Rivals) -> int:
    """Drop what the leader's author has up to the next rival's; return how many examples."""
    author, dropped = rivals[0].author, 0
    while rivals and rivals[0].author == author:
        dropped += len(rivals.pop(0).turns)
    return dropped


def _author_cap(others: int, share: float) -> int:
    """How many examples make up `share` of all, next to `others` by other authors."""
    return max(MIN_AUTHOR_CAP, int(share / (1 - share) * others))


def group_by_conversation(examples: Iterable[Example]) -> list[list[Example]]:
    """The turns of each conversation in order, a single pair as a group; sorted by newest id."""
    groups: dict[str | int, list[Example]] = {}
    for one in examples:
        groups.setdefault(one.conversation or one.id, []).append(one)
    for turns in groups.values():
        turns.sort(key=lambda one: (one.turn, one.id))
    return sorted(groups.values(), key=lambda turns: max(map(by_id, turns)))
