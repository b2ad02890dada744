"""A run that several devices share, on one machine or more: in Ray Train.

Ray Train starts one process for each device and lets them know of each other; each runs
`training.run` on the same files, as `accelerate launch` would have it. The first one tells the
events, and sends the files. All report each saved step to Ray Train, which waits for all.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from core.logging import LogFormat
from model.cluster.messages import ModelRef
from model.cluster.versions import node_folder
from training.cluster.home import RunHome
from training.cluster.messages import Assignment, Ended, Line, Message, require_same_build
from training.cluster.unreceived import Unreceived
from training.jobs.events import Event, Failed, Lost, Saved, to_line
from training.jobs.folder import LOG_FILE
from training.jobs.launch import ControlWord

RAY_TRAIN = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""How Ray Train works: a report waits until the one before was seen, and the end of a run until it
was seen, which Ray Train looks for every two seconds. Whoever drains a node is not waited for, and
needs no process that looks out for that."""


class RankedTrainer:
    """The actor that has a run shared by `devices` processes, each with `cpus` processors and
    `gpus` graphics cards. It serves one follower, as `training.cluster.trainer.Trainer` does."""

    def __init__(
        self, devices: int, cpus: float, gpus: float, log_format: LogFormat, cache: str | None
    ) -> None:
        self._resources = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
        self._devices = devices
        self._cache = cache
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._words: list[ControlWord] = []
        self._unreceived = Unreceived()
        self._spoken = asyncio.Condition()
        self._over = asyncio.Event()
        self._failed = False

    async def begin(self, build: str, refs: tuple[ModelRef, ...]) -> tuple[str, ...]:
        """The parcels that any of the machines may lack: all. Raises ClusterError: another version
        of the bot is installed here."""
        require_same_build(build)
        return tuple(digest for one in refs for digest in _digests(one))

    async def run(self, assignment: Assignment) -> AsyncIterator[Message]:
        """Train to the end. The files that were sent can be fetched until `kill`."""
        import ray

        me = ray.get_runtime_context().current_actor
        fitting = asyncio.create_task(asyncio.to_thread(self._fit, me, assignment))
        while not fitting.done() or not self._messages.empty():
            getting = asyncio.create_task(self._messages.get())
            await asyncio.wait({fitting, getting}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield self._unreceived.sent(getting.result())
            else:
                getting.cancel()
        if fitting.exception() is not None:
            if not self._failed:
                yield Line(to_line(Lost()))
            yield Ended(1)

    def _fit(self, me: Any, assignment: Assignment) -> None:
        os.environ |= RAY_TRAIN
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        gpu = "GPU" in self._resources
        storage = node_folder(self._cache) / "ray_train"  # Ray Train wants one, and keeps nothing
        TorchTrainer(
            train_rank,
            train_loop_config={"owner": me, "assignment": assignment, "cache": self._cache},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=self._devices, use_gpu=gpu, resources_per_worker=self._resources
            ),
            run_config=RunConfig(
                name=assignment.name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=0),  # the bot has it go on elsewhere
            ),
        ).fit()

    async def tell(self, messages: Sequence[Message]) -> None:
        """Pass on what a process of the run has to say."""
        for one in messages:
            self._messages.put_nowait(one)

    async def fail(self, event: Failed) -> None:
        """Pass on why a process of the run failed; the others then fail because of it."""
        if not self._failed:
            self._failed = True
            self._messages.put_nowait(Line(to_line(event)))

    async def say(self, words: Sequence[ControlWord]) -> None:
        """Say something to the run, now or once it is there: all so far, of which it hears what is
        new."""
        async with self._spoken:
            self._words += words[len(self._words) :]
            self._spoken.notify_all()

    async def words(self, after: int) -> list[ControlWord]:
        """What is said after the first `after` words, once there is something."""
        async with self._spoken:
            await self._spoken.wait_for(lambda: len(self._words) > after)
            return self._words[after:]

    async def received(self) -> None:
        """The follower has the files of the first message whose files it had not."""
        self._unreceived.received()

    async def ping(self) -> None:
        """A sign of life."""

    async def kill(self) -> None:
        """All has been received, or is not wanted: what is left of the run may end."""
        self._over.set()

    async def over(self) -> None:
        """Return after `kill`."""
        await self._over.wait()


def _digests(ref: ModelRef) -> tuple[str, ...]:
    base = _digests(ref.base) if ref.base else ()
    return base if ref.digest is None else (*base, ref.digest)


def train_rank(given: dict[str, Any]) -> None:
    """One process of the run, in a worker of Ray Train."""
    import ray
    from ray import train

    from training.run.failure import failure_event
    from training.run.loop import Control
    from training.run.train import train as train_job

    owner, first = given["owner"], train.get_context().get_world_rank() == 0
    control = Control()
    with RunHome.open(given["assignment"], node_folder(given["cache"])) as home:

        def emit(event: Event) -> None:
            if isinstance(event, Saved):
                train.report({"step": event.step})
            if first:
                ray.get(owner.tell.remote(home.messages(event)))

        if first:
            threading.Thread(target=_listen, args=(owner, control), daemon=True).start()
        try:
            train_job(home.job, emit, control)
        except BaseException as e:
            _log_error(home.job)
            ray.get(owner.fail.remote(failure_event(e, home.job)))
            raise
        if first:
            ray.get(owner.tell.remote([*home.results(), Ended(0)]))
            ray.get(owner.over.remote())  # what was sent lies in this process until then


def _listen(owner: Any, control: Any) -> None:
    """Hear what is said to the run, until the actor is gone."""
    import ray

    heard = 0
    while True:
        try:
            words = ray.get(owner.words.remote(heard))
        except ray.exceptions.RayError:
            return
        heard += len(words)
        for word in words:
            control.receive(word)


def _log_error(job: Path) -> None:
    with (job / LOG_FILE).open("a", encoding="utf-8") as log:
        traceback.print_exc(file=log)
