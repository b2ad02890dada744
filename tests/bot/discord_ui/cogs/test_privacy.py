"""/privacy in Discord: what each command says and does, and the clean retrain that follows."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.app import build_bot
from bot.discord_ui.cogs.privacy import CLEAN_RETRAIN_POSTPONED, CLEAN_RETRAIN_STARTED, NOTHING_LEFT
from bot.discord_ui.embeds.privacy import (
    ERASURE_QUESTION,
    ERASURE_STARTED,
    ERASURE_UNFINISHED,
    EXPORT_TOO_LARGE,
    EXPORTED,
    PrivacySummary,
    pack_export,
    show_text,
    withdrawn_text,
)
from bot.learning.consent import CHAT_LEARNING_OFF, CONSENT_TEXT, CONSENT_VERSION
from bot.learning.erasure import AffectedScope, Withdrawal
from bot.settings import Settings, load_settings
from core.records import (
    JobState,
    MemberDataSummary,
    Message,
    NewExample,
    ReviewStatus,
    Role,
    StoredMessage,
    TrainingJob,
)
from data.storage.storage import Storage, open_storage
from tests.bot.asking import all_forgotten
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker
from training.jobs.folder import DATASET_FILE
from training.jobs.manager import TrainingLimits
from training.jobs.process import TrainingProcess

Open = Callable[..., AbstractAsyncContextManager[World]]
WORD = "marmalade"


def storage_of(world: World) -> Storage:
    storage = world.bot.get_cog("Privacy")._storage
    assert isinstance(storage, Storage)
    return storage


def manager_of(world: World) -> Any:
    return world.bot.get_cog("Training")._training


@pytest.fixture
def learning(settings: Settings) -> Settings:
    return load_settings(
        gpt2bot_home=settings.gpt2bot_home, default_model="tiny", learn_from_chat=True
    )


@pytest.fixture
async def open_to_learn(learning: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """A bot whose operator switched learning from conversation on."""
    async with open_world(learning, worker) as world:
        yield world


async def say(world: World, number: int, text: str, scope: int | None = None) -> None:
    await storage_of(world).messages.add(
        StoredMessage(
            number,
            world.general.id,
            world.ben.id,
            Message(Role.USER, text),
            datetime.now(UTC),
            scope or world.guild.id,
        )
    )


async def trained(
    world: World, checkpoint: str | None, base: str = "tiny", version: int | None = 1, **on: int
) -> TrainingJob:
    """A job that has ended, or waits, and learns ben's words; its snapshot is on disk."""
    storage = storage_of(world)
    folder = world.home / "jobs" / f"of-{checkpoint}"
    folder.mkdir(parents=True)
    (folder / DATASET_FILE).write_text(f'{{"user": "{WORD}", "bot": "hi"}}\n')
    job = await storage.jobs.add(
        scope=on.get("scope", world.guild.id),
        requested_by=world.ada.id,
        channel_id=on.get("channel", world.general.id),
        base_model=base,
        directory=str(folder),
    )
    await storage.jobs.add_sources(job.id, {world.ben.id: version})
    if checkpoint is None:
        return job
    made = await storage.jobs.set_state(job.id, JobState.PROMOTED, checkpoint=checkpoint)
    make_checkpoint(world, checkpoint, job.scope)
    return made


def snapshots(world: World) -> list[Path]:
    """What is on disk of the data of jobs."""
    return list((world.home / "jobs").iterdir())


def spoil(folder: Path) -> None:
    """Put something in the place of a job's folder that cannot be removed as one."""
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def mend(folder: Path) -> None:
    folder.unlink()


async def forget(world: World) -> str:
    asked = await world.ben.slash(world.general, "privacy forget")
    assert asked.ephemeral
    assert asked.response.content == ERASURE_QUESTION
    done = await world.ben.click(asked.response, label="Forget me")
    return str(done.response.content)


def offers(world: World, channel: Any = None) -> list[discord.Message]:
    """What was asked of the administrators."""
    sent = (channel or world.general).history()
    return [
        one for one in sent if one.author == world.bot.user and "have me retrained" in one.content
    ]


def labels(message: discord.Message) -> list[str]:
    return [button.label for row in message.components for button in row.children]


