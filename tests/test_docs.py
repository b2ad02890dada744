"""The documents say what is true of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bot.cli import app
from bot.doctor.permissions import ALL, NEEDED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PAGES = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}


def test_the_invite_link_asks_for_the_permissions_that_the_readme_names() -> None:
    [number] = re.findall(r"permissions=(\d+)", README)
    assert int(number) == ALL.value
    assert all(name in " ".join(README.split()) for name in NEEDED)


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


ROOMS = r"\b((?:bot|data|model|training|tests|benchmarks|scripts)/[\w/]+\.(?:py|jsonl))\b"


def test_files_that_pages_name_are_there() -> None:
    for document in {ROOT / "README.md", *ROOT.glob("docs/*.md")}:
        for name in re.findall(ROOMS, PAGES[document]):
            places = (ROOT / name, ROOT / "tests" / name)
            assert any(one.is_file() for one in places), f"{document.name} names {name}"


# --- the command line ----------------------------------------------------------------------------


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
            yield f"{first} {more[0]}" if first == "dataset" and more else first


def test_commands_of_the_terminal_that_are_named_are_there() -> None:
    there = commands()
    for document, text in PAGES.items():
        assert set(named(text)) <= there, document.name


def test_the_readme_names_each_command_of_the_terminal() -> None:
    assert commands() - {"dataset"} <= set(named(README))


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
