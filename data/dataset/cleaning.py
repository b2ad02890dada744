"""Cleans a data set and selects the examples to train on. Pure: examples in, examples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from core.japanese import FULL_WIDTH_TO_ASCII
from core.records import Example
from data.dataset.dedup import dedup_key
from data.dataset.pii import mask_pii
from data.dataset.rules import PLACEHOLDER, RULES, apply_rules, is_command
from data.dataset.samples import PII_RULE, find_sample
from i18n.phrase import phrase

MIN_AUTHOR_CAP = 100
"""Examples that an author may always have, whatever their share."""
MAX_LEARNED_CHARS = 1000
"""A question or an answer longer than this is dropped."""
TEACH_SOURCE = "teach"
"""The source of examples written on purpose: their answers may be commands ("!help")."""
BLANK_CHARS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))
"""Joiners and variation selectors: the rules keep them, but they are invisible on their own."""
by_id = attrgetter("id")

REASON_EMPTY = phrase("empty after cleaning")
REASON_PLACEHOLDERS_ONLY = phrase("nothing left but a link, code or a mention")
REASON_COMMAND = phrase("a command to a bot")
REASON_TOO_LONG = phrase("too long")
REASON_MISSING_CONTEXT = phrase("after a turn that was left out")
REASON_NEAR_DUPLICATE = phrase("nearly the same as a newer one")
REASON_SUPERSEDED = phrase("answered again later (the newest answer counts)")
REASON_AUTHOR_CAP = phrase("over one author's share")


@dataclass(frozen=True, slots=True)
class Selection:
    """The cleaned examples to train on, sorted by id, and statistics.

    `dropped` counts by reason and `pii_counts` by kind, both as phrases; the other counts are those
    of `kept`. `rule_counts`: how many examples each rule changed. `samples`: a short text before
    and after a rule, without private data."""

    kept: tuple[Example, ...]
    dropped: Mapping[str, int]
    pii_counts: Mapping[str, int]
    by_source: Mapping[str, int]
    by_author: Mapping[int, int]
    rule_counts: Mapping[str, int]
    samples: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """An example before and after cleaning, with the rules that changed it."""

    original: Example
    example: Example
    rules: frozenset[str]
    pii_counts: Counter[str]


def select_examples(
    examples: Iterable[Example], *, author_share: float = 0.5, max_chars: int = MAX_LEARNED_CHARS
) -> Selection:
    """Clean the examples and drop those that should not be learned.

    Dropped, in this order: empty texts, bot commands and texts over `max_chars` (each with the
    later turns of its conversation); near duplicates and earlier answers to a question, except the
    newest; and the oldest examples of an author with more than `author_share` of all, down to
    MIN_AUTHOR_CAP (1.0 disables this, as does a data set with one author). Near duplicates and an
    author's surplus are dropped by whole conversations."""
    cleaned = {one.id: _clean(one) for one in examples}
    dropped: Counter[str] = Counter()
    left = _drop_unusable((one.example for one in cleaned.values()), max_chars, dropped)
    for reason, leave_out in (
        (REASON_NEAR_DUPLICATE, drop_near_duplicates),
        (REASON_SUPERSEDED, keep_newest_answers),
        (REASON_AUTHOR_CAP, lambda rest: _cap_author_share(rest, author_share)),
    ):
        before, left = len(left), leave_out(left)
        dropped[reason] = before - len(left)
    return _selection([cleaned[one.id] for one in left], dropped)


def _selection(kept: Sequence[_Cleaned], dropped: Mapping[str, int]) -> Selection:
    changed = Counter(name for one in kept for name in one.rules)
    rules = [name for name in (*RULES, PII_RULE) if name in changed]
    samples = {}
    for name in rules:
        changed_by = (one.original for one in kept if name in one.rules)
        texts = (text for one in changed_by for text in (one.user, one.bot))
        if sample := find_sample(name, texts):
            samples[name] = sample
    return Selection(
        kept=tuple(one.example for one in kept),
        dropped={reason: count for reason, count in dropped.items() if count},
        pii_counts=sum((one.pii_counts for one in kept if one.pii_counts), Counter()),
        by_source=Counter(one.example.source for one in kept),
        by_author=Counter(one.example.author_id for one in kept),
        rule_counts={name: changed[name] for name in rules},
        samples=samples,
    )