class TestShow:
    async def test_it_counts_here_and_everywhere(self, world: World) -> None:
        await say(world, 1, WORD)
        await say(world, 2, WORD, scope=77)
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        await trained(world, "tiny-1")
        shown = await world.ben.slash(world.general, "privacy show")
        assert shown.ephemeral
        lines = shown.response.content.splitlines()
        assert "- messages that you wrote: 1 / 2" in lines
        assert "- examples with your words, or that you taught: 1 / 1" in lines
        assert "- training jobs that used your words: 1 / 1" in lines
        assert "Learned your words: **tiny-1**." in lines
        assert "are erased after 30 days" in shown.response.content
        assert "has not switched it on. You have not agreed." in shown.response.content
        assert len(shown.response.content) < 2000

    async def test_a_checkpoint_that_is_gone_is_not_named(self, world: World) -> None:
        shown = await world.ben.slash(world.general, "privacy show")
        assert "No checkpoint of this server is known" in shown.response.content

    async def test_in_private_there_is_no_server(self, world: World) -> None:
        await say(world, 1, WORD, scope=world.ben.id)
        shown = await world.ben.user.slash("privacy show")
        assert "- messages that you wrote: 1 / 1" in shown.response.content
        assert "I do not learn from private conversations." in shown.response.content

    async def test_consent_is_told(self, open_to_learn: World) -> None:
        world = open_to_learn
        await storage_of(world).consents.opt_in(world.guild.id, world.ben.id, CONSENT_VERSION)
        shown = await world.ben.slash(world.general, "privacy show")
        assert "I learn from conversations here, but only with" in shown.response.content
        assert f"You agreed on {datetime.now(UTC):%Y-%m-%d} (ver" in shown.response.content


def being_erased() -> PrivacySummary:
    """What is kept of a member who is being forgotten."""
    none = MemberDataSummary(messages=0, replies=0, examples=0, ratings=0, jobs=0, consent=None)
    return PrivacySummary(
        here=none,
        everywhere=none,
        retention_days=1,
        learn_from_chat=False,
        checkpoints=(),
        erasure_pending=True,
    )


def test_a_forgetting_under_way_is_told() -> None:
    assert "I am still erasing it" in show_text(being_erased())
    assert "after a day" in show_text(being_erased())


class TestExport:
    async def test_it_is_a_file_that_only_the_member_sees(self, world: World) -> None:
        await say(world, 1, WORD)
        for result in (
            await world.ben.slash(world.general, "privacy export"),
            await world.ben.user.slash("privacy export"),
        ):
            assert result.ephemeral
            assert result.response.content == EXPORTED
            [file] = result.response.attachments
            told = json.loads(await file.read())
            assert file.filename == "privacy.json"
            assert told["messages"][0]["content"] == WORD

    def test_what_is_large_is_compressed(self) -> None:
        export = {"messages": ["word " * 1000]}
        assert pack_export(export, 10_000) == (
            "privacy.json",
            json.dumps(export, indent=2).encode(),
        )
        pack = pack_export(export, 1000)
        assert pack is not None
        assert pack[0] == "privacy.zip"
        with zipfile.ZipFile(io.BytesIO(pack[1])) as archive:
            assert json.loads(archive.read("privacy.json")) == export
        assert pack_export(export, 100) is None

    async def test_what_is_too_large_is_a_sentence(self, world: World) -> None:
        noise = random.Random(1).randbytes(27_000_000)  # compressed it is more than SimCord takes
        await say(world, 1, base64.b64encode(noise).decode())
        result = await world.ben.slash(world.general, "privacy export")
        assert result.response.content == EXPORT_TOO_LARGE
        assert result.response.attachments == []


class TestConsent:
    async def test_it_is_refused_where_the_operator_did_not_switch_it_on(
        self, world: World
    ) -> None:
        refused = await world.ben.slash(world.general, "privacy opt-in")
        assert refused.ephemeral
        assert refused.response.content == CHAT_LEARNING_OFF
        assert refused.response.components == []

    async def test_the_text_is_read_before_it_is_agreed_to(self, open_to_learn: World) -> None:
        world = open_to_learn
        asked = await world.ben.slash(world.general, "privacy opt-in")
        assert asked.ephemeral
        assert asked.response.content == CONSENT_TEXT
        assert await storage_of(world).consents.active(world.guild.id, world.ben.id) is None
        agreed = await world.ben.click(asked.response, label="I agree")
        assert agreed.response.content.startswith("Thank you.")
        assert agreed.response.components == []
        consent = await storage_of(world).consents.active(world.guild.id, world.ben.id)
        assert consent is not None
        assert consent.version == CONSENT_VERSION
        again = await world.ben.slash(world.general, "privacy opt-in")
        assert again.response.content.startswith("You have agreed already.")

    async def test_no_is_no(self, open_to_learn: World) -> None:
        world = open_to_learn
        asked = await world.ben.slash(world.general, "privacy opt-in")
        declined = await world.ben.click(asked.response, label="No")
        assert declined.response.content == "Fine: I learn nothing from what you say."
        assert await storage_of(world).consents.history(world.ben.id) == []

    async def test_it_is_given_in_a_server(self, learning: Settings, worker: FakeWorker) -> None:
        async with open_world(learning, worker, check_errors=False) as world:
            result = await world.ben.user.slash("privacy opt-in")
            assert result.response.content.startswith("That only works in a server")


