"""Who reads: the language in which sentences are said now.

It belongs to the task at hand (a context variable), so people who read different languages are
answered at the same time. Tasks inherit it from whoever starts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from i18n.catalogue import ENGLISH, LANGUAGES
from i18n.phrase import Phrase, phrase

_current_language: ContextVar[str] = ContextVar("language of the reader", default=ENGLISH)


def say(what: str, /, **values: Any) -> str:
    """A Phrase, or a template with its values, in the language of whoever reads."""
    sentence = what if isinstance(what, Phrase) else phrase(what, **values)
    return sentence.translate_to(_current_language.get())


def current_language() -> str:
    """The language that is read now."""
    return _current_language.get()


def set_language(language: str) -> None:
    """From here on, this task is read in that language."""
    _current_language.set(language)


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """What is said inside is read in that language."""
    before = _current_language.set(language)
    try:
        yield
    finally:
        _current_language.reset(before)


def language_of_locale(name: str | None) -> str | None:
    """The language of a locale such as `ja_JP.UTF-8` or `en-GB`; None if it is none of ours."""
    start = (name or "").replace("_", "-").partition("-")[0].partition(".")[0].lower()
    return start if start in LANGUAGES else None


def terminal_language() -> str:
    """The language of this terminal, by the variables that say so (POSIX, 8.2); English else."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return language_of_locale(value) or ENGLISH
    return ENGLISH