def _clean(taught: Example) -> _Cleaned:
    rules: set[str] = set()
    texts, masked = [], Counter[str]()
    for text in (taught.user, taught.bot):
        for change in apply_rules(text):
            rules.add(change.rule)
            text = change.after
        text, found = mask_pii(text)
        masked.update(found)
        texts.append(text)
    if masked:
        rules.add(PII_RULE)
    example = replace(taught, user=texts[0], bot=texts[1]) if rules else taught
    return _Cleaned(taught, example, frozenset(rules), masked)


def _drop_unusable(
    examples: Iterable[Example], max_chars: int, dropped: Counter[str]
) -> list[Example]:
    """Drop unusable turns and the turns after them, which would lack their context."""
    left = []
    for turns in _group_by_conversation(examples):
        for position, one in enumerate(turns):
            if reason := _drop_reason(one, max_chars):
                dropped[reason] += 1
                dropped[REASON_MISSING_CONTEXT] += len(turns) - position - 1
                break
            left.append(one)
    return sorted(left, key=by_id)


def _drop_reason(one: Example, max_chars: int) -> str | None:
    sides = (one.user, one.bot)
    if not all(_has_visible_text(side) for side in sides):
        return REASON_EMPTY
    if not all(_has_visible_text(PLACEHOLDER.sub("", side)) for side in sides if "[" in side):
        return REASON_PLACEHOLDERS_ONLY
    if is_command(one.user) or (one.source != TEACH_SOURCE and is_command(one.bot)):
        return REASON_COMMAND
    return REASON_TOO_LONG if max(map(len, sides)) > max_chars else None


def _has_visible_text(text: str) -> bool:
    return bool((text if text.isascii() else text.translate(BLANK_CHARS)).strip())


def drop_near_duplicates(examples: Iterable[Example]) -> list[Example]:
    """Keep the newest of the pairs or whole conversations with equal dedup keys, sorted by id. A
    single pair never duplicates a turn of a conversation, which has a context."""
    newest: dict[tuple[object, ...], list[Example]] = {}
    for turns in _group_by_conversation(examples):
        keys = ((dedup_key(one.user), dedup_key(one.bot)) for one in turns)
        newest[(bool(turns[0].conversation), *keys)] = turns
    return sorted((one for turns in newest.values() for one in turns), key=by_id)


def keep_newest_answers(examples: Iterable[Example]) -> list[Example]:
    """Keep the newest example for each question, sorted by id: teaching it again corrects it.

    Questions are compared without case, white space and full-width forms. Turns of a conversation
    depend on their context, so they neither replace anything nor are replaced."""
    newest: dict[str | int, Example] = {}
    for one in sorted(examples, key=by_id):
        question = one.user.translate(FULL_WIDTH_TO_ASCII).casefold()
        newest[one.id if one.conversation else " ".join(question.split())] = one
    return sorted(newest.values(), key=by_id)


def _cap_author_share(examples: Sequence[Example], share: float) -> list[Example]:
    """Drop the oldest conversations of authors with more than their share, each as a whole."""
    groups = _group_by_conversation(examples)
    counts: Counter[int] = Counter()
    for turns in groups:
        counts[turns[0].author_id] += len(turns)
    surplus = {
        author: count - _author_cap(len(examples) - count, share)
        for author, count in counts.items()
    }
    kept = []
    for turns in groups:  # the oldest come first
        if surplus[turns[0].author_id] >= len(turns):
            surplus[turns[0].author_id] -= len(turns)
        else:
            kept += turns
    return sorted(kept, key=by_id)


def _author_cap(others: int, share: float) -> float:
    """How many examples make up `share` of all, next to `others` by other authors."""
    if share >= 1 or not others:
        return float("inf")
    return max(MIN_AUTHOR_CAP, int(share / (1 - share) * others))


def _group_by_conversation(examples: Iterable[Example]) -> list[list[Example]]:
    """The turns of each conversation in order, a single pair as a group; sorted by newest id."""
    groups: dict[str | int, list[Example]] = {}
    for one in examples:
        groups.setdefault(one.conversation or one.id, []).append(one)
    for turns in groups.values():
        turns.sort(key=lambda one: (one.turn, one.id))
    return sorted(groups.values(), key=lambda turns: max(map(by_id, turns)))
