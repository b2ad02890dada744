"""Golden questions as a file of pairs: question, expected text, and in `source` what that means.

`source` is `contain 3`: the kind, and how many of five draws must be good. Without it, the usual
ones. Any format of `data.formats` holds such pairs. Pure.
"""

from __future__ import annotations

import re

from core.errors import Refusal
from core.records import GoldenKind, GoldenQuestion, Pair
from i18n.phrase import join_phrases, phrase

USUAL_KIND, USUAL_NEEDED = GoldenKind.CONTAIN, 3
_EXPECTATION = re.compile(
    rf"(?P<kind>{'|'.join(GoldenKind)})(?:\s+(?P<needed>[1-5]))?", re.IGNORECASE
)


def as_pair(question: GoldenQuestion) -> Pair:
    """A golden question as a row of a file."""
    source = f"{question.kind} {question.needed}"
    return Pair(question.question, question.expected, source=source)


def from_pair(pair: Pair, scope: int, added_by: int) -> GoldenQuestion:
    """The golden question of a row.

    Raises:
        Refusal: its source says something else.
    """
    kind, needed = USUAL_KIND, USUAL_NEEDED
    if pair.source:
        found = _EXPECTATION.fullmatch(pair.source.strip())
        if found is None:
            raise Refusal(
                phrase(
                    "“{text}” in the column *source* is no expectation: write one of {kinds}, and "
                    "how many of five draws, as in `contain 3`.",
                    text=pair.source[:40],
                    kinds=join_phrases(GoldenKind, ", "),
                )
            )
        kind, needed = GoldenKind(found["kind"].lower()), int(found["needed"] or USUAL_NEEDED)
    return GoldenQuestion(0, scope, pair.user, kind, pair.bot, needed, added_by)
