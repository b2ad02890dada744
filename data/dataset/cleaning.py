"""Cleans a data set and selects the examples to train on. Pure: examples in, examples out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.records import Example
from data.dataset.pii import mask_pii
from data.dataset.rivals import by_id, choose, group_by_conversation
from data.dataset.rules import PLACEHOLDER, RULES, apply_rules, is_command
from data.dataset.samples import PII_RULE, find_sample
from i18n.phrase import phrase

MAX_LEARNED_CHARS = 1000
"""A question or an answer longer than this is dropped."""
TEACH_SOURCE = "teach"
"""The source of examples written on purpose: their answers may be commands ("!help")."""
CHAT_SOURCE = "chat"
"""The source of examples collected from conversations, with what the bot itself said."""
BLANK_CHARS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))
"""Joiners and variation selectors: the rules keep them, but they are invisible on their own."""

REASON_EMPTY = phrase("empty after cleaning")
REASON_PLACEHOLDERS_ONLY = phrase("nothing left but a link, code or a mention")
REASON_COMMAND = phrase("a command to a bot")
REASON_TOO_LONG = phrase("too long")
REASON_MISSING_CONTEXT = phrase("after a turn that was left out")


@dataclass(frozen=True, slots=True)
class Selection:
    """The cleaned examples to train on, sorted by id, and statistics.

    `dropped` counts by reason and `pii_counts` by kind, both as phrases; the other counts are
    those of `kept`. `rule_counts`: how many examples each rule changed. `samples`: a short text
    before and after a rule, without private data.
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
    """An example before and after cleaning, with the rules that changed it."""

    original: Example
    example: Example
    rules: frozenset[str]
    pii_counts: Counter[str]


def select_examples(
    examples: Iterable[Example], *, author_share: float = 0.5, max_chars: int = MAX_LEARNED_CHARS
) -> Selection:
    """Clean the examples and drop those that should not be learned.

    Dropped are empty texts, bot commands and texts over `max_chars` (each with the later turns of
    its conversation), and what `data.dataset.rivals` does not choose.
    """
    cleaned = {one.id: _clean(one) for one in examples}
    dropped: Counter[str] = Counter()
    usable = _drop_unusable((one.example for one in cleaned.values()), max_chars, dropped)
    kept, lost = choose(usable, author_share)
    return _selection([cleaned[one.id] for one in kept], dropped | lost)


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


def clean_text(text: str) -> str:
    """A text as it is learned: after all rules, with private data masked."""
    for change in apply_rules(text):
        text = change.after
    return mask_pii(text)[0]


def is_learnable(cleaned: Example) -> bool:
    """Whether a cleaned example may be learned, as far as its own texts tell."""
    return _drop_reason(cleaned, MAX_LEARNED_CHARS) is None


def _drop_unusable(
    examples: Iterable[Example], max_chars: int, dropped: Counter[str]
) -> list[Example]:
    """Drop unusable turns and the turns after them, which would lack their context."""
    left = []
    for turns in group_by_conversation(examples):
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
