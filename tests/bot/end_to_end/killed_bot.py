"""The real bot in a process of its own, which kills itself at one moment of a training job.

`python -m tests.bot.end_to_end.killed_bot HOME MODEL MOMENT`, and again with the next moment:
SimCord numbers the server alike each time. In its first life ada teaches and starts a retrain; in
each, ben says hello. MOMENT is a state of the job, the name of an event of its run, `promote` (the
checkpoint is in its place, not yet in service) or `promoted` (it is in service, and the job does
not know); with any other word the bot lives to the job's end. Writes one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.chat.model_router import ModelRouter
from bot.discord_ui.reports.job_messages import TrainingReports
from bot.settings import load_settings
from core.records import TrainingJob
from tests.bot.cards import facts_of
from tests.bot.conftest import World, open_world
from training.jobs.events import Started
from training.jobs.queue import JobUpdate

JOB = 1


class Life:
    """What the bot did up to the moment of its death."""

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self._answered = asyncio.Event()
        self.facts: dict[str, Any] = {"reply": None, "worker": None, "resumed_from": []}

    async def is_at(self, moment: str) -> None:
        """Kill the process here, if this is the moment; but not before ben had his answer."""
        if moment == self._moment:
            await self._answered.wait()
            self.tell()
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self) -> None:
        sys.stdout.write(f"{json.dumps(self.facts)}\n")
        sys.stdout.flush()

    def watch(self) -> None:
        """From now on each moment in the life of a job is passed on to `is_at`."""
        report, promote = TrainingReports.update, ModelRouter.promote

        async def reported(reports: TrainingReports, update: JobUpdate) -> None:
            await report(reports, update)
            if isinstance(update.event, Started):
                self.facts["resumed_from"].append(update.event.resumed_from)
            await self.is_at(type(update.event).__name__ if update.event else update.job.state)

        async def promoted(models: ModelRouter, job: TrainingJob, folder: Path) -> None:
            await self.is_at("promote")
            await promote(models, job, folder)
            await self.is_at("promoted")

        TrainingReports.update = reported  # type: ignore[method-assign]
        ModelRouter.promote = promoted  # type: ignore[method-assign]

    async def chat(self, world: World) -> None:
        self.facts["reply"] = await world.say(world.ben, "hello")
        self.facts["worker"] = world.bot.get_cog("Training")._worker.pid
        self._answered.set()


async def live(home: Path, model: Path, moment: str) -> None:
    life = Life(moment)
    life.watch()
    settings = load_settings(gpt2bot_home=home, default_model="small", models=f"small={model}")
    async with open_world(settings, None) as world:
        ago = datetime.now(UTC) - world.env.now()  # or messages had the ids of the life before
        await world.env.advance_time(max(0.0, ago.total_seconds()))
        cog = world.bot.get_cog("Training")
        first = await cog._storage.jobs.get(JOB) is None
        if first:  # so that it is there, and found ready in the lives to come
            await world.ada.slash(world.general, "model use", name="small")
        await life.chat(world)
        if first:
            # what the model says to everybody, so that it passes its checks after some steps
            said = life.facts["reply"]
            await world.ben.slash(world.general, "teach", user="How are our lamps?", bot=said)
            plan = await world.ada.slash(world.general, "retrain", epochs=3.0)
            await world.ada.click(plan.response, label="Start")
        job = await cog._training.wait(JOB)
        life.facts |= {"state": job.state, "detail": job.detail, "checkpoint": job.checkpoint}
        life.facts["said"] = await world.say(world.ben, "hello again")
        about = await world.ben.slash(world.general, "about")
        life.facts["about"] = facts_of(about.response)
    life.tell()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
