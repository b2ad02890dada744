"""The Japanese of the pages that are made of the code: `scripts/reference.ja.po`.

Descriptions of settings, help texts of the terminal, and the words of the pages themselves. Apart
from `i18n`, since the bot never says them. Commands of Discord and their options are in
`i18n/ja/commands.po` already.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from i18n.catalogue import ENGLISH, JAPANESE, localized_name

CATALOGUE = Path(__file__).with_name("reference.ja.po")
PAGE_LANGUAGES = (ENGLISH, JAPANESE)
_used: dict[str, None] = {}
"""What the pages that were made so far say, in their order."""


def words(text: str, language: str) -> str:
    """A text of a page in that language; in English if it is not translated yet."""
    if language == ENGLISH or not text:
        return text
    _used[text] = None
    message = catalogue().get(text)
    return str(message.string) if message and message.string else text


def other(language: str) -> str:
    return JAPANESE if language == ENGLISH else ENGLISH


def file_name(page: str, language: str) -> str:
    """Of a page of `docs/`: `NAME.md` or `NAME.ja.md`."""
    return f"{page}.md" if language == ENGLISH else f"{page}.{language}.md"


def link_to_other(page: str, language: str) -> str:
    """The line below a title that leads to the page in the other language."""
    there = other(language)
    name = "English" if there == ENGLISH else "日本語"
    return f"[{name}]({file_name(page, there)})"


def description(english: str, language: str) -> str:
    """What a command or an option of Discord is for."""
    return localized_name(language, "description", english) or english


@lru_cache
def catalogue() -> Catalog:
    with CATALOGUE.open("rb") as lines:
        return read_po(lines, locale=JAPANESE)


def used() -> tuple[str, ...]:
    """The texts of all pages; make the pages first."""
    return tuple(_used)


def untranslated() -> list[str]:
    """What is on the Japanese pages in English."""
    messages = ((text, catalogue().get(text)) for text in used())
    return [text for text, message in messages if message is None or not message.string]


def write_catalogue() -> None:
    """Add what is missing, with an empty translation, and drop what no page says any more."""
    fresh = Catalog(locale=JAPANESE, charset="utf-8", fuzzy=False)
    for text in used():
        message = catalogue().get(text)
        fresh.add(text, message.string if message else "")
    with CATALOGUE.open("wb") as lines:
        write_po(lines, fresh, width=100, omit_header=True)
