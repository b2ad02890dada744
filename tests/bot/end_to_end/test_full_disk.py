"""A disk that really fills up under the bot: a small tmpfs, which only the test's process sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bot.chat.manager import DISK_FULL
from core.errors import DiskFull
from data.storage.migrations import SCHEMA_VERSION
from tests.training.run.test_full_disk import MOUNT, may_mount

ROOT = Path(__file__).parents[3]
LIFE = 'mount -t tmpfs -o size=8m tmpfs "$1"; exec "$2" -m tests.bot.end_to_end.full_disk "$1"'
FULL = str(DiskFull())


@pytest.mark.skipif(not may_mount(), reason="this system lets nobody mount a file system")
def test_the_bot_answers_on_a_full_disk_and_writes_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [*MOUNT, LIFE, "sh", str(tmp_path), sys.executable],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["before"] == "you said hello"
    assert facts["full"] == [f"you said are you there, {n}?\n-# {DISK_FULL}" for n in range(3)]
    assert facts["teach"] == FULL
    assert facts["import"] == FULL
    assert facts["backup"] == FULL
    refused, stayed = facts["upgrade"]
    assert refused.endswith(f"so it was left as it is: {FULL}")
    assert stayed == 2

    assert facts["after"] == "you said and now?"
    assert facts["examples"] == 1, "nothing was half done"
    assert facts["heard"] == ["hello", "you said hello", "and now?", "you said and now?"]
    assert facts["upgraded"] == [None, SCHEMA_VERSION]
    assert facts["left"] == [f"before-version-{SCHEMA_VERSION}", "gpt2bot"]
    assert done.stderr.count("replies are given, but not recorded") == 1
