"""What a job freezes of votes and better answers, and whom it names for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.records import NewExample
from data.dataset.preferences import MIN_ROWS, PreferenceCounts, read_preferences
from data.storage.erasure import erase_member
from data.storage.storage import Storage
from tests.data.storage.records import ADA, BEN, BOT, CLEO, GUILD, made, said
from training.config import TrainingConfig
from training.jobs.folder import (
    CONFIG_FILE,
    CONSENT_FILE,
    PREFERENCES_FILE,
    TAUGHT_CONSENT_FILE,
)
from training.jobs.snapshot import MayStillSay, Snapshot, Snapshots

CONFIG = TrainingConfig(name="small", base="small")


async def say_all(scope: int) -> Callable[[str], bool]:
    return lambda text: True


async def judge(storage: Storage, count: int = MIN_ROWS) -> None:
    """Ben asked so often and agreed that it is learned; Ada likes every second reply. Cleo taught
    something, so that there is a data set at all, and a better answer."""
    await storage.consents.opt_in(GUILD, BEN, 1)
    await storage.examples.add(NewExample(GUILD, "who are you?", "a bot", CLEO, "teach"))
    for n in range(count):
        asked_id, reply_id = 2 * n + 1, 2 * n + 2
        text, reply = f"is {n} even?", f"perhaps {n} is"
        await storage.messages.add(said(asked_id, text, BEN))
        at = datetime.now(UTC) - timedelta(minutes=1)
        await storage.replies.add(made(reply_id, asked_id, BEN, at=at))
        await storage.messages.add(said(reply_id, reply, BOT), reply_to_id=asked_id)
        collected = {"asked_by": BEN, "reply_id": reply_id, "consent_version": 1}
        await storage.examples.add(NewExample(GUILD, text, reply, BEN, "chat", **collected))  # type: ignore[arg-type]
        await storage.replies.rate(GUILD, reply_id, ADA, 1 if n % 2 else -1)


def snapshots(storage: Storage, root: Path, may_say: MayStillSay | None = say_all) -> Snapshots:
    return Snapshots(storage, root / "jobs", root / "checkpoints", 0.5, (), may_say)


async def taken(storage: Storage, root: Path, may_say: MayStillSay | None = say_all) -> Snapshot:
    return await snapshots(storage, root, may_say).take(GUILD, "small", CONFIG)


def frozen(snapshot: Snapshot) -> tuple[int, PreferenceCounts | None]:
    """The rows in the folder, and what its settings say of them."""
    config = TrainingConfig.load(snapshot.folder / CONFIG_FILE)
    return len(read_preferences(snapshot.folder / PREFERENCES_FILE)), config.preferences


async def test_votes_are_frozen_with_whose_words_and_votes_they_are(
    storage: Storage, tmp_path: Path
) -> None:
    await judge(storage)
    snapshot = await taken(storage, tmp_path)
    counts = PreferenceCounts(votes=MIN_ROWS, people=1, rows=MIN_ROWS)
    assert frozen(snapshot) == (MIN_ROWS, counts)
    assert snapshot.sources == {ADA: None, BEN: 1, CLEO: None}
    assert '"7": null' in (snapshot.folder / CONSENT_FILE).read_text()
    taught_by = json.loads((snapshot.folder / TAUGHT_CONSENT_FILE).read_text())
    assert taught_by == {str(BEN): 1, str(CLEO): None}
    assert await snapshots(storage, tmp_path).is_still_permitted(snapshot)


async def test_too_few_votes_or_the_switch_off_leave_a_job_as_it_always_was(
    storage: Storage, tmp_path: Path
) -> None:
    await judge(storage, MIN_ROWS - 1)
    for snapshot in (
        await taken(storage, tmp_path),
        await taken(storage, tmp_path, None),
    ):
        assert frozen(snapshot) == (0, None)
        assert not (snapshot.folder / PREFERENCES_FILE).exists()
        assert ADA not in snapshot.sources
    kept = await storage.examples.trainable(GUILD)
    found = await snapshots(storage, tmp_path).judged(GUILD, kept)
    assert found is not None
    assert not found.counts.suffice
    assert await snapshots(storage, tmp_path, None).judged(GUILD, kept) is None


async def test_what_a_filter_withholds_today_is_not_good(storage: Storage, tmp_path: Path) -> None:
    await judge(storage)

    async def say_nothing(scope: int) -> Callable[[str], bool]:
        return lambda text: False

    kept = await storage.examples.trainable(GUILD)
    selection = await snapshots(storage, tmp_path, say_nothing).judged(GUILD, kept)
    assert selection is not None
    assert len(selection.rows) == MIN_ROWS // 2
    assert all(one.good is None for one in selection.rows)


@pytest.mark.parametrize("gone", ["voter", "consent", "reply"])
async def test_what_is_gone_in_the_same_moment_is_noticed(
    storage: Storage, tmp_path: Path, gone: str
) -> None:
    await judge(storage)
    snapshot = await taken(storage, tmp_path)
    match gone:
        case "voter":
            await erase_member(storage, ADA)
        case "consent":
            await storage.consents.opt_out(GUILD, BEN)
        case _:
            await storage.messages.delete([2])
    assert not await snapshots(storage, tmp_path).is_still_permitted(snapshot)
    assert frozen(await taken(storage, tmp_path)) == (0, None)


async def test_nobody_is_named_for_votes_that_were_not_kept(
    storage: Storage, tmp_path: Path
) -> None:
    await judge(storage)
    snapshot, folders = await taken(storage, tmp_path), snapshots(storage, tmp_path)
    where = {"scope": GUILD, "requested_by": ADA, "channel_id": 1, "base_model": "small"}
    job = await storage.jobs.add(**where, directory=str(snapshot.folder))  # type: ignore[arg-type]
    await storage.jobs.add_sources(job.id, snapshot.sources)
    await folders.forget_unlearned(job)
    assert await storage.jobs.sources(job.id) == {ADA: None, BEN: 1, CLEO: None}, "they are kept"
    (snapshot.folder / PREFERENCES_FILE).unlink()  # as a run does that kept nothing of them
    for _ in range(2):  # a bot that is killed here does it again
        await folders.forget_unlearned(job)
        assert await storage.jobs.sources(job.id) == {BEN: 1, CLEO: None}
    assert await folders.recover() == []
    assert await storage.jobs.sources(job.id) == {BEN: 1, CLEO: None}
