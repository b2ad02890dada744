"""The bot's process is killed (SIGKILL) at one moment of a training job after the other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.records import JobState
from data.storage.storage import open_storage
from tests.model_folders import make_model_folder
from training.checkpoints import verify
from training.jobs.folder import latest_saved_step

ROOT = Path(__file__).parents[3]
SAYS = "quite well thanks"
MOMENTS = ("queued", "running", "Step", "Checking", "promote", "promoted")


def live(home: Path, model: Path, until: str) -> tuple[int, dict[str, Any]]:
    """One life of the bot: its exit status, and what it told last."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bot.end_to_end.killed_bot", str(home), str(model), until],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def left_by(home: Path, worker: int) -> list[psutil.Process]:
    """What still runs of a bot that died: its worker, and whatever was started for its home."""
    return [
        one
        for one in psutil.process_iter(["cmdline"])
        if one.pid == worker or any(str(home) in word for word in one.info["cmdline"] or ())
    ]


def ends(pid: int, within_s: float) -> bool:
    """Whether a process ends in that time; whether its end was noted by its parent is not asked."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended, _, _ = select.select([process], [], [], within_s)
    finally:
        os.close(process)
    return bool(ended)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux waits for any process")
async def test_one_job_goes_on_through_the_death_of_the_bot_at_each_moment(tmp_path: Path) -> None:
    home = tmp_path / "home"
    model = make_model_folder(tmp_path / "small", says=SAYS)
    resumed_from: dict[str, list[int]] = {}
    for moment in MOMENTS:
        status, life = live(home, model, moment)
        assert status == -9, f"it did not come to {moment}"
        assert life["reply"], f"it did not answer in the life that ended at {moment}"
        resumed_from[moment] = life["resumed_from"]
        for process in left_by(home, life["worker"]):
            assert ends(process.pid, within_s=60), f"{process} outlived the bot"

    status, life = live(home, model, "the end")
    assert (status, life["state"], life["checkpoint"]) == (0, "promoted", "small-1"), life
    assert life["said"] == SAYS
    assert life["about"]["Model here"] == "small-1"
    assert resumed_from["Step"] == [0]
    assert resumed_from["Checking"][0] > 0, "steps that were taken are not taken again"
    assert resumed_from["promote"] == resumed_from["promoted"] == [], "nothing is trained again"
    async with open_storage(home / "gpt2bot.sqlite3") as storage:
        assert await storage.jobs.unfinished() == []
        job = await storage.jobs.get(1)
        assert job is not None
        assert job.state is JobState.PROMOTED
    verify(next((home / "checkpoints").glob("*/small-1")))
    assert latest_saved_step(Path(job.directory)) is None