async def collected(world: World, text: str, review: ReviewStatus) -> int:
    example = await storage_of(world).examples.add(
        NewExample(
            world.guild.id,
            text,
            "an answer",
            world.ben.id,
            "chat",
            asked_by=world.ben.id,
            consent_version=1,
            status=review,
        )
    )
    return example.id


class TestOptOut:
    async def test_what_waits_goes_and_the_rest_is_not_learned(self, open_to_learn: World) -> None:
        world, storage = open_to_learn, storage_of(open_to_learn)
        await storage.consents.opt_in(world.guild.id, world.ben.id, 1)
        await collected(world, "waits", ReviewStatus.WAITING)
        await collected(world, "approved", ReviewStatus.APPROVED)
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        await trained(world, "tiny-1")
        await trained(world, "tiny-2", version=None)
        out = await world.ben.slash(world.general, "privacy opt-out")
        assert out.ephemeral
        assert out.response.content == (
            "Withdrawn. I learn nothing more from what you say to me in this server. "
            "1 pair waited for review and are erased. "
            "What was approved before is not learned any more. "
            "What was learned before stays in **tiny-1**, until a new one is trained."
        )
        assert [one.user for one in await storage.examples.all(world.guild.id)] == [
            "approved",
            "hi",
        ]
        assert [one.user for one in await storage.examples.trainable(world.guild.id)] == ["hi"]
        assert offers(world) == []

    async def test_a_training_that_learns_by_it_ends(self, open_to_learn: World) -> None:
        world, storage = open_to_learn, storage_of(open_to_learn)
        manager_of(world)._queue_task.cancel()
        await storage.consents.opt_in(world.guild.id, world.ben.id, 1)
        job = await trained(world, None)
        await world.ben.slash(world.general, "privacy opt-out")
        ended = await storage.jobs.get(job.id)
        assert ended is not None
        assert ended.state is JobState.CANCELLED
        assert not snapshots(world)
        [offer] = offers(world)
        assert offer.content.startswith("I stopped a training job")

    async def test_in_private_it_counts_for_all_servers(self, world: World) -> None:
        storage = storage_of(world)
        await storage.consents.opt_in(world.guild.id, world.ben.id, 1)
        await storage.consents.opt_in(77, world.ben.id, 1)
        out = await world.ben.user.slash("privacy opt-out")
        assert "what you say to me in any server" in out.response.content
        assert all(one.withdrawn_at for one in await storage.consents.history(world.ben.id))
        again = await world.ben.user.slash("privacy opt-out")
        assert again.response.content.startswith("You had not agreed in any server")


