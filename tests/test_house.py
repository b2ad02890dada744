"""The layout of the packages, and what modules say they do not know, held to the import graph."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot", "core", "data", "i18n", "model", "training")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
MAX_FILES = 16
"""Files of source in one folder, `__init__.py` included."""

CLAIM = re.compile(r"(?:[Dd]oes not know|[Kk]nows (?:no|nothing of))\b([^.;:]*)")
LIBRARIES = {
    "Discord": {"discord"},
    "SQL": {"sqlite3", "aiosqlite"},
    "torch": {"torch"},
}
"""What such a claim means, by the word that makes it: none of these is imported, even indirectly.

But for SQL: to call the storage, which imports it, is not to know it.
"""


def claims() -> list[tuple[str, str]]:
    """Each module whose docstring says that it does not know something, and the word for it."""
    found = []
    for file in FILES:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        unknown = " ".join(CLAIM.findall(" ".join(docstring.split())))
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found += [(module, word) for word in LIBRARIES if re.search(rf"\b{word}\b", unknown)]
    return found


def how_known(graph: grimp.ImportGraph, module: str, word: str) -> list[tuple[str, ...]]:
    """The chains of imports that lead from the module to what it says it does not know."""
    libraries = LIBRARIES[word] & graph.modules
    if word == "SQL":
        direct = graph.find_modules_directly_imported_by(module)
        return [(module, library) for library in libraries & direct]
    chains = (graph.find_shortest_chain(module, library) for library in libraries)
    return [chain for chain in chains if chain]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def test_what_modules_say_that_they_do_not_know_they_do_not_import(
    graph: grimp.ImportGraph,
) -> None:
    assert len(claims()) > 10
    untrue = [(*one, chain) for one in claims() for chain in how_known(graph, *one)]
    assert not untrue


def test_packages_are_marked_and_their_folders_small() -> None:
    for folder in {file.parent for file in FILES}:
        assert (folder / "__init__.py").read_bytes() == b"", folder
        assert len(list(folder.glob("*.py"))) <= MAX_FILES, folder
