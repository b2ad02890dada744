"""What comes back from another machine speaks of this one's folders, and is whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core.cluster.connection import ClusterError
from core.cluster.parcels import describe, read_chunks, unpack
from training.checkpoints import CorruptCheckpoint, Manifest, read_manifest, seal, verify
from training.cluster.arrivals import place_base, place_results, place_step
from training.config import Replaced, TrainingConfig
from training.jobs.folder import latest_saved_step

THERE = "/node/cache/0123/small"


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        name="small-1",
        base="/bot/models/small",
        serving="/bot/checkpoints/1/small-0",
        shared_bases=str(tmp_path / "bases"),
        replaces=Replaced("/bot/checkpoints/1/small-0", "/bot/jobs/0/dataset.jsonl"),
    )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    job = tmp_path / "job"
    job.mkdir()
    for name in ("config.json", "dataset.jsonl", "preferences.jsonl"):
        (job / name).write_text(name)
    return job


def sent(folder: Path) -> Callable[[Path], None]:
    """A folder that arrives as it is now."""
    parcel = describe(folder)
    chunks = list(read_chunks(folder, parcel))
    return lambda target: unpack(parcel, chunks, target)


def made_there(folder: Path, config: TrainingConfig, adapter: bool = False) -> Path:
    """A sealed checkpoint of the other machine."""
    made = folder / "checkpoint"
    made.mkdir(parents=True)
    there = replace(
        config,
        base=THERE,
        serving=THERE,
        shared_bases="/node/runs/1/bases",
        replaces=Replaced(THERE, "/node/runs/1/dataset.jsonl"),
        threads=3,
    )
    (made / "history.json").write_text(json.dumps({"settings": asdict(there), "log": []}))
    if adapter:
        base = "/node/runs/1/bases/small-abc"
        (made / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    manifest = Manifest(
        name=config.name,
        base=THERE,
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="0" * 64,
        parameters=1,
        settings=asdict(there),
        scores={},
        adapter={"base_sha256": "1", "rank": 8} if adapter else None,
    )
    seal(made, manifest)
    return folder


def test_a_checkpoint_speaks_of_this_machine(
    job: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    place_results(job, config, (), sent(made_there(tmp_path / "node", config)))
    manifest = verify(job / "checkpoint")
    assert manifest.base == config.base
    settings = json.loads(json.dumps(asdict(replace(config, threads=3))))
    assert manifest.settings == settings
    history = json.loads((job / "checkpoint" / "history.json").read_text())
    assert history["settings"] == settings
    assert not [one for one in (job / "checkpoint").iterdir() if "/node/" in one.read_text()]


@pytest.mark.parametrize("shared", [True, False])
def test_an_adapter_finds_its_base_on_this_machine(
    job: Path, tmp_path: Path, config: TrainingConfig, shared: bool
) -> None:
    if shared:
        (tmp_path / "bases" / "small-abc").mkdir(parents=True)
    place_results(job, config, (), sent(made_there(tmp_path / "node", config, adapter=True)))
    verify(job / "checkpoint")
    found = json.loads((job / "checkpoint" / "adapter_config.json").read_text())
    expected = str(tmp_path / "bases" / "small-abc") if shared else config.base
    assert found["base_model_name_or_path"] == expected


def test_the_folder_becomes_what_it_is_there(
    job: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    node = tmp_path / "node"
    node.mkdir()
    (node / "receipt.json").write_text("{}")
    place_results(job, config, ("preferences.jsonl",), sent(node))
    assert {one.name for one in job.iterdir()} == {"config.json", "dataset.jsonl", "receipt.json"}


def test_a_checkpoint_that_was_changed_on_its_way_is_not_taken(
    job: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    node = made_there(tmp_path / "node", config)
    (node / "checkpoint" / "history.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match=r"history\.json"):
        place_results(job, config, ("preferences.jsonl",), sent(node))
    assert {one.name for one in job.iterdir()} == {
        *("config.json", "dataset.jsonl", "preferences.jsonl")
    }


def test_a_shared_base_is_kept_once_and_names_its_source(
    tmp_path: Path, config: TrainingConfig
) -> None:
    node = made_there(tmp_path / "node", config)
    place_base("small-abc", config, sent(node / "checkpoint"))
    kept = tmp_path / "bases" / "small-abc"
    assert verify(kept).base == config.base
    before = (kept / "manifest.json").stat().st_mtime_ns
    place_base("small-abc", config, sent(node / "checkpoint"))
    assert (kept / "manifest.json").stat().st_mtime_ns == before
    shutil.rmtree(kept)
    place_base("small-abc", config, sent(node / "checkpoint"))
    assert read_manifest(kept).base == config.base


def test_only_the_newest_saved_step_is_kept(job: Path, tmp_path: Path) -> None:
    for step in (3, 7):
        node = tmp_path / f"checkpoint-{step}"
        node.mkdir()
        (node / "whole.json").write_text(json.dumps({"step": step, "seconds": 1.5}))
        place_step(job, node.name, sent(node))
    saved = latest_saved_step(job)
    assert saved is not None
    assert saved.step == 7
    assert [one.name for one in (job / "steps").iterdir()] == ["checkpoint-7"]


def test_half_a_step_is_none(job: Path, tmp_path: Path) -> None:
    node = tmp_path / "checkpoint-3"
    node.mkdir()
    (node / "whole.json").write_text(json.dumps({"step": 3, "seconds": 1.5}))
    parcel = describe(node)
    with pytest.raises(ClusterError, match="damaged"):
        place_step(job, node.name, lambda to: unpack(parcel, [b"half"], to))
    assert latest_saved_step(job) is None
