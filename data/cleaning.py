"""What of a data set is learned. Pure: examples in, examples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.masking import mask
from data.schema import Example

ALWAYS_KEPT = 100
"""Examples that an author may have taught, whatever share of all that is."""
BLANKS = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\u2800\u3164\ufeff"))
"""Characters that are there and show nothing, beside white space."""

EMPTY = "empty after cleaning"
CORRECTED = "answered again later (the newest answer counts)"
OVER_SHARE = "over one author's share"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is learned, and what became of the rest.

    `kept` by id, cleaned; `dropped` and `masked` count by reason and by kind, in words; `by_source`
    and `by_author` count what is kept.
    """

    kept: tuple[Example, ...]
    dropped: Mapping[str, int]
    masked: Mapping[str, int]
    by_source: Mapping[str, int]
    by_author: Mapping[int, int]


def select(examples: Iterable[Example], *, author_share: float = 0.5) -> Selection:
    """Clean the examples, and leave out what should not be learned.

    Private things are masked, empty texts dropped, corrected answers replaced by the newest. An
    author who taught more than `author_share` of all examples keeps the newest of theirs that make
    up that share, but at least ALWAYS_KEPT; 1.0 switches this off, and who is alone is never cut.
    """
    masked: dict[int, Counter[str]] = {}
    cleaned = []
    for example in examples:
        one, masked[example.id] = _clean(example)
        cleaned.append(one)
    full = [one for one in cleaned if _says(one.user) and _says(one.bot)]
    newest = newest_answers(full)
    kept = _capped(newest, author_share)
    dropped = {
        EMPTY: len(cleaned) - len(full),
        CORRECTED: len(full) - len(newest),
        OVER_SHARE: len(newest) - len(kept),
    }
    return Selection(
        kept=tuple(kept),
        dropped={reason: count for reason, count in dropped.items() if count},
        masked=sum((masked[one.id] for one in kept), Counter()),
        by_source=Counter(one.source for one in kept),
        by_author=Counter(one.author_id for one in kept),
    )


def _clean(example: Example) -> tuple[Example, Counter[str]]:
    user, in_user = mask(example.user.strip())
    bot, in_bot = mask(example.bot.strip())
    return replace(example, user=user, bot=bot), in_user + in_bot


def _says(text: str) -> bool:
    """Whether there is anything to see."""
    return bool(text.translate(BLANKS).strip())


def _capped(examples: Sequence[Example], share: float) -> list[Example]:
    """Without the oldest examples of authors who have more than their share."""
    counts = Counter(one.author_id for one in examples)
    surplus = {
        author: count - _most(len(examples) - count, share) for author, count in counts.items()
    }
    kept = []
    for one in examples:  # the oldest come first
        if surplus[one.author_id] > 0:
            surplus[one.author_id] -= 1
        else:
            kept.append(one)
    return kept


def _most(of_others: int, share: float) -> float:
    """How many examples an author may have beside those of others, to be `share` of all."""
    if share >= 1 or not of_others:
        return float("inf")
    return max(ALWAYS_KEPT, int(share / (1 - share) * of_others))


def newest_answers(examples: Iterable[Example]) -> list[Example]:
    """Of examples with the same question, the newest: teaching it again corrects it.

    Questions are the same if they differ only in case and in white space. In the order of ids.
    """
    newest = {" ".join(one.user.casefold().split()): one for one in sorted(examples, key=_id)}
    return sorted(newest.values(), key=_id)


def _id(example: Example) -> int:
    return example.id
