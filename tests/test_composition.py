"""How the packages hang together, as far as import-linter's contracts cannot say it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot", "core", "data", "i18n", "model", "training")
BUILT_IN = {
    "CheckpointRetention": {"app.py"},
    "ConversationManager": {"app.py"},
    "Erasure": {"app.py"},
    "Filters": {"app.py"},
    "Gpt2Bot": {"app.py"},
    "ModelRouter": {"app.py"},
    "Pauses": {"app.py"},
    "TrainingManager": {"app.py"},
    # Without a bot: the chat in the terminal and the doctor start a worker of their own.
    "WorkerClient": {"app.py", "cli/chat.py", "cli/doctor/worker.py"},
    "build_bot": {"run.py", "cli/demo.py"},
    "open_storage": {"ops/recovery.py", "cli/dataset/files.py", "cli/evaluation.py"},
}
"""The parts of the bot, and the only files below `bot` that build them."""


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*PACKAGES)
    imports = {one: graph.find_modules_directly_imported_by(one) for one in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_only_the_composition_root_builds() -> None:
    found: dict[str, set[str]] = {name: set() for name in BUILT_IN}
    for path in (ROOT / "bot").rglob("*.py"):
        for name in _called(path):
            if name in found:
                found[name].add(path.relative_to(ROOT / "bot").as_posix())
    assert found == BUILT_IN


def _called(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
