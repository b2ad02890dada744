"""Which model answers where nobody chose one: it speaks the language of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.chat.model_router import ModelRouter
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from i18n.catalogue import ENGLISH, JAPANESE
from model.registry import embedded_option, model_options
from tests.fakes import FakeWorker

HERE, THERE = 1, 2
"""A server that speaks English, and one that speaks Japanese."""


@pytest.fixture
async def tasks() -> AsyncIterator[BackgroundTasks]:
    async with BackgroundTasks() as tasks:
        yield tasks


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


def router(
    storage: Storage, worker: FakeWorker, tasks: BackgroundTasks, default: str | None = None
) -> ModelRouter:
    return ModelRouter(
        storage.model_choices,
        worker,
        model_options,
        default=default,
        checkpoints=Path("nowhere"),
        tasks=tasks,
        language_of={HERE: ENGLISH, THERE: JAPANESE}.__getitem__,
    )


async def test_the_default_follows_the_language(
    storage: Storage, worker: FakeWorker, tasks: BackgroundTasks
) -> None:
    models = router(storage, worker, tasks)
    assert (await models.active(HERE)).name == "gpt2"
    assert (await models.active(THERE)).name == "tiny-ja"
    serving = await models.serving(THERE, 1)
    assert (serving.option, serving.note) == (embedded_option(JAPANESE), None)


async def test_the_operators_default_is_for_all(
    storage: Storage, worker: FakeWorker, tasks: BackgroundTasks
) -> None:
    models = router(storage, worker, tasks, default="gpt2-medium")
    for scope in (HERE, THERE):
        assert (await models.active(scope)).name == "gpt2-medium"


@pytest.mark.parametrize(("scope", "name"), [(HERE, "tiny"), (THERE, "tiny-ja")])
async def test_what_stands_in_speaks_the_language_too(
    scope: int, name: str, storage: Storage, worker: FakeWorker, tasks: BackgroundTasks
) -> None:
    serving = await router(storage, worker, tasks, default="gpt2").serving(scope, 1)
    assert serving.option.name == name
    assert serving.note == f"gpt2 is loading; {name} answers meanwhile."


async def test_a_first_choice_can_be_taken_back(
    storage: Storage, worker: FakeWorker, tasks: BackgroundTasks
) -> None:
    models = router(storage, worker, tasks)
    await models.use(THERE, "tiny")
    assert (await models.active(THERE)).name == "tiny"
    assert (await models.rollback(THERE)).name == "tiny-ja"
