"""The reader's language: the one that `say` translates to.

It is a context variable: concurrent tasks answer people in different languages, and a new task
inherits the language of the task that starts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from i18n.catalogue import ENGLISH, LANGUAGES
from i18n.phrase import Phrase, phrase

_current_language: ContextVar[str] = ContextVar("language of the reader", default=ENGLISH)


def say(what: str, /, **values: Any) -> str:
    """A Phrase, or a template with its values, in the reader's language."""
    sentence = what if isinstance(what, Phrase) else phrase(what, **values)
    return sentence.translate_to(_current_language.get())


def current_language() -> str:
    """The reader's language in this task."""
    return _current_language.get()


def set_language(language: str) -> None:
    """Set the reader's language for the rest of this task."""
    _current_language.set(language)


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """Set the reader's language inside the block."""
    before = _current_language.set(language)
    try:
        yield
    finally:
        _current_language.reset(before)


@lru_cache
def language_of_locale(name: str | None) -> str | None:
    """The language of a locale such as `ja_JP.UTF-8` or `en-GB`; None if it is not supported."""
    start = (name or "").replace("_", "-").partition("-")[0].partition(".")[0].lower()
    return start if start in LANGUAGES else None


def terminal_language() -> str:
    """The terminal's language, by its locale variables (POSIX, 8.2); English by default."""
    locales = map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))
    return language_of_locale(next(filter(None, locales), None)) or ENGLISH
