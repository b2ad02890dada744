"""The pages that a script makes are what it makes now, and what they quote is what the bot says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bot.settings import Settings
from scripts import translated
from scripts.reference import SECTIONS, pages

ROOT = Path(__file__).parent.parent
TROUBLE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("bot", "core", "data", "model", "training")
LEAST = 10
"""Letters that a template must have in common with what is quoted."""


def test_the_pages_are_those_of_the_code() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m scripts.reference`"


def test_what_they_say_is_all_in_japanese_and_nothing_else_is() -> None:
    pages()
    assert translated.untranslated() == [], "fill it in in scripts/reference.ja.po"
    there = {message.id for message in translated.catalogue() if message.id}
    assert there == set(translated.used()), "run `python -m scripts.reference`"


def test_both_pages_say_the_same_of_who_may_use_a_command() -> None:
    """What permissions.md says is tried, command by command, in
    tests/bot/discord_ui/cogs/test_admin.py."""
    tables = [
        re.findall(r"^\| `/([a-z -]+)` \| (\w+) \|", page.read_text("utf-8"), re.MULTILINE)
        for page in (ROOT / "docs" / "commands.md", ROOT / "docs" / "permissions.md")
    ]
    assert tables[0] == tables[1] != []


def test_each_section_begins_with_a_setting() -> None:
    assert Settings.model_fields.keys() >= SECTIONS.keys()


# --- what the bot says ---------------------------------------------------------------------------


def quoted() -> Iterator[str]:
    """The sentences between typographic quotes, those within them included."""
    text = " ".join(re.sub(r"(?<!`)`(?!`)", "", TROUBLE.read_text(encoding="utf-8")).split())
    depth, start = 0, 0
    for match in re.finditer("[“”]", text):
        depth += 1 if match[0] == "“" else -1
        if match[0] == "“" and depth == 1:
            start = match.end()
        elif depth == 0 and " " in text[start : match.start()]:
            yield text[start : match.start()]


def said() -> Iterator[str]:
    """Each text in the code, with `…` where a value is put in."""
    for package in PACKAGES:
        for path in sorted(ROOT.glob(f"{package}/**/*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Constant(value=str(text)):
                        yield re.sub(r"\{\w*\}", "…", text)
                    case ast.JoinedStr(values=values):
                        yield "".join(
                            str(one.value) if isinstance(one, ast.Constant) else "…"
                            for one in values
                        )


def fits(quote: str, template: str) -> bool:
    """Whether every piece of the quote stands in the template, in its order."""
    pieces = [one.strip() for one in quote.split("…") if len(one.strip()) > 2]
    pattern = ".*".join(map(re.escape, pieces))
    return sum(map(len, pieces)) >= LEAST and bool(re.search(pattern, template))


def test_what_is_quoted_is_what_the_bot_says() -> None:
    texts = {" ".join(text.replace("`", "").split()) for text in said()}
    strange = [quote for quote in quoted() if not any(fits(quote, text) for text in texts)]
    assert strange == []
