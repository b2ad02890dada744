"""What a rule does, shown by an example in which nothing private is left. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from data.dataset.pii import KINDS, mask
from data.dataset.rules import changes, clean
from i18n.phrase import phrase

MASKED = phrase("private data")
"""The name that masking has among the rules."""
LONGEST, LEAD = 100, 20
"""Characters of a sample, and how many of them stand before what is changed first."""
TRIES = 100
"""Texts that are looked at for a sample."""

HIDDEN = re.compile("|".join(rf"\[{kind.name}\]" for kind in KINDS))
PATH = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s/?#<>()]+)[/?#][^\s<>)]*", re.IGNORECASE)
FENCED = re.compile(r"```.+?(?:```|\Z)", re.DOTALL)


def sample(rule: str, texts: Iterable[str]) -> tuple[str, str] | None:
    """A text before and after the rule, cut; None where the first few texts give none to show."""
    pairs = _masked if rule == MASKED else lambda text: _changed(rule, text)
    found = (pair for text in islice(texts, TRIES) for pair in pairs(text))
    return next((_cut(*pair) for pair in found), None)


def _masked(text: str) -> Iterator[tuple[str, str]]:
    """With dots for what was masked."""
    text, found = mask(clean(text))
    if found:
        yield HIDDEN.sub("•••••", text), text


def _changed(rule: str, text: str) -> Iterator[tuple[str, str]]:
    """What the rule did, if nothing in the text is private, as it was or as it is when clean."""
    if mask(text)[1] or mask(clean(text))[1]:
        return
    for change in changes(text):
        if change.rule == rule:
            yield _without_insides(change.before), _without_insides(change.after)


def _without_insides(text: str) -> str:
    """Without the insides of links and code: those may hold keys that masking does not know."""
    return PATH.sub(r"\1\2/…", FENCED.sub("```…```", text))


def _cut(before: str, after: str) -> tuple[str, str]:
    """Both from shortly before the first difference on."""
    both = enumerate(zip(before, after, strict=False))
    same = next((n for n, (one, other) in both if one != other), min(len(before), len(after)))
    start = max(0, same - LEAD)
    return _from(before, start), _from(after, start)


def _from(text: str, start: int) -> str:
    cut = text[start : start + LONGEST]
    return f"{'…' if start else ''}{cut}{'…' if len(text) > start + LONGEST else ''}"
