"""The shelf: what may go, what must stay, and how the quota is kept. Real files, real store."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.records import Canary, CanaryOutcome, DuelOutcome, JobState
from data.storage.storage import Storage
from model.errors import UnknownModel
from training import checkpoints
from training.checkpoint_retention import CheckpointRetention
from training.checkpoints import MANIFEST_FILE, Manifest, folder_bytes, read_manifest, seal
from training.config import Replaced, TrainingConfig
from training.errors import CheckpointInUse

MB = 1_000_000


def make(root: Path, scope: int, name: str, day: int, megabytes: float = 1.0) -> Path:
    """A sealed folder of that size (sparse), made on that day."""
    folder = root / str(scope) / name
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(int(megabytes * MB))
    manifest = Manifest(
        name=name,
        base="gpt2",
        created_at=f"2026-01-{day:02}T00:00:00+00:00",
        dataset_sha256="0" * 64,
        parameters=7,
        settings={},
        scores={},
    )
    seal(folder, manifest)
    return folder


def make_base(root: Path, name: str, source: str = "gpt2", megabytes: float = 1.0) -> str:
    """A shared base; the SHA-256 of its weights."""
    (root / "bases").mkdir(parents=True, exist_ok=True)
    made = make(root, 0, name, 1, megabytes)
    folder = made.rename(root / "bases" / name)
    made.parent.rmdir()
    manifest = replace(read_manifest(folder), base=source)
    with (folder / "model.safetensors").open("ab") as file:
        file.write(name.encode())  # unlike the weights of others
    seal(folder, manifest)
    return str(read_manifest(folder).files["model.safetensors"]["sha256"])


def make_adapter(root: Path, scope: int, name: str, day: int, base_sha256: str) -> Path:
    folder = make(root, scope, name, day, 0.1)
    manifest = replace(read_manifest(folder), adapter={"base_sha256": base_sha256, "rank": 8})
    seal(folder, manifest)
    return folder


def left(root: Path) -> set[str]:
    """The names of the checkpoints of all scopes, or of one."""
    return {mark.parent.name for mark in root.rglob(MANIFEST_FILE)}


def write_config(directory: Path, fields: dict[str, Any]) -> None:
    directory.mkdir()
    TrainingConfig(**fields).save(directory / "config.json")


async def open_job(storage: Storage, directory: Path, scope: int, **config: Any) -> int:
    """A queued job with these settings."""
    write_config(directory, {"name": "new", "base": None} | config)
    job = await storage.jobs.add(
        scope=scope, requested_by=1, channel_id=1, base_model="x", directory=str(directory)
    )
    return job.id


async def test_what_fits_stays(storage: Storage, tmp_path: Path) -> None:
    newest = make(tmp_path, 1, "a", 1)
    make(tmp_path, 2, "b", 2)
    assert await CheckpointRetention(storage, tmp_path, 3).prune(newest) == []
    assert left(tmp_path) == {"a", "b"}


async def test_all_of_them_are_counted(storage: Storage, tmp_path: Path) -> None:
    shelf = CheckpointRetention(storage, tmp_path, 1)
    assert shelf.usage() == (0, 0)
    folders = [make(tmp_path, 1, "a", 1), make(tmp_path, 2, "b", 2)]
    assert shelf.usage() == (2, sum(map(folder_bytes, folders)))


async def test_the_oldest_of_all_servers_go_first_and_no_more_than_needed(
    storage: Storage, tmp_path: Path
) -> None:
    for scope, name, day in ((1, "old-9", 2), (2, "old-1", 1), (1, "mid", 3), (2, "late", 4)):
        make(tmp_path, scope, name, day)
    newest = make(tmp_path, 1, "newest", 5)
    removed = await CheckpointRetention(storage, tmp_path, 4).prune(
        newest
    )  # and some bytes of manifests
    assert [folder.name for folder in removed] == ["old-1", "old-9"]
    assert left(tmp_path) == {"mid", "late", "newest"}


async def test_what_is_in_use_stays_although_it_does_not_fit(
    storage: Storage, tmp_path: Path
) -> None:
    made = {name: make(tmp_path, 1, name, day) for day, name in enumerate("abcdefg", 1)}
    other = make(tmp_path, 2, "a", 1)  # of the same name as one that nobody uses elsewhere
    for name in ("a", "b", "c"):
        await storage.model_choices.set_active(1, name)
    needed = {"base": str(made["d"]), "serving": str(made["e"])}
    replaces = Replaced(str(made["f"]), "")
    await open_job(storage, tmp_path / "job", 3, **needed, replaces=replaces)
    removed = await CheckpointRetention(storage, tmp_path, 1).prune(made["g"])
    assert set(removed) == {made["a"], other}
    assert left(tmp_path) == {"b", "c", "d", "e", "f", "g"}


async def test_what_is_on_trial_or_in_a_duel_stays_until_that_is_over(
    storage: Storage, tmp_path: Path
) -> None:
    made = {name: make(tmp_path, 1, name, day) for day, name in enumerate("abcd", 1)}
    canary = await storage.canaries.start(
        Canary(
            id=0,
            scope=1,
            model="a",
            old_model="tiny",
            share=50,
            base_bad=0,
            base_replies=0,
            report_channel_id=1,
            started_at=datetime.now(UTC),
        )
    )
    duel = await storage.duels.start(1, ("b", "c"), 20, frozenset(), 1)
    assert duel is not None
    shelf = CheckpointRetention(storage, tmp_path, 1)
    assert await shelf.prune(made["d"]) == []
    await storage.canaries.end(canary.id, CanaryOutcome.WORSE)
    await storage.duels.end(duel.id, DuelOutcome.A)
    assert set(await shelf.prune(made["d"])) == {made[name] for name in "abc"}


async def test_what_a_rollback_leads_to_stays_if_others_before_are_gone(
    storage: Storage, tmp_path: Path
) -> None:
    made = {name: make(tmp_path, 1, name, day) for day, name in enumerate("abcd", 1)}
    for name in ("a", "b", "c"):
        await storage.model_choices.set_active(1, name)
    shelf = CheckpointRetention(storage, tmp_path, 1)
    await shelf.delete(1, "b")
    assert await shelf.prune(made["d"]) == []
    assert left(tmp_path) == {"a", "c", "d"}


async def test_folders_that_are_no_servers_are_left_alone(storage: Storage, tmp_path: Path) -> None:
    newest = make(tmp_path, 1, "a", 1)
    mine = tmp_path / "mine" / "b"
    make(tmp_path, 2, "b", 2).parent.rename(mine.parent)
    assert await CheckpointRetention(storage, tmp_path, 1).prune(newest) == []
    assert left(tmp_path) == {"a", "b"}


async def test_a_base_stays_while_an_adapter_of_any_server_needs_it(
    storage: Storage, tmp_path: Path
) -> None:
    shelf = CheckpointRetention(storage, tmp_path, 100)
    shared = make_base(tmp_path, "gpt2-abc")
    for scope, name in ((1, "a"), (2, "b")):
        make_adapter(tmp_path, scope, name, 1, shared)
    newest = make(tmp_path, 1, "newest", 2)
    assert await shelf.prune(newest) == []
    await shelf.delete(1, "a")
    assert left(tmp_path) == {"b", "newest", "gpt2-abc"}
    await shelf.delete(2, "b")
    assert left(tmp_path) == {"newest"}


async def test_bases_count_and_go_with_their_last_adapter(storage: Storage, tmp_path: Path) -> None:
    """Of two bases, the one that is freed makes enough room."""
    old, other = make_base(tmp_path, "gpt2-old"), make_base(tmp_path, "gpt2-other")
    make_adapter(tmp_path, 1, "a", 1, old)
    make_adapter(tmp_path, 2, "b", 2, other)
    newest = make(tmp_path, 1, "newest", 3, 0.5)
    shelf = CheckpointRetention(storage, tmp_path, 2)
    count, size = shelf.usage()
    assert count == 3
    assert size > 2.7 * MB
    assert [folder.name for folder in await shelf.prune(newest)] == ["a"]
    assert left(tmp_path) == {"b", "gpt2-other", "newest"}


async def test_many_adapters_are_each_read_once(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many go, and although their bases may go with them."""
    bases = [make_base(tmp_path, f"gpt2-{n}") for n in range(2)]
    for scope in range(1, 101):
        make_adapter(tmp_path, scope, f"a-{scope}", 1 + scope // 4, bases[scope > 60])
    newest = make_adapter(tmp_path, 101, "newest", 28, bases[1])
    reads = Counter[Path]()

    def count(folder: Path) -> Manifest:
        reads[folder] += 1
        return read_manifest(folder)

    monkeypatch.setattr(checkpoints, "read_manifest", count)
    removed = await CheckpointRetention(storage, tmp_path, 3).prune(newest)
    assert len(removed) > 80
    assert {one.name for one in (tmp_path / "bases").iterdir()} == {"gpt2-1"}
    assert {n for folder, n in reads.items() if folder.parent.name != "bases"} == {1}


async def test_a_base_that_an_open_job_starts_from_stays(storage: Storage, tmp_path: Path) -> None:
    shelf = CheckpointRetention(storage, tmp_path / "all", 100)
    newest = make(tmp_path / "all", 1, "newest", 2)
    make_base(tmp_path / "all", "gpt2-abc")
    make_base(tmp_path / "all", "own-abc", source="/models/own")
    job = await open_job(storage, tmp_path / "job", 1, base="gpt2")
    await shelf.prune(newest)
    assert left(tmp_path) == {"newest", "gpt2-abc"}
    await storage.jobs.set_state(job, JobState.CANCELLED)
    await shelf.prune(newest)
    assert left(tmp_path) == {"newest"}


async def test_leftovers_of_an_interrupted_removal_go(storage: Storage, tmp_path: Path) -> None:
    newest = make(tmp_path, 1, "a", 1)
    leftover = make(tmp_path, 1, ".b.removed", 2)
    (leftover / MANIFEST_FILE).unlink()
    assert await CheckpointRetention(storage, tmp_path, 100).prune(newest) == []
    assert not leftover.exists()
    assert left(tmp_path) == {"a"}


async def test_delete_removes_what_is_not_in_use(storage: Storage, tmp_path: Path) -> None:
    make(tmp_path, 1, "a", 1)
    make(tmp_path, 2, "a", 1)
    await storage.model_choices.set_active(2, "a")
    await CheckpointRetention(storage, tmp_path, 100).delete(1, "a")
    assert (left(tmp_path / "1"), left(tmp_path / "2")) == (set(), {"a"})


async def test_what_answers_is_not_deleted(storage: Storage, tmp_path: Path) -> None:
    make(tmp_path, 1, "a", 1)
    await storage.model_choices.set_active(1, "a")
    with pytest.raises(CheckpointInUse, match=r"\*\*a\*\* answers here now: choose another"):
        await CheckpointRetention(storage, tmp_path, 100).delete(1, "a")
    assert left(tmp_path) == {"a"}


@pytest.mark.parametrize("role", ["base", "serving"])
async def test_what_an_open_job_needs_is_not_deleted(
    storage: Storage, tmp_path: Path, role: str
) -> None:
    shelf = CheckpointRetention(storage, tmp_path / "all", 100)
    folder = make(tmp_path / "all", 1, "a", 1)
    job = await open_job(storage, tmp_path / "job", 1, **{role: str(folder)})
    with pytest.raises(CheckpointInUse, match=r"A training job needs \*\*a\*\*"):
        await shelf.delete(1, "a")
    await storage.jobs.set_state(job, JobState.CANCELLED)
    await shelf.delete(1, "a")
    assert left(tmp_path / "all") == set()


async def test_a_job_whose_settings_cannot_be_read_needs_nothing(
    storage: Storage, tmp_path: Path
) -> None:
    shelf = CheckpointRetention(storage, tmp_path / "all", 100)
    make(tmp_path / "all", 1, "a", 1)
    await open_job(storage, tmp_path / "job", 1)
    (tmp_path / "job" / "config.json").write_text("{")
    await shelf.delete(1, "a")
    assert left(tmp_path / "all") == set()


@pytest.mark.parametrize("name", ["b", "../2/a", "..", "", "."])
async def test_only_the_scopes_own_checkpoints_are_found(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    make(tmp_path, 1, "c", 1)
    make(tmp_path, 2, "a", 1)
    with pytest.raises(UnknownModel, match="This server has no checkpoint called"):
        await CheckpointRetention(storage, tmp_path, 100).delete(1, name)
    assert left(tmp_path) == {"a", "c"}
