"""Chat and learning run without Discord: in a notebook, or in a benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["bot.chat", "bot.learning"])
def test_no_module_imports_discord(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    modules = [f"{package}.{path.stem}" for path in folder.glob("*.py")]
    assert len(modules) > 3
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert set(modules) - {f"{package}.__init__"} <= loaded
    assert not {name for name in loaded if name.split(".")[0] == "discord"}
    assert not {name for name in loaded if name.startswith("bot.discord_ui")}
