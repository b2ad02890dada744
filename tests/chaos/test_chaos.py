"""Everything goes wrong in some lives of the real bot; afterwards each promise must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from tests.chaos.life import SAYS
from tests.chaos.script import Step, lives
from tests.model_folders import make_model_folder
from tests.training.run.test_full_disk import MOUNT, may_mount

ROOT = Path(__file__).parents[2]
ON_A_SMALL_DISK = """\
python="$1"; home="$2"; ledger="$3"
mount -t tmpfs -o size=64m tmpfs "$home"
shift
for life in 0 1 2; do
    "$python" -m tests.chaos.life "$@" $life || echo "life $life: $?"
done
exec "$python" -m tests.chaos.invariants "$home" "$ledger"
"""


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="this system lets nobody mount a file system")
def test_every_promise_holds_whatever_goes_wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(
        max_examples=1,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(lives())
    def run(scripts: list[list[Step]]) -> None:
        texts = [step["text"] for life in scripts for step in life if "text" in step]
        assume(len(set(texts)) > len(texts) / 2)  # Hypothesis begins with the plainest script
        go_through(scripts, tmp_path_factory.mktemp("chaos"))

    run()


def go_through(scripts: list[list[Step]], folder: Path) -> None:
    """Let the bot live these lives on a small disk of its own, and look at what is left."""
    home, model = folder / "home", make_model_folder(folder / "small", says=SAYS)
    home.mkdir()
    script = folder / "scripts.json"
    script.write_text(json.dumps(scripts), encoding="utf-8")
    done = subprocess.run(
        [*MOUNT, ON_A_SMALL_DISK, "sh", sys.executable, home, folder / "ledger", model, script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["life", "0:", "137", "life", "1:", "137"], done.stderr
