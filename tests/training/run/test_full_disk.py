"""A disk that really fills up: a small tmpfs, which only the test's own processes see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.conftest import heard, write_job
from training.config import TrainingConfig
from training.jobs.events import Event, Failed, Finished, Saved, Started, from_line

MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-euc")
LIFE = """\
mount -t tmpfs -o size=64m tmpfs "$1"
cp "$2"/* "$1"
"$3" -m training.run "$1" | while read -r line; do
    echo "$line"
    case "$line" in *saved*) cat /dev/zero > "$1/other" 2> /dev/null || : ;; esac
done
echo "left: $(ls "$1" | tr '\\n' ' ')"
"$3" -m training.run "$1" || :
echo "left: again"
rm "$1/other"
"$3" -m training.run "$1"
echo "left: $(ls "$1" | tr '\\n' ' ')"
"""
"""Something else takes the rest of the disk as soon as a step was saved; later it is gone again."""


def may_mount() -> bool:
    try:
        return not subprocess.run([*MOUNT, "mount -t tmpfs tmpfs /mnt"], check=False).returncode
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="this system lets nobody mount a file system")
def test_the_disk_fills_up_and_the_run_goes_on_when_there_is_room(
    plain_base: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(
        name="t-1", base=str(plain_base), epochs=1, min_steps=40, precision="fp32", gate=False,
        save_every_s=0.0,
    )  # fmt: skip
    job, disk = write_job(tmp_path / "job", config), tmp_path / "disk"
    disk.mkdir()
    done = heard([*MOUNT, LIFE, "sh", str(disk), str(job), sys.executable], 300)
    assert done.returncode == 0, done.stderr
    first, left, too_soon, _, second, finally_left, _ = re.split(r"left: (.*)\n", done.stdout)
    *_, failed = told = events(first)
    saved = [one.step for one in told if isinstance(one, Saved)]
    assert isinstance(failed, Failed)
    assert failed.resumable
    assert failed.reason.startswith("The disk is full")
    assert "checkpoint" not in left.split()
    *_, refused = events(too_soon)
    assert isinstance(refused, Failed)
    assert refused.resumable, "what is saved stays saved"
    assert refused.reason.startswith("The disk is too full: the training needs")
    again = events(second)[1:]
    assert isinstance(again[0], Started)
    assert again[0].resumed_from == saved[-1] > 0
    assert isinstance(again[-1], Finished)
    assert {"checkpoint", "config.json", "dataset.jsonl"} <= set(finally_left.split())


def events(text: str) -> list[Event]:
    return [event for line in text.splitlines() if (event := from_line(line))]
