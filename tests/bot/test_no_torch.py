"""The bot's process answers Discord's heartbeat: nothing heavy may be imported into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "accelerate",
    "datasets",
    "matplotlib",
    "numpy",
    "pandas",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
}


@pytest.mark.parametrize(
    "modules",
    [
        ("bot.__main__", "bot.cli.main"),
        ("bot.app",),
        ("bot.cli.chat",),
        ("data.storage.storage", "data.dataset.snapshot"),
        ("model.worker.client", "model.registry", "model.worker.messages"),
        ("training.jobs.manager",),
    ],
    ids=lambda modules: modules[0],
)
def test_the_bot_imports_nothing_heavy(modules: tuple[str, ...]) -> None:
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert HEAVY.isdisjoint(done.stdout.split())


def test_help_does_not_wait_for_discord() -> None:
    code = "import bot.cli.main, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"discord", "simcord", "aiosqlite"}.isdisjoint(done.stdout.split())
