"""The recipes of CONTRIBUTING: every file that they name is there, and what they say is enough."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.records import Pair
from data.formats import registry
from data.formats.files import read_pairs, write_annotated_copy, write_pairs
from data.formats.import_result import RowError
from data.formats.registry import FileFormat

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = CONTRIBUTING.split("## How to add")[1].partition("\n## ")[0]
CODEC = """
from core.records import Pair
from data.formats.encodings import read_text


def read(path, name, into):
    for number, line in into.count_rows(enumerate(read_text(path, name).splitlines(), 1)):
        user, _, bot = line.partition(" = ")
        into.add_pair(number, Pair(user, bot))


def encode(pairs):
    return "".join(f"{pair.user} = {pair.bot}\\n" for pair in pairs).encode()


def annotate(path, name, problems):
    return "\\n".join(problems[""].values()).encode()
"""


def test_every_file_that_a_recipe_names_is_there() -> None:
    named = set(re.findall(r"`([\w.]+/[\w./]+)`", RECIPES))
    assert len(named) > 20
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("FORMATS", "data/formats/registry.py"),
        ("LANGUAGES", "i18n/catalogue.py"),
        ("LANGUAGE_NAMES", "bot/web/words.py"),
        ("Language", "bot/cli/main.py"),
        ("Language", "bot/cli/setup/command.py"),
        ("MAKERS", "tests/model/runners/test_contract.py"),
        ("MIGRATIONS", "data/storage/migrations.py"),
        ("SAMPLING_LABELS", "bot/discord_ui/embeds/origin.py"),
        ("PAGE_LANGUAGES", "scripts/translated.py"),
        ("SECTIONS", "scripts/reference.py"),
        ("ServerLanguage", "core/server_settings.py"),
        ("_open", "model/loading.py"),
        ("bot_language", "bot/settings.py"),
        ("sampling_params", "bot/settings.py"),
    ],
)
def test_every_name_that_a_recipe_names_is_in_its_file(name: str, place: str) -> None:
    assert f"`{name}`" in RECIPES
    assert f"`{place}`" in RECIPES
    text = (ROOT / place).read_text("utf-8")
    assert re.search(rf"^\s*(?:def |class )?{name}\b", text, re.MULTILINE)


def test_a_file_format_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with the three functions and a line in FORMATS: nothing else knows of it."""
    (tmp_path / "equals_signs.py").write_text(CODEC)
    monkeypatch.syspath_prepend(tmp_path)
    line = FileFormat((".pairs",), "equals_signs")
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, line))
    path, pairs = tmp_path / "some.pairs", [Pair("Hello?", "Hello!"), Pair("Bye?", "Bye!")]

    assert write_pairs(pairs, path) == 2
    assert path.read_text() == "Hello? = Hello!\nBye? = Bye!\n"
    assert read_pairs(path).pairs == tuple(pairs)
    write_annotated_copy(path, [RowError(2, "Too short.")], tmp_path / "annotated.jsonl")
    assert (tmp_path / "annotated.jsonl").read_text() == "Too short."