class TestForget:
    async def test_cancel_erases_nothing(self, world: World) -> None:
        await say(world, 1, WORD)
        asked = await world.ben.slash(world.general, "privacy forget")
        kept = await world.ben.click(asked.response, label="Cancel")
        assert kept.response.content == "Nothing was erased."
        assert (await storage_of(world).members.summary(world.ben.id)).messages == 1

    async def test_traces_snapshots_and_open_jobs_go(
        self, world: World, worker: FakeWorker
    ) -> None:
        storage = storage_of(world)
        manager_of(world)._queue_task.cancel()
        await say(world, 1, WORD)
        await world.ben.slash(world.general, "teach", user=WORD, bot="hello")
        await trained(world, "tiny-1")
        waiting = await trained(world, None)
        worker.prefetch("tiny", [Message(Role.USER, WORD)], world.general.id)
        text = await forget(world)
        assert worker.prepared == {}
        assert text.startswith("Done: what I kept about you is gone")
        assert f"In {world.guild.name}, **tiny-1** learned from you." in text
        traces = await storage.members.summary(world.ben.id)
        assert (traces.messages, traces.examples, traces.jobs) == (0, 0, 0)
        assert not snapshots(world)
        ended = await storage.jobs.get(waiting.id)
        assert ended is not None
        assert ended.state is JobState.CANCELLED
        assert await storage.erasures.unfinished() == []

    async def test_each_server_is_asked_without_words_or_names(self, world: World) -> None:
        other = world.env.create_guild()
        room = other.create_text_channel("there")
        await trained(world, "tiny-1")
        await trained(world, "tiny-9", scope=other.id, channel=room.id)
        make_checkpoint(world, "tiny-1-1", parents=["tiny-1"])
        await forget(world)
        [here], [there] = offers(world), offers(world, room)
        assert labels(here) == labels(there) == ["Retrain without it", "Not now"]
        assert "**tiny-1** and **tiny-1-1** learned" in here.content
        assert "**tiny-9**" in there.content
        for message in (here, there):
            assert "ben" not in message.content
            assert str(world.ben.id) not in message.content
            assert WORD not in message.content

    async def test_nobody_is_asked_where_nothing_was_learned(self, world: World) -> None:
        await say(world, 1, WORD)
        text = await forget(world)
        assert "learned from you" not in text
        assert offers(world) == []

    async def test_where_it_may_not_write_there_is_the_system_channel(self, world: World) -> None:
        await trained(world, "tiny-1", channel=4040)
        system = world.guild.create_text_channel("system")
        await world.bot.get_guild(world.guild.id).edit(
            system_channel=world.bot.get_channel(system.id)
        )
        await forget(world)
        assert len(offers(world, system)) == 1

    async def test_where_it_may_write_nowhere_it_is_still_forgotten(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        await trained(world, "tiny-1", channel=4040)
        assert (await forget(world)).startswith("Done")
        assert "could not be asked for a clean retrain" in caplog.text

    async def test_an_end_that_comes_too_late_is_no_error(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        asked = await world.ben.slash(world.general, "privacy forget")
        world.env.inject_error(
            "PATCH", "/webhooks/*/messages/@original", status=401, code=50027, times=None
        )
        done = await world.ben.click(asked.response, label="Forget me")
        assert done.response.content == ERASURE_STARTED
        assert "15 minutes" in ERASURE_STARTED
        assert "came too late to be shown" in caplog.text

    async def test_what_cannot_be_removed_is_tried_again(self, world: World) -> None:
        job = await trained(world, "tiny-1")
        spoil(Path(job.directory))
        text = await forget(world)
        assert text.startswith("The data of training job 1 could not be removed")
        assert text.endswith(ERASURE_UNFINISHED)
        storage = storage_of(world)
        assert await storage.erasures.unfinished() == [world.ben.id]
        assert offers(world) == []
        mend(Path(job.directory))
        await world.bot.get_cog("Privacy")._erasure.resume_pending()
        assert await storage.erasures.unfinished() == []
        assert await storage.jobs.with_member(world.ben.id) == []
        assert len(offers(world)) == 1

    async def test_a_training_under_way_is_ended_first(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage, manager = storage_of(world), manager_of(world)
        scripted = Path(__file__).parents[3] / "training" / "jobs" / "scripted_run.py"
        launch = partial(TrainingProcess.launch, launcher=(sys.executable, str(scripted)))
        monkeypatch.setattr(manager, "_limits", TrainingLimits(launch=launch))
        (world.home / "script.txt").write_text("endless")
        await world.ben.slash(world.general, "teach", user=WORD, bot=WORD)
        plan = await world.ada.slash(world.general, "retrain")
        await world.ada.click(plan.response, label="Start")
        [job] = await storage.jobs.unfinished()
        await manager._queue.wait_until(job.id, lambda one: one.state is JobState.RUNNING)
        assert (await forget(world)).startswith("Done")
        ended = await manager.wait(job.id)
        assert (ended.state, ended.checkpoint) == (JobState.CANCELLED, None)
        assert not snapshots(world)
        [offer] = offers(world)
        assert offer.content.startswith("I stopped a training job")

    async def test_who_reads_the_database_delays_the_end(self, world: World) -> None:
        await say(world, 1, WORD)
        async with open_storage(world.home / "gpt2bot.sqlite3") as reader:
            await reader._db.execute("BEGIN")
            await reader.messages.context(world.general.id, 1)
            text = await forget(world)
            assert text.startswith("Done")
            assert text.endswith(ERASURE_UNFINISHED)
            shown = await world.ben.slash(world.general, "privacy show")
            assert "I am still erasing it" in shown.response.content
            await reader._db.execute("COMMIT")

    async def test_it_goes_on_at_the_next_start(
        self, world: World, settings: Settings, worker: FakeWorker
    ) -> None:
        await say(world, 1, WORD)
        await trained(world, "tiny-1")
        await storage_of(world).erasures.begin(world.ben.id)
        async with build_bot(settings, worker=worker) as again:
            await world.env.restart_bot(again)
            world.bot = again
            storage = storage_of(world)
            await all_forgotten(storage)
            assert (await storage.members.summary(world.ben.id)).messages == 0
            assert await storage.jobs.with_member(world.ben.id) == []
            assert len(offers(world)) == 1


class TestCleanRetrain:
    async def test_an_administrator_starts_it(self, world: World) -> None:
        storage = storage_of(world)
        manager_of(world)._queue_task.cancel()
        await world.ada.slash(world.general, "teach", user="hi", bot="hello")
        await world.ben.slash(world.general, "teach", user=WORD, bot=WORD)
        await trained(world, "tiny-1")
        await trained(world, "tiny-1-1", base="tiny-1")
        await forget(world)
        [offer] = offers(world)
        started = await world.ada.click(offer, label="Retrain without it")
        assert started.ephemeral
        assert started.response.content.startswith(CLEAN_RETRAIN_STARTED)
        [job] = await storage.jobs.unfinished(world.guild.id)
        assert (job.base_model, job.requested_by) == ("tiny", world.ada.id)
        config = json.loads((Path(job.directory) / "config.json").read_text())
        assert (config["base_name"], config["parents"], config["epochs"]) == ("tiny", [], 100)
        assert config["clean"], "it is never on trial"
        assert (
            Path(job.directory) / DATASET_FILE
        ).read_text() == '{"user": "hi", "bot": "hello"}\n'
        [offer] = offers(world)
        assert labels(offer) == []
        assert offer.content.endswith(f"-# {CLEAN_RETRAIN_STARTED}")

    async def test_nobody_else_may_press(self, open_fake: Open) -> None:
        async with open_fake(check_errors=False) as world:
            await trained(world, "tiny-1")
            await forget(world)
            for label in ("Retrain without it", "Not now"):
                refused = await world.ben.click(offers(world)[0], label=label)
                assert refused.ephemeral
                assert refused.response.content == "You need the permission Administrator for that."
            assert labels(offers(world)[0]) == ["Retrain without it", "Not now"]

    async def test_not_now(self, world: World) -> None:
        await trained(world, "tiny-1")
        await forget(world)
        later = await world.ada.click(offers(world)[0], label="Not now")
        assert later.response.content == CLEAN_RETRAIN_POSTPONED
        assert labels(offers(world)[0]) == []
        assert await storage_of(world).jobs.unfinished() == []

    async def test_nothing_may_be_left_to_learn(self, world: World) -> None:
        await world.ben.slash(world.general, "teach", user=WORD, bot=WORD)
        await trained(world, "tiny-1")
        await forget(world)
        nothing = await world.ada.click(offers(world)[0], label="Retrain without it")
        assert nothing.response.content == NOTHING_LEFT
        assert labels(offers(world)[0]) == ["Retrain without it", "Not now"]

    async def test_it_follows_the_checkpoint_in_service(self, world: World) -> None:
        manager_of(world)._queue_task.cancel()
        await world.ada.slash(world.general, "teach", user="hi", bot="hello")
        await trained(world, "gpt2-1", base="gpt2")
        await trained(world, "tiny-1")
        await world.ada.slash(world.general, "model use", name="gpt2-1")
        await forget(world)
        await world.ada.click(offers(world)[0], label="Retrain without it")
        [job] = await storage_of(world).jobs.unfinished(world.guild.id)
        assert job.base_model == "gpt2"

    async def test_the_buttons_work_after_a_restart(
        self, world: World, settings: Settings, worker: FakeWorker
    ) -> None:
        await world.ada.slash(world.general, "teach", user="hi", bot="hello")
        await trained(world, "tiny-1")
        await forget(world)
        async with build_bot(settings, worker=worker) as again:
            await world.env.restart_bot(again)
            world.bot = again
            manager_of(world)._queue_task.cancel()
            started = await world.ada.click(offers(world)[0], label="Retrain without it")
            assert started.response.content.startswith(CLEAN_RETRAIN_STARTED)
            assert len(await storage_of(world).jobs.unfinished(world.guild.id)) == 1


def test_an_opt_out_of_nothing_says_so() -> None:
    nothing = Withdrawal(was_given=False, erased=0, affected_scopes=[])
    assert withdrawn_text(nothing, "here") == (
        "You had not agreed here, so there is nothing to withdraw."
    )
    learned = Withdrawal(True, 2, [AffectedScope(1, ("a", "b"), 1)])
    assert "2 pairs waited" in withdrawn_text(learned, "here")
    assert "stays in **a** and **b**" in withdrawn_text(learned, "here")
