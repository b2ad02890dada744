"""Models arrive on a node by their content and run there; no path of the bot's machine is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.cluster.parcels import ParcelCache, read_chunks
from model.bases import Bases
from model.cluster.versions import NodeModels, Version, Versions
from model.convert.build import build
from model.errors import LoadFailed
from model.loading import load
from model.registry import EMBEDDED_FOLDER
from tests.builds import BUILT
from tests.model.conftest import CPU_INT8
from tests.model_folders import make_adapter_folder, make_model_folder


@pytest.fixture
def cache(tmp_path: Path) -> ParcelCache:
    return ParcelCache(tmp_path / "node")


def send(version: Version, cache: ParcelCache) -> None:
    for folder, parcel in version.parcels.values():
        cache.add(parcel, read_chunks(folder, parcel))


async def test_an_embedded_model_is_on_every_machine(cache: ParcelCache) -> None:
    version = Versions().describe(str(EMBEDDED_FOLDER))
    assert not version.parcels
    assert NodeModels(cache).missing(version.ref) == ()
    assert NodeModels(cache).folder(version.ref) == EMBEDDED_FOLDER


async def test_a_folder_arrives_with_the_files_that_are_read_only(
    tmp_path: Path, cache: ParcelCache
) -> None:
    folder = make_model_folder(tmp_path / "here" / "red", says="red roses are in bloom")
    (folder / "secret.txt").write_text("not a file of a model")
    (folder / "other.safetensors").write_bytes(b"an older copy")
    version = Versions().describe(str(folder))
    node = NodeModels(cache)
    assert node.missing(version.ref) == (version.ref.digest,)
    send(version, cache)
    assert node.missing(version.ref) == ()
    there = node.folder(version.ref)
    assert there.name == "red"
    assert not (there / "secret.txt").exists()
    assert not (there / "other.safetensors").exists()
    assert (there / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


async def test_new_files_are_another_version_and_the_old_one_stays(
    tmp_path: Path, cache: ParcelCache
) -> None:
    folder = make_model_folder(tmp_path / "red", says="roses are red")
    versions = Versions()
    old = versions.describe(str(folder))
    assert versions.describe(str(folder)).ref == old.ref
    send(old, cache)
    make_model_folder(folder, says="violets are blue")
    new = versions.describe(str(folder))
    send(new, cache)
    assert new.ref != old.ref
    assert NodeModels(cache).folder(new.ref) != NodeModels(cache).folder(old.ref)


async def test_an_adapter_finds_its_base_on_the_node_and_adapters_share_it(
    tmp_path: Path, cache: ParcelCache
) -> None:
    here = tmp_path / "here"
    base = make_model_folder(here / "bases" / "roses", says="red roses are in bloom today")
    adapters = [
        make_adapter_folder(here / name, base, says=says)
        for name, says in (("mine-1", "today roses are red"), ("yours-1", "bloom today in red"))
    ]
    described = [Versions().describe(str(one)) for one in adapters]
    for one in described:
        send(one, cache)
    shutil.rmtree(here)  # another machine has none of this
    bases, node = Bases(), NodeModels(cache)
    folders = [node.folder(one.ref) for one in described]
    for folder in folders:
        settings = json.loads((folder / "adapter_config.json").read_text())
        build(settings["base_model_name_or_path"], BUILT, "int8")
    first, second = (load(str(one), CPU_INT8, BUILT, bases=bases) for one in folders)
    assert first.adapter is not None
    assert first.batch_key == second.batch_key
    assert [one.name for one in folders] == ["mine-1", "yours-1"]


async def test_an_adapter_of_an_embedded_model_uses_the_one_of_the_package(
    tmp_path: Path, cache: ParcelCache
) -> None:
    adapter = make_adapter_folder(tmp_path / "here" / "tiny-1", EMBEDDED_FOLDER)
    version = Versions().describe(str(adapter))
    assert list(version.parcels) == [version.ref.digest]
    send(version, cache)
    folder = NodeModels(cache).folder(version.ref)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(EMBEDDED_FOLDER)


async def test_an_adapter_of_an_older_embedded_model_brings_that_along(
    tmp_path: Path, cache: ParcelCache
) -> None:
    """An update of the bot brought other weights; its training had left a copy of the old ones."""
    old = make_model_folder(tmp_path / "old" / "tiny", says="red roses are in bloom")
    adapter = make_adapter_folder(tmp_path / "checkpoints" / "7" / "tiny-1", old, says="red roses")
    manifest = json.loads((adapter / "manifest.json").read_text())
    digest = manifest["adapter"]["base_sha256"][:12]
    kept = tmp_path / "checkpoints" / "bases" / f"tiny-{digest}"
    shutil.copytree(old, kept)
    shutil.rmtree(old)
    version = Versions().describe(str(adapter))
    send(version, cache)
    shutil.rmtree(tmp_path / "checkpoints")
    folder = NodeModels(cache).folder(version.ref)
    base = Path(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    assert base.is_relative_to(tmp_path / "node")
    build(str(base), BUILT, "int8")
    assert load(str(folder), CPU_INT8, BUILT).adapter is not None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shutil.rmtree, r"^There is no model folder red\.$"),
        (lambda one: (one / "config.json").unlink(), r"^red is no model folder: "),
        (lambda one: (one / "model.safetensors").write_bytes(b"x"), r"^red is damaged: "),
    ],
)
async def test_a_bad_folder_is_refused_before_it_is_sent(tmp_path: Path, spoil, sentence) -> None:
    folder = make_model_folder(tmp_path / "red", says="red roses")
    spoil(folder)
    with pytest.raises(LoadFailed, match=sentence):
        Versions().describe(str(folder))
