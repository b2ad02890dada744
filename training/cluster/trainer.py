"""The actor that runs one training on a machine of the cluster.

It starts the same process as the bot would (`training.jobs.process`), in a folder of its own, and
answers with what that tells and with the files that it leaves. Ray makes the actor wait until a
machine has room, and ends it when its follower ends. Does not know the bot's machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager

from core.cluster.connection import ClusterError
from core.logging import LogFormat
from i18n.phrase import message_of, phrase
from model.cluster.messages import ModelRef
from model.cluster.versions import NodeModels, node_folder
from training.cluster.home import RunHome
from training.cluster.messages import Assignment, Ended, Line, Message, require_same_build
from training.cluster.unreceived import Unreceived
from training.jobs.events import Failed, to_line
from training.jobs.launch import ControlWord, TrainingChild
from training.jobs.process import TrainingProcess

KEEP_S = 60.0
"""How often the cache is told that the run's models are in use."""


class Trainer:
    """Serves one follower: `begin`, then `run`; the rest at any time."""

    def __init__(self, log_format: LogFormat, cache: str | None = None) -> None:
        hide_devices()
        self._log_format = log_format
        self._node = node_folder(cache)
        self._words: list[ControlWord] = []
        self._unreceived = Unreceived()
        self._child: TrainingChild | None = None
        self._over = asyncio.Event()
        self._over.set()

    async def begin(self, build: str, refs: tuple[ModelRef, ...]) -> tuple[str, ...]:
        """The parcels of the models that this machine lacks.

        Raises:
            ClusterError: another version of the bot is installed here.
        """
        require_same_build(build)
        models = NodeModels.of(self._node)
        missing = await asyncio.to_thread(lambda: [models.missing(one) for one in refs])
        return tuple(digest for some in missing for digest in some)

    async def run(self, assignment: Assignment) -> AsyncIterator[Message]:
        """Train to the end. What hinders that here is told as the run would tell it."""
        self._over.clear()
        try:
            async with in_thread(RunHome.open(assignment, self._node)) as home:
                async for message in self._train(home, assignment):
                    yield self._unreceived.sent(message)
        except (ClusterError, OSError) as e:
            yield Line(to_line(Failed(hindrance(e), resumable=True)))
            yield Ended(1)
        finally:
            self._over.set()

    async def _train(self, home: RunHome, assignment: Assignment) -> AsyncIterator[Message]:
        keeping = asyncio.create_task(_keep_models(home))
        try:
            async with self._launch(home, assignment) as child:
                self._child = child
                for word in self._words:
                    child.send(word)
                async for event in child.events():
                    for message in await asyncio.to_thread(home.messages, event):
                        yield message
            for message in await asyncio.to_thread(home.results):
                yield message
            yield Ended(child.exit_status or 0)
        finally:
            self._child = None
            keeping.cancel()

    def _launch(
        self, home: RunHome, assignment: Assignment
    ) -> AbstractAsyncContextManager[TrainingChild]:
        keeper = (sys.executable, "-m", "training.cluster.keeper", str(os.getpid()))
        launcher = (*keeper, str(home.folder), sys.executable, *assignment.launcher)
        return TrainingProcess.launch(home.job, launcher, self._log_format)

    async def say(self, words: Sequence[ControlWord]) -> None:
        """Say something to the run, now or once it is there: all so far, of which it hears what is
        new."""
        for word in words[len(self._words) :]:
            self._words.append(word)
            if self._child is not None:
                self._child.send(word)

    async def received(self) -> None:
        """The follower has the files of the first message whose files it had not."""
        self._unreceived.received()

    async def ping(self) -> None:
        """A sign of life."""

    async def kill(self) -> None:
        """End the run at once; return when nothing of it is left."""
        if self._child is not None:
            await self._child.kill()
        await self._over.wait()


def hide_devices() -> None:
    """Without a graphics card of its own, a run must not take those of others on this machine."""
    import ray

    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def hindrance(error: ClusterError | OSError) -> str:
    """The sentence about what hinders a run on this machine."""
    if isinstance(error, ClusterError):
        return message_of(error)
    return phrase(
        "A machine of the cluster could not keep the files of the training ({error}): see that its "
        "disk has room.",
        error=error.strerror or type(error).__name__,
    )


@asynccontextmanager
async def in_thread(opened: AbstractContextManager[RunHome]) -> AsyncIterator[RunHome]:
    """A folder that is made and removed by a thread."""
    home = await asyncio.to_thread(opened.__enter__)
    try:
        yield home
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


async def _keep_models(home: RunHome) -> None:
    while True:
        await asyncio.to_thread(home.keep_models)
        await asyncio.sleep(KEEP_S)
