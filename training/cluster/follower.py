"""The follower of a run: has a machine of a cluster train, and keeps the job's folder up to date.

Where it stands it tells the same events as the run, hears the same words, and ends with the same
exit status; the files of the run are in the folder when it tells of them. Knows the actor that
trains, and Ray's errors. Imports no torch.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.cluster.connection import NO_RAY, Cluster, ClusterError, connect, is_installed
from core.cluster.membership import Membership
from core.cluster.parcels import Shipment, unpack
from training.cluster.arrivals import place_base, place_results, place_step
from training.cluster.messages import (
    Ended,
    Line,
    Logged,
    Message,
    NewBase,
    Results,
    SavedStep,
    build_id,
)
from training.cluster.outgoing import Outgoing
from training.cluster.supervisor import REACH_S
from training.cluster.unreceived import WITH_FILES
from training.config import TrainingConfig
from training.jobs.events import (
    Event,
    Finished,
    Lost,
    Lowered,
    Paused,
    Rejected,
    Waiting,
    from_line,
)
from training.jobs.folder import CHECKPOINT_DIR, CONFIG_FILE, latest_saved_step
from training.jobs.process import LOG_FORMAT_VARIABLE

log = logging.getLogger(__name__)

RETRY_S = 5.0
PATIENCE_S = 5.0
"""After how long it is told that the run waits for room."""
QUIET_S = 60.0
"""After how long without a word the machine that trains is asked whether it is there."""
ANSWER_S = 60.0
"""How long it may take to answer: it is busy."""
FORGOTTEN_S = 20.0
"""After how long a run that waits is no longer known to the cluster: its head may be busy."""
KILL_S = 3.0
"""How long the machine may take to end the run and remove what it left."""
END_S = 4.0
"""How long this process may take for its own end: a kill leaves it no longer than
`training.jobs.process.KILL_TIMEOUT_S`."""


class LeftError(Exception):
    """The run was asked to pause before it had begun."""


class ForgottenError(Exception):
    """The head has restarted before the run had begun, and does not know of it: another process has
    to ask again."""


@dataclass(slots=True)
class Words:
    """What the bot says to the run, through stdin. Before a machine has taken the run there is
    nobody to listen: `pause` then means that nothing is to begin.

    Each time all is said that was said so far: calls of an actor may overtake each other."""

    left: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _said: list[str] = field(default_factory=list)
    _say: Callable[[list[str]], object] | None = None

    def listen(self) -> None:
        """Read stdin to its end."""
        for line in sys.stdin:
            self.pass_on(line.strip())

    def pass_on(self, word: str) -> None:
        with self._lock:
            if self._say is None and word == "pause":
                self.left.set()
                return
            self._said.append(word)
            if self._say is not None:
                self._say(list(self._said))

    def connect(self, say: Callable[[list[str]], object]) -> None:
        """From now on there is somebody to listen. Raises LeftError: it is too late."""
        with self._lock:
            if self.left.is_set():
                raise LeftError
            if self._said:
                say(list(self._said))
            self._say = say


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerOptions:
    """Where and how to train. A run takes up to `cpus` processors, by what its settings and the
    largest machine allow, and a graphics card if the cluster has any; `devices` processes share it.
    `cache` is a folder on each machine (None: the user's cache). `launcher` are arguments
    of Python there, before those that run `training.run`. It waits for a cluster that is away for
    `reach_s` seconds, for a word of the machine that trains for `quiet_s` before it asks, and for
    its answer for `answer_s` before it is given up."""

    address: str
    launcher: tuple[str, ...] = ()
    cpus: float = 4.0
    devices: int = 1
    cache: str | None = None
    reach_s: float = REACH_S
    quiet_s: float = QUIET_S
    answer_s: float = ANSWER_S


class Follower:
    """Follows the run of a job's folder. `tell` passes an event to the bot."""

    def __init__(
        self, job: Path, options: FollowerOptions, words: Words, tell: Callable[[Event], None]
    ) -> None:
        self._job = job
        self._options = options
        self._words = words
        self._tell = tell
        self._actor: Any = None
        self._begun = self._told_waiting = False

    def follow(self) -> int:
        """Have the job done; returns the exit status of the run.

        Raises:
            ClusterError: the cluster cannot be used; the sentence says why.
            TrainingError: the job cannot be sent.
            ForgottenError: this process cannot have it done any more, but another one may.
        """
        try:
            return self._follow()
        except LeftError:
            saved = latest_saved_step(self._job)
            self._tell(Paused(saved.step if saved else 0))
            return 0
        finally:
            self._end()

    def _follow(self) -> int:
        if not is_installed():
            raise ClusterError(NO_RAY)
        outgoing = Outgoing.describe(self._job)
        cluster = self._reach()
        import ray

        try:
            self._actor = self._start(cluster, outgoing.config.threads)
            missing = self._when_begun(self._actor.begin.remote(build_id(), outgoing.refs))
            self._words.connect(self._actor.say.remote)
            return self._receive_all(outgoing.send(self._options.launcher, missing))
        except ray.exceptions.OutOfMemoryError:
            return -signal.SIGKILL  # as without a cluster: it goes on with less
        except (ray.exceptions.RayError, ClusterError) as e:
            raise_unless_lost(e)
            log.warning("the machine that trained was lost: %s", e)
            self._tell(Lost())
            return 1

    def _reach(self) -> Cluster:
        """Connect to the cluster; wait a while for one that is away."""
        deadline = time.monotonic() + self._options.reach_s
        while True:
            try:
                return connect(self._options.address)
            except ClusterError as e:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s", e)
            self._tell_waiting()
            if self._words.left.wait(RETRY_S):
                raise LeftError

    def _start(self, cluster: Cluster, threads: int | None) -> Any:
        """The actor; it waits in Ray's own queue until a machine has room."""
        import ray

        from training.cluster.ranks import RankedTrainer
        from training.cluster.trainer import Trainer

        options, gpus = self._options, 1 if cluster.gpus else 0
        most = max(one["Resources"].get("CPU", 0.0) for one in ray.nodes() if one["Alive"])
        cpus = min(options.cpus, threads or options.cpus, max(1.0, most))
        shared = (os.environ.get(LOG_FORMAT_VARIABLE, "text"), options.cache)
        if options.devices > 1:
            ranked: Any = ray.remote(RankedTrainer).options(max_restarts=0, num_cpus=0)
            return ranked.remote(options.devices, cpus, gpus, *shared)
        actor: Any = ray.remote(Trainer)
        return actor.options(max_restarts=0, num_cpus=cpus, num_gpus=gpus).remote(*shared)

    def _when_begun(self, begun: Any) -> tuple[str, ...]:
        """The answer of the machine that took the run, whenever there is one."""
        import ray

        patience = time.monotonic() + PATIENCE_S
        with Membership() as membership:
            while not ray.wait([begun], timeout=0.5)[0]:
                if self._words.left.is_set():
                    raise LeftError
                if membership.unknown_s > FORGOTTEN_S:
                    raise ForgottenError
                if time.monotonic() > patience:
                    self._tell_waiting()
        missing: tuple[str, ...] = ray.get(begun)
        self._begun = True
        return missing

    def _tell_waiting(self) -> None:
        if not self._told_waiting:
            self._told_waiting = True
            self._tell(Waiting())

    def _receive_all(self, assignment: Any) -> int:
        import ray

        answers = self._actor.run.options(num_returns="streaming").remote(assignment)
        while True:
            heard, _ = ray.wait([answers], timeout=self._options.quiet_s)
            if not heard:  # Ray itself may wait for ever
                ray.get(self._actor.ping.remote(), timeout=self._options.answer_s)
                continue
            if (answer := next(answers, None)) is None:
                return 1  # it always says how it ended
            message: Message = ray.get(answer, timeout=self._options.answer_s)
            if isinstance(message, Ended):
                return message.status
            self._receive(message)
            if isinstance(message, WITH_FILES):
                self._actor.received.remote()

    def _receive(self, message: Message) -> None:
        match message:
            case Line(text):
                self._tell_line(text)
            case Logged(text):
                sys.stderr.write(text)  # the log of the job
                sys.stderr.flush()
            case SavedStep(step):
                place_step(self._job, step.parcel.name, unpacked(step))
            case NewBase(base):
                place_base(base.parcel.name, self._config(), unpacked(base))
            case Results(files, gone):
                place_results(self._job, self._config(), gone, unpacked(files))

    def _tell_line(self, line: str) -> None:
        """Tell an event of the run as one of this machine."""
        event = from_line(line)
        match event:
            case None:
                return
            case Lowered():
                smaller = replace(
                    self._config(),
                    batch_size=event.batch_size,
                    gradient_accumulation=event.gradient_accumulation,
                )
                smaller.save(self._job / CONFIG_FILE)
            case Finished() | Rejected():
                event = replace(event, checkpoint=str(self._job / CHECKPOINT_DIR))
        self._tell(event)

    def _config(self) -> TrainingConfig:
        return TrainingConfig.load(self._job / CONFIG_FILE)

    def _end(self) -> None:
        """Let nothing of the run go on; the machine removes its folder. Ray may wait for ever for a
        cluster that is gone, and ends the actor with this process."""
        if self._actor is not None:
            ending = threading.Thread(target=self._kill_actor, daemon=True)
            ending.start()
            ending.join(END_S)

    def _kill_actor(self) -> None:
        import ray

        with suppress(ray.exceptions.RayError):
            if self._begun:
                ray.wait([self._actor.kill.remote()], timeout=KILL_S)
            ray.kill(self._actor)


def raise_unless_lost(error: Exception) -> None:
    """Raise an error that would come again on another machine."""
    import ray

    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        raise cause if isinstance(cause, ClusterError) else error
    if isinstance(error, ClusterError) and not isinstance(
        error.__cause__,
        ray.exceptions.ObjectLostError
        | ray.exceptions.RayActorError
        | ray.exceptions.GetTimeoutError,
    ):
        raise error


def unpacked(shipment: Shipment) -> Callable[[Path], None]:
    return lambda folder: unpack(shipment.parcel, shipment.fetch(), folder)
