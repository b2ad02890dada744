"""In Discord, the model that answers where nobody chose one speaks the language of the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.settings import Settings, load_settings
from model.registry import EMBEDDED_FOLDER, EMBEDDED_FOLDER_JA, checkpoint_temperature
from tests.bot.conftest import open_world
from tests.fakes import FakeWorker

JAPANESE_MODEL = str(EMBEDDED_FOLDER_JA)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("DEFAULT_MODEL", raising=False)
    return load_settings(gpt2bot_home=tmp_path, bot_language="en")


async def test_a_japanese_server(settings: Settings, worker: FakeWorker) -> None:
    async with open_world(settings, worker, preferred_locale="ja") as world:
        await world.say(world.ben, "こんにちは")
        assert worker.heard[-1][0] == JAPANESE_MODEL
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == JAPANESE_MODEL


async def test_an_english_server(settings: Settings, worker: FakeWorker) -> None:
    async with open_world(settings, worker) as world:
        await world.say(world.ben, "こんにちは")
        assert worker.heard[-1][0] in ("gpt2", str(EMBEDDED_FOLDER))


async def test_a_direct_message_keeps_its_language(settings: Settings, worker: FakeWorker) -> None:
    async with open_world(settings, worker) as world:
        for text, japanese in (
            ("ok", False),
            ("こんにちは、ボットさん", True),
            ("元気？", True),
            ("ok", True),
            ("hello, how are you?", False),
            ("元気", False),
        ):
            await world.ben.send_dm(text)
            assert (worker.heard[-1][0] == JAPANESE_MODEL) is japanese, text


async def test_where_the_japanese_model_cannot_be_loaded_the_other_one_answers(
    settings: Settings, worker: FakeWorker
) -> None:
    reason = "tiny-ja is set aside: the worker died with it."
    worker.quarantined[JAPANESE_MODEL] = reason
    async with open_world(settings, worker, preferred_locale="ja") as world:
        said = await world.say(world.ben, "こんにちは")
        assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)
        assert said is not None
        assert said.endswith(f"-# {reason} 代わりに tiny が答えます。")


async def test_a_load_that_fails_leaves_the_other_one(
    settings: Settings, worker: FakeWorker
) -> None:
    worker.broken[JAPANESE_MODEL] = "There is not enough memory."
    async with open_world(settings, worker, preferred_locale="ja") as world:
        await world.say(world.ben, "こんにちは")
        await world.say(world.ben, "元気？")
        assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)


@pytest.mark.parametrize(
    ("locale", "setting", "temperature"),
    [("ja", None, 0.4), (None, None, 0.7), ("ja", 0.9, 0.9), (None, 0.0, 0.0)],
)
async def test_each_model_speaks_at_its_own_temperature_unless_the_operator_chose_one(
    locale: str | None,
    setting: float | None,
    temperature: float,
    settings: Settings,
    worker: FakeWorker,
) -> None:
    chosen = settings.model_copy(update={"temperature": setting})
    async with open_world(chosen, worker, preferred_locale=locale) as world:
        await world.say(world.ben, "こんにちは")
        assert worker.asked[-1].temperature == temperature


@pytest.mark.parametrize(
    ("name", "temperature"),
    [("tiny-ja-3", 0.4), ("tiny-ja-3-1", 0.4), ("tiny-3", 0.2), ("my", 0.7)],
)
def test_a_checkpoint_has_the_temperature_of_its_base(name: str, temperature: float) -> None:
    assert checkpoint_temperature(name) == temperature
