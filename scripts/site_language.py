"""The language of a page of the site (a hook of mkdocs): `NAME.ja.md` is Japanese.

Browsers choose the shapes of letters by it, and screen readers the voice. The theme itself, which
has one language for all pages, stays English.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page


LANGUAGE = re.compile(r"\.(\w\w)\.md$")


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    language = LANGUAGE.search(page.file.src_uri)
    return (
        output.replace('<html lang="en"', f'<html lang="{language[1]}"', 1) if language else output
    )
