"""The supported languages and their gettext catalogues, one folder each.

`i18n/ja/*.po` can be edited with any translation editor. English has none: its sentences are the
msgids, in the code. `python -m scripts.messages` compares the catalogues with the code.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

log = logging.getLogger(__name__)

ENGLISH, JAPANESE = "en", "ja"
LANGUAGES = (ENGLISH, JAPANESE)
CATALOGUES_FOLDER = Path(__file__).parent


def translate(language: str, template: str, plural: str | None = None, count: int = 1) -> str:
    """The template in that language, or in English if the catalogue does not have it."""
    if language == ENGLISH or not template:
        return template if plural is None or count == 1 else plural
    catalogue = load_catalogue(language)
    if plural is None:
        return catalogue.gettext(template)
    return catalogue.ngettext(template, plural, count)


def localized_name(language: str, kind: str, english: str) -> str | None:
    """The name of a command, an option or a choice; None if it is the English one."""
    name = load_catalogue(language).pgettext(kind, english)
    return None if name == english else name


@lru_cache(maxsize=len(LANGUAGES))
def load_catalogue(language: str) -> NullTranslations:
    """The catalogue of a language, read once; empty for English. Sentences in an unreadable file
    stay in English."""
    files = sorted((CATALOGUES_FOLDER / language).glob("*.po"))
    if not files:
        return NullTranslations()
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    catalogue = Catalog(locale=language)
    for file in files:
        try:
            with file.open("rb") as lines:
                found = [message for message in read_po(lines, locale=language) if message.id]
        except (OSError, ValueError) as e:
            log.error("the sentences in %s cannot be read: %s", file, e)
            continue
        for message in found:
            catalogue[message.id] = message
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)
