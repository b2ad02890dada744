"""The documents say what is true of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bot.cli.main import app
from bot.discord_ui.bot_permissions import INVITE_PERMISSIONS, REQUIRED_PERMISSIONS
from tests.bot.end_to_end.test_learning import FACTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PAGES = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}


def test_the_invite_link_asks_for_the_permissions_that_are_named_beside_it() -> None:
    for page in (README, PAGES[ROOT / "docs" / "quick-start.md"]):
        [number] = re.findall(r"permissions=(\d+)", page)
        assert int(number) == INVITE_PERMISSIONS.value
        assert all(name in " ".join(page.split()) for name in REQUIRED_PERMISSIONS)


def test_five_steps_lead_to_a_bot_that_answers_and_one_command_is_typed() -> None:
    """The setup does the rest, and starts the bot at its end."""
    section = README.partition("## Put it on your server")[2].partition("\n## ")[0]
    steps = re.findall(r"^(\d)\. (?:`(.+?)`)?", section, re.MULTILINE)
    assert [number for number, _ in steps] == list("12345")
    assert [typed for _, typed in steps if typed] == ["uv run gpt2bot setup"]
    quick_start = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    assert re.findall(r"^\*\*(\d)\. ", quick_start, re.MULTILINE) == list("12345")


def test_what_the_quick_start_teaches_is_what_a_test_teaches() -> None:
    """So it is known that `tiny` learns it in one retrain."""
    page = PAGES[ROOT / "docs" / "quick-start.md"]
    assert dict(re.findall(r"^    /teach user:(.*) bot:(.*)$", page, re.MULTILINE)) == FACTS


def test_links_to_files_of_the_project_lead_somewhere() -> None:
    for document, text in PAGES.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
            there = document.parent / target if target else document
            assert there.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(there), f"{document.name} links to #{anchor}"


def anchors(document: Path) -> set[str]:
    """The places of a document to which a link may lead, by GitHub's rules."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}


def test_every_page_is_led_to() -> None:
    linked = {
        (document.parent / target).resolve()
        for document, text in PAGES.items()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text)
    }
    assert {page for page in DOCUMENTS if page.parent.name == "docs"} <= linked


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = re.findall(r"\]\(([^)#]+)", PAGES[index])
    assert {page.name for page in index.parent.glob("*.md")} - {index.name} <= set(linked)


ROOMS = r"\b((?:bot|data|model|training|tests|benchmarks|scripts)/[\w/]+\.(?:py|jsonl))\b"


def test_files_that_pages_name_are_there() -> None:
    for document in {ROOT / "README.md", *ROOT.glob("docs/*.md")}:
        for name in re.findall(ROOMS, PAGES[document]):
            places = (ROOT / name, ROOT / "tests" / name)
            assert any(one.is_file() for one in places), f"{document.name} names {name}"


def test_diagrams_have_no_semicolons() -> None:
    """mermaid takes what follows one for another statement, and shows an error in its place."""
    blocks = {
        name: re.findall(r"^```mermaid\n(.*?)^```", PAGES[name], re.M | re.S) for name in PAGES
    }
    assert any(blocks.values())
    assert [name for name, found in blocks.items() if ";" in "".join(found)] == []


# --- the command line ----------------------------------------------------------------------------


GROUPS = {"dataset", "cluster"}
"""Commands that have commands of their own."""


def commands() -> set[str]:
    """What can be typed after `gpt2bot`; of a group also each of its commands."""
    top = typer.main.get_command(app)
    assert isinstance(top, typer.core.TyperGroup)
    there = set(top.commands)
    for name, command in top.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            there |= {f"{name} {one}" for one in command.commands}
    return there


def named(text: str) -> Iterator[str]:
    """The commands that a page tells people to type: `gpt2bot NAME`, in a code block or a span."""
    blocks = re.findall(r"^    .*$|```.*?```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", text)
    for code in (*blocks, *spans):
        for words in re.findall(r"(?:^|[\s/!])gpt2bot +(?!gpt2bot)([a-z]+(?: +[a-z]+)?)", code):
            first, *more = words.split()
            yield f"{first} {more[0]}" if first in GROUPS and more else first


def test_commands_of_the_terminal_that_are_named_are_there() -> None:
    there = commands()
    for document, text in PAGES.items():
        assert set(named(text)) <= there, document.name


def test_the_page_of_commands_names_each_of_the_terminal() -> None:
    page = PAGES[ROOT / "docs" / "commands.md"]
    assert commands() - GROUPS <= set(named(page))


