"""A checkpoint is whole or it is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.checkpoints import (
    MANIFEST,
    Manifest,
    read_manifest,
    seal,
    verify,
    whole_checkpoints,
)
from training.errors import CorruptCheckpoint


def make(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "history.json").write_text("{}")
    manifest = Manifest(
        name=folder.name,
        base="gpt2",
        created_at="2026-01-01T00:00:00+00:00",
        dataset_sha256="0" * 64,
        parameters=7,
        settings={"epochs": 3},
        scores={"last_loss": 1.5},
    )
    seal(folder, manifest)
    return folder


def test_a_sealed_folder_verifies_and_lists_its_files(tmp_path: Path) -> None:
    manifest = verify(make(tmp_path / "tiny-1"))
    assert set(manifest.files) == {"model.safetensors", "history.json"}
    assert manifest.files["model.safetensors"]["bytes"] == 7
    assert manifest.settings == {"epochs": 3}


def change(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "has no manifest"),
        (change(MANIFEST, '{"name": '), "cannot be read"),
        (change(MANIFEST, '{"name": "x"}'), "cannot be read"),
        (change("model.safetensors", "weigh"), "model.safetensors is missing or cut short"),
        (lambda folder: (folder / "history.json").unlink(), "history.json is missing"),
        (change("model.safetensors", "WEIGHTS"), "model.safetensors was changed"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], sentence: str) -> None:
    folder = make(tmp_path / "tiny-1")
    damage(folder)
    with pytest.raises(CorruptCheckpoint, match=sentence):
        verify(folder)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "tiny-1")
    fields = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(fields | {"format": 99}))
    with pytest.raises(CorruptCheckpoint, match="newer version"):
        read_manifest(folder)


def test_only_whole_folders_are_listed(tmp_path: Path) -> None:
    make(tmp_path / "tiny-2")
    make(tmp_path / "tiny-1")
    (make(tmp_path / "tiny-3") / MANIFEST).unlink()
    (tmp_path / "a file").write_text("")
    names = [manifest.name for _, manifest in whole_checkpoints(tmp_path)]
    assert names == ["tiny-1", "tiny-2"]
    assert list(whole_checkpoints(tmp_path / "nowhere")) == []
