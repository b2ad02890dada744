"""Finds a short text that shows what a cleaning rule does, without private data. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from data.dataset.pii import PII_KINDS, mask_pii
from data.dataset.rules import apply_rules, clean_text
from i18n.phrase import phrase

PII_RULE = phrase("private data")
"""The name of masking among the rules."""
MAX_SAMPLE_CHARS, LEAD_CHARS = 100, 20
"""The length of a sample, and how much of it comes before the first change."""
MAX_TEXTS_TRIED = 100

MASKED_PII = re.compile("|".join(rf"\[{kind.name}\]" for kind in PII_KINDS))
URL_PATH = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s/?#<>()]+)[/?#][^\s<>)]*", re.IGNORECASE)
CODE_BLOCK = re.compile(r"```.+?(?:```|\Z)", re.DOTALL)


def find_sample(rule: str, texts: Iterable[str]) -> tuple[str, str] | None:
    """A shortened text before and after the rule; None if the first MAX_TEXTS_TRIED have none."""
    pairs = _masked if rule == PII_RULE else lambda text: _changed(rule, text)
    found = (pair for text in islice(texts, MAX_TEXTS_TRIED) for pair in pairs(text))
    return next((_cut(*pair) for pair in found), None)


def _masked(text: str) -> Iterator[tuple[str, str]]:
    """With dots in place of the private data."""
    text, found = mask_pii(clean_text(text))
    if found:
        yield MASKED_PII.sub("•••••", text), text


def _changed(rule: str, text: str) -> Iterator[tuple[str, str]]:
    """The rule's changes to a text without private data, before or after cleaning."""
    if mask_pii(text)[1] or mask_pii(clean_text(text))[1]:
        return
    for change in apply_rules(text):
        if change.rule == rule:
            yield _redact_links_and_code(change.before), _redact_links_and_code(change.after)


def _redact_links_and_code(text: str) -> str:
    """Remove URL paths and code: they may hold keys that masking does not recognise."""
    return URL_PATH.sub(r"\1\2/…", CODE_BLOCK.sub("```…```", text))


def _cut(before: str, after: str) -> tuple[str, str]:
    """Both texts, cut to start LEAD_CHARS before the first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((n for n, (old, new) in pairs if old != new), min(len(before), len(after)))
    start = max(0, first - LEAD_CHARS)
    return _excerpt(before, start), _excerpt(after, start)


def _excerpt(text: str, start: int) -> str:
    end = start + MAX_SAMPLE_CHARS
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
