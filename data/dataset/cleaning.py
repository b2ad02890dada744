"""What of a data set is learned. Pure: examples in, examples out.

Knows the order: the rules (`data.dataset.rules`), masking (`data.dataset.pii`), then what is left
out and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from core.japanese import FULL_WIDTH_TO_ASCII
from core.records import Example
from data.dataset.dedup import dedup_key
from data.dataset.pii import mask_pii
from data.dataset.rules import PLACEHOLDER, RULES, apply_rules, is_command
from data.dataset.samples import PII_RULE, find_sample
from i18n.phrase import phrase

MIN_AUTHOR_CAP = 100
"""Examples that an author may have taught, whatever share of all that is."""
MAX_LEARNED_CHARS = 1000
"""Characters of a question or an answer that are learned."""
TEACH_SOURCE = "teach"
"""The source of what people write on purpose: there an answer may be a command ("!help")."""
BLANK_CHARS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))
"""Characters that the rules leave and that show nothing when they are alone."""
NO_RULES = frozenset[str]()

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
    """What is learned, and what became of the rest.

    `kept` by id, cleaned; `dropped` and `pii_counts` count by reason and by kind, in words;
    `by_source` and `by_author` count what is kept. `rule_counts` says for each rule how many of
    `kept` it changed, `samples` gives a text before and after for most of them, cut, without
    anything private.
    """

    kept: tuple[Example, ...]
    dropped: Mapping[str, int]
    pii_counts: Mapping[str, int]
    by_source: Mapping[str, int]
    by_author: Mapping[int, int]
    rule_counts: Mapping[str, int]
    samples: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """An example, as it was taught and cleaned; the rules that changed it; what was masked."""

    original: Example
    example: Example
    rules: frozenset[str]
    pii_counts: Counter[str]


def select_examples(
    examples: Iterable[Example], *, author_share: float = 0.5, max_chars: int = MAX_LEARNED_CHARS
) -> Selection:
    """Clean the examples, and leave out what should not be learned.

    Left out are, in this order: texts that say nothing, commands to bots, texts of more than
    `max_chars` characters (each with the later turns of its conversation); all but the newest of
    those that are nearly the same; all but the newest answer to a question; and the oldest of an
    author who taught more than `author_share` of all, but for ALWAYS_KEPT (1.0 switches this off,
    and who is alone is never cut). Conversations are repeated or over a share as a whole.
    """
    cleaned = {one.id: _clean(one) for one in examples}
    dropped: Counter[str] = Counter()
    left = _drop_unusable((one.example for one in cleaned.values()), max_chars, dropped)
    for reason, leave_out in (
        (REASON_NEAR_DUPLICATE, drop_near_duplicates),
        (REASON_SUPERSEDED, keep_newest_answers),
        (REASON_AUTHOR_CAP, lambda some: _cap_author_share(some, author_share)),
    ):
        before, left = len(left), leave_out(left)
        dropped[reason] = before - len(left)
    return _selection([cleaned[one.id] for one in left], dropped)


def _selection(kept: Sequence[_Cleaned], dropped: Mapping[str, int]) -> Selection:
    changed = Counter(name for one in kept for name in one.rules)
    rules = [name for name in (*RULES, PII_RULE) if name in changed]
    samples = {name: find_sample(name, _texts(kept, name)) for name in rules}
    return Selection(
        kept=tuple(one.example for one in kept),
        dropped={reason: count for reason, count in dropped.items() if count},
        pii_counts=sum((one.pii_counts for one in kept if one.pii_counts), Counter()),
        by_source=Counter(one.example.source for one in kept),
        by_author=Counter(one.example.author_id for one in kept),
        rule_counts={name: changed[name] for name in rules},
        samples={name: shown for name, shown in samples.items() if shown},
    )


def _texts(kept: Iterable[_Cleaned], rule: str) -> Iterator[str]:
    """As they were taught: those that the rule may have changed."""
    for one in kept:
        if rule in one.rules:
            yield from (one.original.user, one.original.bot)


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
    if not rules:
        return _Cleaned(taught, taught, NO_RULES, masked)
    user, bot = texts
    return _Cleaned(taught, replace(taught, user=user, bot=bot), frozenset(rules), masked)


def _drop_unusable(
    examples: Iterable[Example], longest: int, dropped: Counter[str]
) -> list[Example]:
    """Without what nobody should learn, and what followed it: those turns lack their context."""
    left = []
    for turns in _group_by_conversation(examples):
        for place, one in enumerate(turns):
            if reason := _drop_reason(one, longest):
                dropped[reason] += 1
                dropped[REASON_MISSING_CONTEXT] += len(turns) - place - 1
                break
            left.append(one)
    return sorted(left, key=_id)


def _drop_reason(one: Example, longest: int) -> str | None:
    """Why the example should not be learned, whatever the others are."""
    sides = (one.user, one.bot)
    if not all(_has_visible_text(side) for side in sides):
        return REASON_EMPTY
    if not all(_has_visible_text(PLACEHOLDER.sub("", side)) for side in sides if "[" in side):
        return REASON_PLACEHOLDERS_ONLY
    if is_command(one.user) or (one.source != TEACH_SOURCE and is_command(one.bot)):
        return REASON_COMMAND
    return REASON_TOO_LONG if max(map(len, sides)) > longest else None


def _has_visible_text(text: str) -> bool:
    """Whether there is anything to see."""
    return bool((text if text.isascii() else text.translate(BLANK_CHARS)).strip())


def drop_near_duplicates(examples: Iterable[Example]) -> list[Example]:
    """Of pairs, and of whole conversations, that are nearly the same, the newest. By id.

    Nearly the same: as `data.dataset.dedup.dedup_key` sees them. A single pair is no repeat of a
    turn in a conversation, since that one has a context.
    """
    newest: dict[tuple[object, ...], list[Example]] = {}
    for turns in _group_by_conversation(examples):
        forms = ((dedup_key(one.user), dedup_key(one.bot)) for one in turns)
        newest[(bool(turns[0].conversation), *forms)] = turns
    return sorted((one for turns in newest.values() for one in turns), key=_id)


def keep_newest_answers(examples: Iterable[Example]) -> list[Example]:
    """Of examples with the same question, the newest: teaching it again corrects it. By id.

    Questions are the same if they differ only in case, in white space and in full width. In a
    conversation what was said before matters: its turns stay, and correct nothing outside.
    """
    newest: dict[str | int, Example] = {}
    for one in sorted(examples, key=_id):
        asked = one.user.translate(FULL_WIDTH_TO_ASCII).casefold()
        newest[one.id if one.conversation else " ".join(asked.split())] = one
    return sorted(newest.values(), key=_id)


def _cap_author_share(examples: Sequence[Example], share: float) -> list[Example]:
    """Without the oldest of authors who have more than their share; conversations go whole."""
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
    return sorted(kept, key=_id)


def _author_cap(of_others: int, share: float) -> float:
    """How many examples an author may have beside those of others, to be `share` of all."""
    if share >= 1 or not of_others:
        return float("inf")
    return max(MIN_AUTHOR_CAP, int(share / (1 - share) * of_others))


def _group_by_conversation(examples: Iterable[Example]) -> list[list[Example]]:
    """The turns of each conversation in their order, a single pair as one of its own; by their
    newest id."""
    groups: dict[str | int, list[Example]] = {}
    for one in examples:
        groups.setdefault(one.conversation or one.id, []).append(one)
    for turns in groups.values():
        turns.sort(key=lambda one: (one.turn, one.id))
    return sorted(groups.values(), key=lambda turns: max(map(_id, turns)))


def _id(example: Example) -> int:
    return example.id
