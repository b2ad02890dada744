"""The dispatcher inside the worker: what is resident, what waits, how it ends."""

from __future__ import annotations

import multiprocessing
import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.engine.engine import MB
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.main import Worker
from model.worker.messages import (
    Abort,
    DropCaches,
    Failed,
    Finished,
    Generate,
    LoadModel,
    ModelLoaded,
    ModelUnloaded,
    Prefetch,
    Render,
    Rendered,
    Shutdown,
    WorkerEvent,
    WorkerEvents,
)
from model.worker.running_models import RunningModels
from tests.builds import BUILT
from tests.model.conftest import CPU, HELLO, load
from tests.model_folders import make_model_folder

PARAMS = SamplingParams(temperature=0)
SETTINGS = WorkerSettings(threads=1, precision="fp32")


class Pipe:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[WorkerEvent] = []

    def send(self, reports: WorkerEvents) -> None:
        self.sent += reports


class Inside:
    """A worker without a process around it; `embedded` is resident."""

    def __init__(self, folders: Path, settings: WorkerSettings = SETTINGS) -> None:
        self.folders = folders
        self.pipe = Pipe()
        self.commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.worker = Worker(
            self.pipe,  # type: ignore[arg-type]
            RunningModels(multiprocessing.get_context("spawn"), settings.max_sequences),
            self.commands,
            CPU,
            settings,
            embedded=str(folders / "embedded"),
            folder=BUILT,
        )
        self.worker.engine.install(load(folders / "embedded"))

    def handle(self, *commands: Any) -> None:
        for command in commands:
            self.worker.handle(command)

    def loaded(self) -> None:
        """Wait for a loading thread."""
        self.worker.handle(self.commands.get(timeout=60))

    def generate(self, number: int, name: str) -> Generate:
        return Generate(number, str(self.folders / name), tuple(HELLO), PARAMS)

    def run(self) -> None:
        while self.worker.engine.has_work:
            self.worker.engine.step()

    @property
    def resident(self) -> list[str]:
        return [Path(source).name for source in self.worker.engine.sources]


@pytest.fixture
def inside(folders: Path) -> Inside:
    return Inside(folders)


def test_dropping_the_caches_frees_what_conversations_left(inside: Inside) -> None:
    """Both what a reply read and what was read ahead for the next one."""
    for channel in (7, 8):
        inside.handle(replace(inside.generate(channel, "embedded"), channel=channel))
        inside.run()
        inside.handle(Prefetch(str(inside.folders / "embedded"), tuple(HELLO), channel))
    inside.worker.engine.step()
    assert inside.worker.engine.cache_bytes > 0
    inside.handle(DropCaches())
    assert inside.worker.engine.cache_bytes == 0
    assert not inside.worker.engine.has_work


@pytest.fixture
def narrow(folders: Path) -> Inside:
    """There is memory for two of the models."""
    sizes = [load(folders / one).runner.weight_bytes for one in ("embedded", "red", "plain")]
    two = (sum(sizes) - min(sizes)) / MB
    return Inside(folders, replace(SETTINGS, memory_mb=two))


def test_the_least_recently_used_goes_first_and_never_the_embedded(narrow: Inside) -> None:
    inside = narrow
    inside.handle(LoadModel(1, str(inside.folders / "red")))
    inside.loaded()
    assert inside.resident == ["embedded", "red"]
    inside.handle(LoadModel(2, str(inside.folders / "plain")))
    inside.loaded()
    assert inside.resident == ["embedded", "plain"]
    assert ModelUnloaded(str(inside.folders / "red")) in inside.pipe.sent


def test_a_model_whose_reply_is_under_way_stays(narrow: Inside) -> None:
    inside = narrow
    inside.handle(inside.generate(1, "red"))
    inside.loaded()
    inside.worker.engine.step()
    inside.handle(LoadModel(2, str(inside.folders / "plain")))
    inside.loaded()
    assert inside.resident == ["embedded", "red", "plain"]
    inside.run()
    assert any(isinstance(one, Finished) for one in inside.pipe.sent)


def test_requests_wait_for_one_load_of_their_model(inside: Inside) -> None:
    red = str(inside.folders / "red")
    inside.handle(
        inside.generate(1, "red"),
        Render(2, red, tuple(HELLO), 20),
        LoadModel(3, red),
        inside.generate(4, "red"),
        Abort(4),
    )
    inside.loaded()
    inside.run()
    assert inside.commands.empty()
    kinds = {type(one): one for one in inside.pipe.sent}
    assert set(kinds) >= {Finished, Rendered, ModelLoaded}
    assert 4 not in {getattr(one, "request_id", None) for one in inside.pipe.sent}


def test_every_request_for_a_broken_model_is_told(inside: Inside) -> None:
    inside.handle(inside.generate(1, "nowhere"), LoadModel(2, str(inside.folders / "nowhere")))
    inside.loaded()
    reason = "There is no model folder nowhere."
    assert inside.pipe.sent == [
        Failed(1, reason, during_load=True),
        Failed(2, reason, during_load=True),
    ]


def test_a_request_without_messages_fails_alone(inside: Inside) -> None:
    source = str(inside.folders / "embedded")
    inside.handle(Render(1, source, (), 20), Generate(2, source, (), PARAMS))
    reasons = [one.reason for one in inside.pipe.sent if isinstance(one, Failed)]
    assert reasons == 2 * ["That cannot be answered: a prompt needs at least one message."]


def test_a_template_that_refuses_a_conversation_fails_that_request(tmp_path: Path) -> None:
    template = make_model_folder(tmp_path / "embedded") / "chat_template.jinja"
    template.write_text(
        "{% if 'hello' in messages[-1].content %}{{ raise_exception('no greetings') }}{% endif %}"
        "{{ messages[-1].content }}<|bot|>"
    )
    inside = Inside(tmp_path)
    inside.handle(Generate(1, str(tmp_path / "embedded"), tuple(HELLO), PARAMS))
    [failed] = inside.pipe.sent
    assert isinstance(failed, Failed)
    assert "no greetings" in failed.reason


def test_a_shutdown_finishes_what_runs_and_takes_nothing_new(inside: Inside) -> None:
    for command in (
        inside.generate(1, "embedded"),
        Shutdown(60),
        inside.generate(2, "embedded"),
    ):
        inside.commands.put(command)
    inside.worker.run()
    kinds = {one.request_id: type(one) for one in inside.pipe.sent if hasattr(one, "request_id")}
    assert kinds == {1: Finished, 2: Failed}


def test_a_shutdown_without_time_ends_at_once(inside: Inside) -> None:
    inside.commands.put(inside.generate(1, "embedded"))
    inside.commands.put(Shutdown(0))
    inside.worker.run()
    assert not any(isinstance(one, Finished) for one in inside.pipe.sent)