# --- the tests that pages name -------------------------------------------------------------------

TEST = r"(tests/[\w/]+\.py)::([\w:]+)"


def names_in(path: Path) -> set[str]:
    """The names by which pytest knows the tests of a file, without those of parameters."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                methods = (ast.FunctionDef, ast.AsyncFunctionDef)
                found |= {f"{name}::{one.name}" for one in body if isinstance(one, methods)}
            case ast.Assign(targets=[ast.Name(id=name)]):  # Hypothesis' state machines
                found.add(name)
    return {one for one in found if one.startswith(("test_", "Test"))}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_tests_that_are_named_are_there(page: Path) -> None:
    for file, name in re.findall(TEST, PAGES[page]):
        assert name in names_in(ROOT / file), f"{page.name} names {file}::{name}"


def test_both_readmes_have_the_same_parts_commands_and_links() -> None:
    english, japanese = README, (ROOT / "README.ja.md").read_text(encoding="utf-8")

    def parts(text: str) -> list[int]:
        """Headings, rows of tables, items of lists, paragraphs."""
        marks = (
            r"^## ",
            r"^\|",
            r"^(?:-|\d\.) ",
            r"^\n(?=\S)",
        )
        return [len(re.findall(mark, text, re.MULTILINE)) for mark in marks]

    def links(text: str) -> set[str]:
        found = set(re.findall(r"\]\(([^)\s]+)\)", text))
        return {one.replace(".ja.md", ".md") for one in found} - {"README.md", *PICTURES}

    assert parts(japanese) == parts(english)
    assert commands_in(japanese) == commands_in(english)
    assert links(japanese) >= links(english)


PICTURES = {f"docs/demo{language}.{kind}" for language in ("", ".ja") for kind in ("gif", "png")}
"""Each README shows those in its language."""


def commands_in(text: str) -> list[str]:
    """The lines that can be typed: code without Japanese, and no continued items of a list."""
    lines = re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    return [line for line in lines if re.match(r"(?:pip|uv|\.venv/|https:)", line)]


# --- pages in both languages ---------------------------------------------------------------------

JAPANESE_PAGES = sorted(ROOT.glob("docs/*.ja.md"))
HEADING, LINK = re.compile(r"^(#+) ", re.MULTILINE), re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def english_of(page: Path) -> Path:
    return page.with_name(page.name.replace(".ja.md", ".md"))


def skeleton(text: str) -> list[tuple[int, int, int, int]]:
    """The level of each heading, and what is below it: rows, items of lists, blocks of code."""
    text = FENCE.sub("    code", text)
    levels = [len(one) for one in HEADING.findall(text)]
    bodies = re.split(r"^#+ .*$", text, flags=re.MULTILINE)[1:]
    return [
        (
            level,
            len(re.findall(r"^\|", body, re.MULTILINE)),
            len(re.findall(r"^(?:-|\d\.) ", body, re.MULTILINE)),
            len(re.findall(r"^ {4,}\S(?:.*\n {4,}\S)*", body, re.MULTILINE)),
        )
        for level, body in zip(levels, bodies, strict=True)
    ]


def test_there_are_japanese_pages_of_what_people_need_first() -> None:
    names = {page.name.removesuffix(".ja.md") for page in JAPANESE_PAGES}
    assert names >= {"quick-start", "commands", "data-files", "training", "privacy", "responsible"}


@pytest.mark.parametrize("page", JAPANESE_PAGES, ids=lambda page: page.stem)
def test_a_japanese_page_has_the_same_parts_as_the_english_one(page: Path) -> None:
    assert skeleton(PAGES[page]) == skeleton(PAGES[english_of(page)])


@pytest.mark.parametrize("page", JAPANESE_PAGES, ids=lambda page: page.stem)
def test_both_pages_lead_to_each_other_and_to_the_same_pages(page: Path) -> None:
    english = english_of(page)
    assert f"[English]({english.name})" in PAGES[page]
    assert f"[日本語]({page.name})" in PAGES[english]
    links = [
        {link.replace(".ja.md", ".md").partition("#")[0] for link in LINK.findall(PAGES[one])}
        for one in (page, english)
    ]
    assert links[0] | {english.name} >= links[1]


@pytest.mark.parametrize("page", JAPANESE_PAGES, ids=lambda page: page.stem)
def test_both_pages_are_in_the_navigation(page: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f": {page.name}\n" in navigation
    assert f": {english_of(page).name}\n" in navigation
