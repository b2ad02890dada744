"""What a newcomer waits for: from `git clone` to the first answer on the demo's page, in Chromium.

`python -m benchmarks.newcomer` clones this repository (its last commit) into an empty folder and
does there what the README says, with uv, no cache and no environment. What a download takes
depends on the line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from scripts.page import DemoPage, message_text
from scripts.stage import open_page, run_demo

ROOT = Path(__file__).parent.parent
FIRST = "Hello! How are you?"
LABELS = {
    "cloned_s": "the clone is there",
    "environment_s": "the environment is ready",
    "page_s": "the page is up",
    "answer_s": "the first answer is on the page",
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="gpt2bot-newcomer-") as folder:
        result = measure(Path(folder))
    for name, label in LABELS.items():
        print(f"{label:<32} {result[name]:6.1f} s")
    print(f"{'size of the environment':<32} {result['environment_mb']:6.0f} MB")


def measure(folder: Path) -> dict[str, float]:
    """Seconds since the beginning at which each thing was there.

    Raises:
        CalledProcessError, DemoEnded, NoChromium: something did not work.
    """
    clone, fresh = folder / "clone", {"UV_CACHE_DIR": str(folder / "cache")}
    began, result = time.perf_counter(), dict[str, float]()

    def now(name: str) -> None:
        result[name] = round(time.perf_counter() - began, 1)

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    now("cloned_s")
    # The first thing that `uv run` does; here by itself, to see when it is done.
    subprocess.run(["uv", "sync", "--quiet"], cwd=clone, env={**os.environ, **fresh}, check=True)
    now("environment_s")
    command = ("uv", "run", "gpt2bot")
    with (
        run_demo(command=command, folder=clone, settings=fresh) as url,
        open_page(width=1280, height=900) as page,
    ):
        visitor = DemoPage(page, url)
        now("page_s")
        assert message_text(visitor.send_message(FIRST)).strip()
        now("answer_s")
    result["environment_mb"] = _mb(clone / ".venv")
    return result


def _mb(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 1e6)


if __name__ == "__main__":
    main()
