"""What a rule does, shown by an example in which nothing private is left. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from data.dataset.pii import PII_KINDS, mask_pii
from data.dataset.rules import apply_rules, clean_text
from i18n.phrase import phrase

PII_RULE = phrase("private data")
"""The name that masking has among the rules."""
MAX_SAMPLE_CHARS, LEAD_CHARS = 100, 20
"""Characters of a sample, and how many of them stand before what is changed first."""
MAX_TEXTS_TRIED = 100
"""Texts that are looked at for a sample."""

MASKED_PII = re.compile("|".join(rf"\[{kind.name}\]" for kind in PII_KINDS))
URL_PATH = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s/?#<>()]+)[/?#][^\s<>)]*", re.IGNORECASE)
CODE_BLOCK = re.compile(r"```.+?(?:```|\Z)", re.DOTALL)


def find_sample(rule: str, texts: Iterable[str]) -> tuple[str, str] | None:
    """A text before and after the rule, cut; None where the first few texts give none to show."""
    pairs = _masked if rule == PII_RULE else lambda text: _changed(rule, text)
    found = (pair for text in islice(texts, MAX_TEXTS_TRIED) for pair in pairs(text))
    return next((_cut(*pair) for pair in found), None)


def _masked(text: str) -> Iterator[tuple[str, str]]:
    """With dots for what was masked."""
    text, found = mask_pii(clean_text(text))
    if found:
        yield MASKED_PII.sub("•••••", text), text


def _changed(rule: str, text: str) -> Iterator[tuple[str, str]]:
    """What the rule did, if nothing in the text is private, as it was or as it is when clean."""
    if mask_pii(text)[1] or mask_pii(clean_text(text))[1]:
        return
    for change in apply_rules(text):
        if change.rule == rule:
            yield _redact_links_and_code(change.before), _redact_links_and_code(change.after)


def _redact_links_and_code(text: str) -> str:
    """Without the insides of links and code: those may hold keys that masking does not know."""
    return URL_PATH.sub(r"\1\2/…", CODE_BLOCK.sub("```…```", text))


def _cut(before: str, after: str) -> tuple[str, str]:
    """Both from shortly before the first difference on."""
    both = enumerate(zip(before, after, strict=False))
    same = next((n for n, (one, other) in both if one != other), min(len(before), len(after)))
    start = max(0, same - LEAD_CHARS)
    return _from(before, start), _from(after, start)


def _from(text: str, start: int) -> str:
    cut = text[start : start + MAX_SAMPLE_CHARS]
    return f"{'…' if start else ''}{cut}{'…' if len(text) > start + MAX_SAMPLE_CHARS else ''}"
